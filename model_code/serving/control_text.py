"""Callers' text stays text: what is written like a control token is kept from becoming one.

A tokenizer reads `<|im_start|>` in a rendered prompt as the beginning of a turn, whoever wrote it, so that
callers could write turns of others. Shared by the server and the hook; knows neither requests nor engines.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

PART = "\ufdd0"
"""A noncharacter of Unicode: stands in no text that is interchanged."""
INVISIBLE = "\u200b"
"""A space of no width, for servers that take text and tokenise it themselves."""


class ControlText:
    """How one tokenizer's control tokens are written."""

    def __init__(self, names: Iterable[str]) -> None:
        # The longest first: one name may begin another.
        known = sorted((re.escape(name) for name in names if len(name) > 1), key=len, reverse=True)
        self._pattern = re.compile("|".join(known)) if known else None

    @classmethod
    def of(cls, tokenizer: Mapping[str, Any]) -> ControlText:
        """Of a parsed `tokenizer.json`."""
        return cls(token["content"] for token in tokenizer.get("added_tokens", []) if token.get("special"))

    @classmethod
    def read(cls, folder: Path) -> ControlText:
        """Of a model's folder; of no tokens where its tokenizer is of another format."""
        path = folder / "tokenizer.json"
        return cls.of(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else cls(())

    def may_be_in(self, body: bytes) -> bool:
        """Whether JSON may hold such text: it is there, or characters are written by their numbers."""
        if self._pattern is None:
            return False
        return b"\\u" in body or self._pattern.search(body.decode("utf-8", "replace")) is not None

    def parted(self, value: Any, by: str) -> Any:
        """The value with every string in it, keys included, parted inside what is written like a control
        token; the very same value where there is none."""
        if self._pattern is None:
            return value
        if isinstance(value, str):
            return self._text(value, by)
        if isinstance(value, list):
            changed = [self.parted(item, by) for item in value]
            return changed if any(a is not b for a, b in zip(changed, value, strict=True)) else value
        if isinstance(value, dict):
            pairs = [(self.parted(key, by), self.parted(item, by)) for key, item in value.items()]
            same = all(
                a is key and b is item for (a, b), (key, item) in zip(pairs, value.items(), strict=True)
            )
            return value if same else dict(pairs)
        return value

    def _text(self, text: str, by: str) -> str:
        assert self._pattern is not None
        if by in text and by == PART:
            text = text.replace(PART, "\ufffd")
        if self._pattern.search(text) is None:
            return text
        return self._pattern.sub(lambda match: f"{match[0][0]}{by}{match[0][1:]}", text)
