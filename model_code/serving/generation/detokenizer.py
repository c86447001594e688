"""Text that arrives in tokens: decoding that never cuts a character, stop strings that never slip through.

Pure: knows nothing of tokenizers beyond a function that decodes.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from typing import Protocol

_REPLACEMENT = "\ufffd"
_LONGEST_CHARACTER = 4  # bytes of one UTF-8 character, so the most tokens it can be spread over


class Decoder(Protocol):
    """Turns tokens into text as they come, and never lets half a character out."""

    def push(self, tokens: Sequence[int]) -> str:
        """Text that the new tokens complete; empty while a character is still unfinished."""


class ByteDecoder:
    """A `Decoder` for tokenizers whose tokens are plain bytes: each token is looked at once."""

    def __init__(self, tokens: Sequence[bytes], hidden: frozenset[int]) -> None:
        self._tokens = tokens
        self._hidden = hidden
        self._characters = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, tokens: Sequence[int]) -> str:
        """See `Decoder`."""
        known, hidden = self._tokens, self._hidden
        raw = b"".join(known[token] for token in tokens if token not in hidden and token < len(known))
        return self._characters.decode(raw)


class StreamDecoder:
    """A `Decoder` for any tokenizer: it looks back a few tokens, on which a token's text may depend."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._tokens: list[int] = []
        self._context = 0  # from here on tokens are decoded again, for the sake of what follows
        self._done = 0  # text of the tokens before this index has been given out

    def push(self, tokens: Sequence[int]) -> str:
        """Text that the new tokens complete; empty while a character is still unfinished."""
        text = ""
        for token in tokens:
            self._tokens.append(token)
            text += self._take()
        return text

    def _take(self) -> str:
        before = self._decode(self._tokens[self._context : self._done])
        now = self._decode(self._tokens[self._context :])
        if len(now) <= len(before):
            return ""
        held = len(self._tokens) - self._done
        if now.endswith(_REPLACEMENT) and held < _LONGEST_CHARACTER:
            return ""
        self._context, self._done = self._done, len(self._tokens)
        return now[len(before) :]


class StopMatcher:
    """Finds stop strings in text that arrives in deltas, and holds back what may become one.

    `reached` is the one that was found.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = list(stops)
        self._held = ""
        self.reached: str | None = None

    def push(self, text: str) -> tuple[str, bool]:
        """Text that is safe to give out, and whether a stop string was reached (it is left out)."""
        text = self._held + text
        hits = [(position, stop) for stop in self._stops if (position := text.find(stop)) >= 0]
        if hits:
            self._held = ""
            end, self.reached = min(hits)
            return text[:end], True
        keep = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], False

    def flush(self) -> str:
        """What was held back, once no more text comes."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
