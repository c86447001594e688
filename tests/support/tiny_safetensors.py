"""Model folders of a few bytes: real safetensors files and configs, without weights that mean anything."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any


def write_safetensors(path: Path, tensors: dict[str, int]) -> None:
    """A file with tensors of 16-bit numbers, by name and how many."""
    header, place = {}, 0
    for name, count in tensors.items():
        header[name] = {"dtype": "BF16", "shape": [count], "data_offsets": [place, place + 2 * count]}
        place += 2 * count
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(place))


def write_model(folder: Path, *, weights: dict[str, int] | None = None, **config: Any) -> Path:
    """A folder as a hub has it; `config` goes over that of a Llama."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 8192} | config
    (folder / "config.json").write_text(json.dumps(values))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    write_safetensors(folder / "model.safetensors", weights or {"embed": 8, "head": 8})
    return folder
