"""From texts and pairs of texts to token ids, cut where a request says so and refused where it does not.

What is cut is cut at its end. Of a pair the longer text gives first, as Hugging Face's tokenizers do it under
the name `longest_first`, and so vLLM.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Encoding, Tokenizer

from model_code.serving.engines.encoder import Tokens
from model_code.serving.errors import invalid

Place = Callable[[int], str]
"""The parameter that holds a text, by its number."""


@dataclass(frozen=True)
class Cuts:
    """Most tokens of what the model reads at once, special ones included (-1: what the model takes), and of a
    document before it is put beside its query. None: nothing is cut."""

    whole: int | None = None
    document: int | None = None


class Tokenisation:
    """One model's tokenizer. `longest`: most tokens that it reads at once, special ones included."""

    def __init__(self, folder: Path, longest: int) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        # Some files cut and pad by themselves: a text that is too long is refused here, not cut unseen.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._longest = longest

    def texts(self, texts: Sequence[str], place: Place, cuts: Cuts) -> list[Tokens]:
        """Each text by itself. Raises ServingError."""
        room = self._room(cuts.whole, is_pair=False)
        rows = []
        for index, text in enumerate(self._plain(texts)):
            row = self._whole(_cut(_cut(text, cuts.document), room))
            if not row.ids:
                raise invalid("This text holds no tokens.", param=place(index), code="invalid_value")
            if len(row) > self._longest:
                raise invalid(
                    f"A text may hold {self._longest} tokens; text {index} holds {len(row)}. Shorten it.",
                    param=place(index),
                    code="context_length_exceeded",
                )
            rows.append(row)
        return rows

    def pairs(self, pairs: Sequence[tuple[str, str]], place: Place, cuts: Cuts) -> list[Tokens]:
        """Each pair as one text; `place` names its second one. Raises ServingError."""
        room = self._room(cuts.whole, is_pair=True)
        firsts = self._plain([first for first, _ in pairs])
        seconds = self._plain([second for _, second in pairs])
        rows = []
        for index, (first, second) in enumerate(zip(firsts, seconds, strict=True)):
            _cut(second, cuts.document)
            if room is not None:
                length = shares(len(first.ids), len(second.ids), room)
                _cut(first, length[0])
                _cut(second, length[1])
            row = self._whole(first, second)
            if len(row) > self._longest:
                raise invalid(
                    f"Two texts may hold {self._longest} tokens together; these hold {len(row)}. Shorten "
                    "them, or have their ends cut off by 'truncate_prompt_tokens': -1.",
                    param=place(index),
                    code="context_length_exceeded",
                )
            rows.append(row)
        return rows

    def _plain(self, texts: Sequence[str]) -> list[Encoding]:
        """Without special tokens."""
        return list(self._tokenizer.encode_batch(list(texts), add_special_tokens=False))

    def _whole(self, text: Encoding, second: Encoding | None = None) -> Tokens:
        """With them."""
        done = self._tokenizer.post_process(text, second)
        return Tokens(done.ids, done.type_ids)

    def _room(self, whole: int | None, *, is_pair: bool) -> int | None:
        """How many tokens the texts may have beside the special ones; None where nothing is cut."""
        if whole is None:
            return None
        special = self._tokenizer.num_special_tokens_to_add(is_pair)
        bound = self._longest if whole == -1 else whole
        if not special < bound <= self._longest:
            raise invalid(
                f"'truncate_prompt_tokens' must be -1, or more than {special} and at most {self._longest}.",
                param="truncate_prompt_tokens",
                code="invalid_value",
            )
        return bound - special


def shares(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens are left of two texts that share a room: the longer gives first, then both alike."""
    if first + second <= room:
        return first, second
    short, half = min(first, second), room // 2
    kept = (short, room - short) if short <= half else (half, room - half)
    return kept if first <= second else (kept[1], kept[0])


def _cut(text: Encoding, length: int | None) -> Encoding:
    if length is not None and len(text.ids) > length:
        text.truncate(length)
    return text
