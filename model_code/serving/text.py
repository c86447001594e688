"""Text to tokens and back: the model's chat template and its tokenizer.

Reads the artefact's files directly, so that an engine without transformers starts without it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from contracts.chat import Message
from model_code.serving.errors import invalid


class ChatTokenizer:
    """The tokenizer and chat template of one model folder."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        self._template = _compile(_template_source(folder, self._config))
        self._longest_token = max(len(token) for token in self._tokenizer.get_vocab())

    def fewest_tokens(self, text: str) -> int:
        """A lower bound of a text's token count that costs nothing: refuses absurd prompts unread."""
        return len(text) // self._longest_token

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt text of a conversation, ready for the assistant's turn.

        Raises ServingError when the model's template refuses the conversation.
        """
        turns = [{"role": _role(message), "content": message.text} for message in messages]
        tokens = {name: _token_text(self._config.get(name)) for name in ("bos_token", "eos_token")}
        try:
            return self._template.render(messages=turns, add_generation_prompt=True, **tokens)
        except jinja2.TemplateError as error:
            raise invalid(
                f"the model's chat template refuses these messages: {error}", param="messages"
            ) from None

    def encode(self, text: str) -> list[int]:
        """Token ids of a rendered prompt; the template has placed the special tokens already."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, special tokens left out."""
        return self._tokenizer.decode(list(tokens), skip_special_tokens=True)


def _role(message: Message) -> str:
    return "system" if message.role == "developer" else message.role  # OpenAI's newer name for the same


def _token_text(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token or "")


def _template_source(folder: Path, config: dict[str, Any]) -> str:
    separate = folder / "chat_template.jinja"
    if separate.is_file():
        return separate.read_text(encoding="utf-8")
    template = config.get("chat_template")
    if not isinstance(template, str):
        raise ValueError("the model artefact has no chat template")
    return template


def _compile(source: str) -> jinja2.Template:
    """As Hugging Face compiles chat templates: sandboxed, with the helpers that templates may call."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(
        value, ensure_ascii=False, indent=indent
    )
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda pattern: datetime.now().astimezone().strftime(pattern)
    return environment.from_string(source)


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
