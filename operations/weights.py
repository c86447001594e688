"""Reads safetensors files without loading them: whether they are whole, what they hold, how large they are.

Format: eight bytes with the length of a JSON header, the header, then the tensors' bytes. Source: the
format's description in huggingface/safetensors.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INDEX = "model.safetensors.index.json"
_LONGEST_HEADER = 100_000_000


class WeightsError(Exception):
    """A weight file is missing, damaged or not what its index says; the message names it."""


@dataclass(frozen=True)
class Weights:
    """All weight files of a folder: how many, bytes of their tensors, and the types these have."""

    files: int
    size_bytes: int
    types: tuple[str, ...]


def read_weights(folder: Path) -> Weights:
    """What the folder's safetensors hold. Raises WeightsError with the first file that is not right."""
    index = folder / INDEX
    placed = _placed(index) if index.is_file() else {}
    names = sorted(set(placed.values())) or sorted(path.name for path in folder.glob("*.safetensors"))
    if not names:
        raise WeightsError("there is no *.safetensors file")
    headers = {name: read_header(folder / name) for name in names}
    for tensor, name in placed.items():
        if tensor not in headers[name]:
            raise WeightsError(f"{name} lacks the tensor {tensor}, which {INDEX} places there")
    tensors = [tensor for header in headers.values() for tensor in header.values()]
    size = sum(end - begin for begin, end in (tensor["data_offsets"] for tensor in tensors))
    return Weights(len(names), size, tuple(sorted({str(tensor["dtype"]) for tensor in tensors})))


def read_header(path: Path) -> dict[str, Any]:
    """The tensors of one file by name. Raises WeightsError where header and length do not agree."""
    if not path.is_file():
        raise WeightsError(f"{path.name} is missing")
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(_LONGEST_HEADER, size - 8):
            raise WeightsError(f"{path.name} is no safetensors file")
        try:
            header = json.loads(stream.read(length))
            tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
            end = max((int(entry["data_offsets"][1]) for entry in tensors.values()), default=0)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            raise WeightsError(f"{path.name} is no safetensors file") from None
    if 8 + length + end != size:
        raise WeightsError(
            f"{path.name} has {size} bytes and its header speaks of {8 + length + end}: it is cut or damaged"
        )
    return tensors


def _placed(index: Path) -> dict[str, str]:
    try:
        placed = json.loads(index.read_text())["weight_map"]
    except (ValueError, KeyError, TypeError):
        raise WeightsError(f"{INDEX} has no weight_map") from None
    wrong = [name for name in placed.values() if Path(name).name != name]
    if wrong:
        raise WeightsError(f"{INDEX} names a file outside the folder: {wrong[0]}")
    return dict(placed)
