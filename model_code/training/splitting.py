"""Removes repeats and splits support pairs so that held-out items share nothing with training.

Pure: lists of pairs in, lists of pairs and counts out. Knows nothing of files or models.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from contracts.training import SupportPair
from model_code.training.similarity import near_pairs, shingles, words


class SplitError(Exception):
    """The split cannot be made or does not hold; the message says what is shared or missing."""


@dataclass(frozen=True)
class Split:
    """The two sides, in input order, and how many pairs were dropped because they touched both."""

    train: list[SupportPair]
    heldout: list[SupportPair]
    dropped: Counter[str]


def _prompt(pair: SupportPair) -> str:
    return pair.prompt


def _whole(pair: SupportPair) -> str:
    return f"{pair.prompt}\n{pair.answer}"


VIEWS: tuple[Callable[[SupportPair], str], ...] = (_prompt, _whole)
"""Two pairs are near-duplicates when their prompts are, or prompt and answer together."""


def _similar(pairs: Sequence[SupportPair], threshold: float) -> Iterable[tuple[int, int]]:
    for view in VIEWS:
        yield from near_pairs([shingles(view(pair)) for pair in pairs], threshold)


def without_repeats(pairs: Sequence[SupportPair], threshold: float) -> tuple[list[SupportPair], Counter[str]]:
    """The pairs in order, each prompt once and no two whole pairs near-duplicates; and the drops.

    The last of a set of repeats stays: data is appended, so the last is the newest correction.
    """
    newest: dict[tuple[str, ...], SupportPair] = {}
    for pair in pairs:
        newest[tuple(words(pair.prompt))] = pair
    unique = [pair for pair in pairs if newest[tuple(words(pair.prompt))] is pair]
    older = {earlier for _, earlier in near_pairs([shingles(_whole(pair)) for pair in unique], threshold)}
    kept = [pair for position, pair in enumerate(unique) if position not in older]
    drops = Counter({"duplicate": len(pairs) - len(unique), "near_duplicate": len(older)})
    return kept, drops


def _answer(pair: SupportPair) -> str:
    return pair.answer


def without_contamination(
    pairs: Sequence[SupportPair], evaluation_texts: Sequence[str], threshold: float
) -> tuple[list[SupportPair], Counter[str]]:
    """The pairs whose prompt, answer or both together repeat no text of an evaluation set; and the drops."""
    boundary = len(evaluation_texts)
    reference = [shingles(text) for text in evaluation_texts]
    touched = set()
    for view in (*VIEWS, _answer):
        sets = reference + [shingles(view(pair)) for pair in pairs]
        touched |= {i - boundary for i, j in near_pairs(sets, threshold) if j < boundary <= i}
    kept = [pair for position, pair in enumerate(pairs) if position not in touched]
    return kept, Counter({"contaminated": len(touched)})


def clusters_of(pairs: Sequence[SupportPair], threshold: float) -> list[str]:
    """For each pair the name of its cluster: template groups joined wherever near-duplicates cross them."""
    parent: dict[str, str] = {pair.group: pair.group for pair in pairs}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for i, j in _similar(pairs, threshold):
        low, high = sorted((root(pairs[i].group), root(pairs[j].group)))
        parent[high] = low  # the smallest name wins, so a cluster's name does not depend on row order
    return [root(pair.group) for pair in pairs]


def is_set_aside(cluster: str, fraction: float, salt: str) -> bool:
    """Whether a cluster is set aside: by its hash alone, so it stays on its side as the data grows.

    Each purpose needs its own salt: with a shared one the smaller share would lie inside the larger.
    """
    digest = hashlib.sha256(f"{salt}:{cluster}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64 < fraction


def split(pairs: Sequence[SupportPair], *, fraction: float, threshold: float, seed: int) -> Split:
    """Split by template group and user; a user goes wholly to the side that holds more of their pairs.

    `fraction` is the share of template groups held out. Pairs on a user's smaller side are dropped and
    counted. Raises SplitError when a side would be empty.
    """
    clusters = clusters_of(pairs, threshold)
    by_cluster = [is_set_aside(cluster, fraction, f"heldout {seed}") for cluster in clusters]
    balance: Counter[str] = Counter()
    for pair, held in zip(pairs, by_cluster, strict=True):
        balance[pair.user] += 1 if held else -1
    sides: dict[bool, list[SupportPair]] = {True: [], False: []}
    for pair, held in zip(pairs, by_cluster, strict=True):
        if held == (balance[pair.user] >= 0):
            sides[held].append(pair)
    if not sides[True] or not sides[False]:
        empty = "held-out" if not sides[True] else "training"
        raise SplitError(
            f"the {empty} side is empty after splitting {len(pairs)} pairs in {len(set(clusters))} template "
            "groups: add pairs from more users and groups, or change heldout_fraction"
        )
    dropped = Counter({"user_on_both_sides": len(pairs) - len(sides[True]) - len(sides[False])})
    return Split(train=sides[False], heldout=sides[True], dropped=dropped)


def check_split(train: Sequence[SupportPair], heldout: Sequence[SupportPair], threshold: float) -> None:
    """Raise SplitError naming the first user, template group or near-duplicate found on both sides."""
    for field in ("user", "group"):
        shared = {getattr(pair, field) for pair in train} & {getattr(pair, field) for pair in heldout}
        if shared:
            raise SplitError(f"{field} {min(shared)!r} is both in training and held out")
    both = [*train, *heldout]
    for i, j in _similar(both, threshold):
        if (i < len(train)) != (j < len(train)):
            raise SplitError(
                f"{both[i].id!r} and {both[j].id!r} are near-duplicates, one in training and one held out"
            )
