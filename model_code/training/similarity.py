"""Near-duplicates among short texts: Jaccard similarity of word shingles, found exactly.

Pure: strings in, index pairs out. The join is exact rather than MinHash because the sets are small
and a missed pair would leak held-out items into training.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

SHINGLE_WORDS = 3
_WORD = re.compile(r"\w+")
_DIGIT = re.compile(r"\d")

Shingles = frozenset[tuple[str, ...]]


def words(text: str) -> list[str]:
    """Case-folded words without punctuation, every digit as 0: an order number makes no new text."""
    return _WORD.findall(_DIGIT.sub("0", text.casefold()))


def shingles(text: str) -> Shingles:
    """The set of runs of three words; a shorter text is one run."""
    tokens = words(text)
    last_start = max(len(tokens) - SHINGLE_WORDS, 0)
    return frozenset(tuple(tokens[start : start + SHINGLE_WORDS]) for start in range(last_start + 1))


def jaccard(left: Shingles, right: Shingles) -> float:
    """Size of the intersection over size of the union, in 0..1."""
    shared = len(left & right)
    return shared / (len(left) + len(right) - shared)


def near_pairs(sets: Sequence[Shingles], threshold: float) -> Iterator[tuple[int, int]]:
    """All index pairs (i, j), i > j, whose Jaccard similarity is at least the threshold (0 < t ≤ 1).

    Prefix filtering (Chaudhuri, Ganti, Kaushik 2006; Bayardo, Ma, Srikant 2007): with the shingles of
    every set in one global order, rarest first, two sets that similar must share one of the first
    |s| - ceil(t |s|) + 1, so only texts that share a rare shingle are compared.
    """
    frequency = Counter(shingle for item in sets for shingle in item)
    index: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, item in enumerate(sets):
        rarest_first = sorted(item, key=lambda shingle: (frequency[shingle], shingle))
        overlap = math.ceil(threshold * len(item) - 1e-9)  # 0.55 * 20 is a hair above 11
        prefix = rarest_first[: len(item) - overlap + 1]
        candidates = {j for shingle in prefix for j in index[shingle]}
        for j in sorted(candidates):
            if jaccard(item, sets[j]) >= threshold:
                yield i, j
        for shingle in prefix:
            index[shingle].append(i)
