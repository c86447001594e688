"""Reads a model folder as the container will: tokenizer, chat template, architecture.

`python -m model_code.artefact_check FOLDER` in the serving environment prints one line of JSON:
`{"prompt": …, "tokens": …, "problem": …, "transformers_knows": …}`. Nothing of the folder is executed: the
template is rendered in jinja's sandbox, and code that a model brings along is left alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from contracts.messages import Message

_CONVERSATION = [Message(role="user", content="Hello! What is an evergreen tree?")]


def rendered(folder: Path) -> dict[str, Any]:
    """The prompt of a short conversation with its length in tokens, or the `problem`."""
    from model_code.serving.errors import ServingError
    from model_code.serving.generation.chat_tokenizer import ChatTokenizer

    missing = [name for name in ("tokenizer.json", "tokenizer_config.json") if not (folder / name).is_file()]
    if missing:
        return {"problem": f"{missing[0]} is missing"}
    try:
        tokenizer = ChatTokenizer(folder)
        prompt = tokenizer.render(_CONVERSATION)
        tokens = len(tokenizer.encode_prompt(prompt))
    except ServingError as error:
        return {"problem": str(error)}
    except Exception as error:  # noqa: BLE001 - a foreign file fails as it likes, and the operator reads why
        return {"problem": f"{type(error).__name__}: {error}"}
    if str(_CONVERSATION[0].content) not in prompt:
        return {"problem": "the chat template leaves the user's message out"}
    return {"prompt": prompt, "tokens": tokens, "problem": None}


def tokenised(folder: Path) -> dict[str, Any]:
    """How many tokens a short text of an encoder is, or the `problem`."""
    from tokenizers import Tokenizer

    if not (folder / "tokenizer.json").is_file():
        return {"problem": "tokenizer.json is missing"}
    text = str(_CONVERSATION[0].content)
    try:
        tokens = len(Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids)
    except Exception as error:  # noqa: BLE001 - as above
        return {"problem": f"{type(error).__name__}: {error}"}
    return {"prompt": text, "tokens": tokens, "problem": None}


def transformers_knows(architectures: list[str]) -> bool:
    """Whether the pinned transformers has a class of one of these names."""
    import transformers

    known = set(dir(transformers))  # asked for by name, a class would be loaded with all of torch
    return any(name in known for name in architectures)


def main(arguments: list[str] | None = None) -> int:
    """Print the line; the exit status is 0 whether or not the model can be used."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--encoder", action="store_true", help="the model has no chat template to render")
    options = parser.parse_args(arguments)
    folder: Path = options.folder
    architectures = json.loads((folder / "config.json").read_text()).get("architectures") or []
    read = tokenised if options.encoder else rendered
    found = read(folder) | {"transformers_knows": transformers_knows(architectures)}
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
