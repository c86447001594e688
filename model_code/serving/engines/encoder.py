"""The protocol of engines that map a text to numbers: a vector that places it, or a score per label.

As in `base`, texts are token ids here: tokenising belongs to the server. Two texts that are read together, a
query and a document, are one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float32]
Normalisation = Literal["softmax", "sigmoid", "none"]


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text, special tokens included. `type_ids` tell the first of two texts from the second."""

    ids: Sequence[int]
    type_ids: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(self.ids)


class Encoder(Protocol):
    """A model that encodes. `load` is called once, off the event loop; `encode` from one thread at a time."""

    name: str
    labels: tuple[str, ...]
    """What a classifier's columns stand for; empty for embeddings."""
    normalisation: Normalisation
    """How a classifier turns its raw scores into what it reports, unless the caller says otherwise."""

    def load(self, folder: Path) -> None:
        """Load the model of an artefact's folder; raises EngineError."""

    @property
    def context_tokens(self) -> int:
        """Most tokens that one text may hold, special tokens included."""

    @property
    def pads(self) -> bool:
        """Whether texts of different lengths may be computed together."""

    def encode(self, texts: Sequence[Tokens]) -> Numbers:
        """One row per text: its vector as the model's own configuration has it, or its raw scores."""

    def close(self) -> None:
        """Let go of the model."""
