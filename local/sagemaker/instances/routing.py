"""Which variant and which instance take a request: pure arithmetic over what is there now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar


class HasLoad(Protocol):
    """An instance as routing sees it."""

    outstanding: int


Candidate = TypeVar("Candidate", bound=HasLoad)


def choose_variant(weights: Mapping[str, float], draw: float) -> str | None:
    """The variant that a uniform draw from [0, 1) falls on; None when no variant has a weight above zero."""
    total = sum(weights.values())
    if total <= 0:
        return None
    mark = draw * total
    chosen = None
    for name, weight in weights.items():
        if weight <= 0:
            continue
        chosen = name
        mark -= weight
        if mark < 0:
            break
    return chosen


def least_outstanding(candidates: Sequence[Candidate], draw: float) -> Candidate | None:
    """The instance with the fewest requests in flight; equals are told apart by the draw from [0, 1)."""
    if not candidates:
        return None
    fewest = min(candidate.outstanding for candidate in candidates)
    idlest = [candidate for candidate in candidates if candidate.outstanding == fewest]
    return idlest[int(draw * len(idlest))]


def random_choice(candidates: Sequence[Candidate], draw: float) -> Candidate | None:
    """An instance at random (routing strategy RANDOM)."""
    return candidates[int(draw * len(candidates))] if candidates else None
