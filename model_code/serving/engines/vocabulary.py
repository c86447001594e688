"""The bytes behind every token of a tokenizer, read from its `tokenizer.json`. Pure; knows no engine.

Two ways of writing bytes as text are known: byte-level BPE (GPT-2's table, as in Llama 3, Qwen and SmolLM)
and SentencePiece's (`▁` for a space, `<0x0A>` for a byte, as in Llama 2 and Mistral).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "\u2581"


@dataclass(frozen=True)
class Vocabulary:
    """`tokens[i]` is what token i adds to a text; `special` are the control tokens, which add nothing."""

    tokens: list[bytes]
    special: frozenset[int]


def read_vocabulary(tokenizer: dict[str, Any]) -> Vocabulary | None:
    """The vocabulary of a parsed `tokenizer.json`; None where its way of writing bytes is not known."""
    in_bytes: Callable[[str], bytes]
    kinds = _kinds(tokenizer.get("decoder")) | _kinds(tokenizer.get("pre_tokenizer"))
    if "ByteLevel" in kinds:
        in_bytes = partial(_byte_level, table=_byte_table())
    elif kinds & {"ByteFallback", "Metaspace"}:
        in_bytes = _sentence_piece
    else:
        return None
    words = tokenizer["model"].get("vocab", {})
    numbered = words.items() if isinstance(words, dict) else ((word[0], i) for i, word in enumerate(words))
    found = {number: in_bytes(word) for word, number in numbered}
    added = tokenizer.get("added_tokens", [])
    found |= {token["id"]: token["content"].encode() for token in added}
    tokens = [found.get(number, b"") for number in range(max(found) + 1)]
    return Vocabulary(tokens, frozenset(token["id"] for token in added if token.get("special")))


def _kinds(part: dict[str, Any] | None) -> set[str]:
    """The types of a decoder or pre-tokenizer and of those it is made of."""
    if not part:
        return set()
    inner = part.get("decoders", []) + part.get("pretokenizers", [])
    return {part["type"]}.union(*(_kinds(piece) for piece in inner))


def _byte_table() -> dict[str, int]:
    """GPT-2's: printable bytes stand for themselves, the others for the code points from 256 on."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    others = [byte for byte in range(256) if byte not in set(plain)]
    return {chr(byte): byte for byte in plain} | {chr(256 + i): byte for i, byte in enumerate(others)}


def _byte_level(text: str, table: dict[str, int]) -> bytes:
    try:
        return bytes(table[character] for character in text)
    except KeyError:  # an added word, written as it is
        return text.encode()


def _sentence_piece(text: str) -> bytes:
    if byte := _BYTE_TOKEN.fullmatch(text):
        return bytes([int(byte[1], 16)])
    return text.replace(_SPACE, " ").encode()
