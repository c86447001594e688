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

from contracts.messages import Message
from contracts.tools import Tool
from model_code.serving.control_text import PART, ControlText
from model_code.serving.engines.vocabulary import read_vocabulary
from model_code.serving.errors import invalid
from model_code.serving.generation import tool_calls as tool_calls
from model_code.serving.generation.detokenizer import ByteDecoder, Decoder, StreamDecoder

_NAMED_TOKENS = ("bos_token", "eos_token")
_TEMPLATE_FAULTS = (jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError)


class ChatTokenizer:
    """The tokenizer and chat template of one model folder."""

    def __init__(self, folder: Path) -> None:
        source = (folder / "tokenizer.json").read_text(encoding="utf-8")
        self._tokenizer = Tokenizer.from_str(source)
        parsed = json.loads(source)
        self._config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        self._source = _template_source(folder, self._config)
        self._template = _compile(self._source)
        self._longest_token = max(len(token) for token in self._tokenizer.get_vocab())
        self._control = frozenset(
            token["id"] for token in parsed.get("added_tokens", []) if token.get("special")
        )
        self._control_text = ControlText.of(parsed)
        vocabulary = read_vocabulary(parsed)
        byte_level = vocabulary is not None and (parsed.get("decoder") or {}).get("type") == "ByteLevel"
        self._bytes = vocabulary.tokens if vocabulary is not None else None
        self._plain_bytes = self._bytes if byte_level else None

    @property
    def tool_call_syntax(self) -> tool_calls.ToolCallSyntax:
        """How this model writes tool calls."""
        return tool_calls.tool_call_syntax(self._source)

    def fewest_tokens(self, text: str) -> int:
        """A lower bound of a text's token count that costs nothing: refuses absurd prompts unread."""
        return len(text) // self._longest_token

    def render(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> str:
        """The prompt of a conversation for `encode_prompt`, ready for the assistant's turn.

        Raises ServingError when the model's template refuses the conversation.
        """
        own_way = tool_calls.knows_tools(self._source)
        template_messages = tool_calls.template_messages(messages, with_calls=own_way)
        extra: dict[str, Any] = {name: _token_text(self._config.get(name)) for name in _NAMED_TOKENS}
        if tools and own_way:
            definitions = [tool_calls.definition(tool) for tool in tools]
            extra["tools"] = self._control_text.parted(definitions, PART)
        elif tools:
            template_messages = tool_calls.described(template_messages, tools)
        template_messages = self._control_text.parted(template_messages, PART)
        try:
            return self._template.render(messages=template_messages, add_generation_prompt=True, **extra)
        except _TEMPLATE_FAULTS as error:
            raise invalid(
                f"the model's chat template refuses these messages: {error}", param="messages"
            ) from None

    def encode(self, text: str, *, with_special: bool = False) -> list[int]:
        """Token ids of a text as it is; `with_special` adds what the tokenizer puts around one."""
        return self._tokenizer.encode(text, add_special_tokens=with_special).ids

    def encode_prompt(self, rendered: str) -> list[int]:
        """Token ids of a rendered prompt: control tokens where the template wrote them, and nowhere else."""
        if PART not in rendered:
            return self.encode(rendered)
        return [token for part in rendered.split(PART) for token in self.encode(part)]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, control tokens by their names."""
        return self._tokenizer.decode(list(tokens), skip_special_tokens=False)

    @property
    def size(self) -> int:
        """How many tokens there are, control tokens included."""
        return self._tokenizer.get_vocab_size()

    def stream_decoder(self, visible: frozenset[int] = frozenset()) -> Decoder:
        """A decoder for one answer; control tokens are left out, but for the visible ones."""
        hidden = self._control - visible
        if self._plain_bytes is not None:
            return ByteDecoder(self._plain_bytes, hidden)
        return StreamDecoder(
            lambda tokens: self._tokenizer.decode(
                [token for token in tokens if token not in hidden], skip_special_tokens=False
            )
        )

    def control_tokens(self, text: str) -> frozenset[int]:
        """The control tokens that are written like this."""
        number = self._tokenizer.token_to_id(text)
        return frozenset() if number is None else self._control & {number}

    def is_control(self, token: int) -> bool:
        """Whether a token adds nothing to the text."""
        return token in self._control

    def token_bytes(self, token: int) -> bytes:
        """What a token adds to a text, in UTF-8."""
        if self._bytes is not None and token < len(self._bytes):
            return self._bytes[token]
        return self._tokenizer.decode([token], skip_special_tokens=False).encode()


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
