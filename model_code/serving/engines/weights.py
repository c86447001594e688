"""Reads safetensors files as numpy arrays without torch, one tensor at a time from the mapped file.

Format: eight bytes of header length, a JSON header, then the tensors' bytes (safetensors documentation).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
_DTYPES: dict[str, np.dtype[np.generic]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}
_LENGTH_BYTES = 8


class Weights:
    """The tensors of a model folder by name, whole or in shards. Raises ValueError for a broken index."""

    def __init__(self, folder: Path) -> None:
        index = folder / INDEX_NAME
        if not index.is_file():
            self._tensors = open_tensors(folder / SINGLE_NAME)
            return
        places: dict[str, str] = json.loads(index.read_text())["weight_map"]
        files = {file: open_tensors(folder / file) for file in sorted(set(places.values()))}
        for name, file in places.items():
            if name not in files[file]:
                raise ValueError(f"{INDEX_NAME} looks for {name} in {file}, which does not hold it")
        self._tensors = {name: files[file][name] for name, file in places.items()}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's shape."""
        return {name: raw.shape for name, (_, raw) in self._tensors.items()}

    def __contains__(self, name: str) -> bool:
        """Whether there is a tensor of that name."""
        return name in self._tensors

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        """A tensor as float32, a copy. Raises KeyError with the name."""
        return as_float32(*self._tensors[name])


def as_float32(kind: str, raw: NDArray[np.generic]) -> NDArray[np.float32]:
    """A stored tensor's numbers, copied."""
    if kind == "BF16":  # the upper half of a float32
        return (raw.astype(np.uint32) << 16).view(np.float32)
    return raw.astype(np.float32)


def open_tensors(path: Path) -> dict[str, tuple[str, NDArray[np.generic]]]:
    """A file's tensors by name: stored type and mapped array. Raises OSError, ValueError (not the format)."""
    mapped = np.memmap(path, dtype=np.uint8, mode="r")
    length = int(mapped[:_LENGTH_BYTES].view("<u8")[0])
    start = _LENGTH_BYTES + length
    header = json.loads(mapped[_LENGTH_BYTES:start].tobytes())
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        if entry["dtype"] not in _DTYPES:
            raise ValueError(f"{path.name}: {name} has the unsupported type {entry['dtype']}")
        data = mapped[start + first : start + last].view(_DTYPES[entry["dtype"]])
        tensors[name] = (entry["dtype"], data.reshape(entry["shape"]))
    return tensors
