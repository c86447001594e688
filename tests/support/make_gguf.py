"""Writes an artefact as the GGUF file that llama.cpp reads, so that every server is asked about one model.

python -m tests.support.make_gguf <artefact> <GGUF file with the same vocabulary> <file to write>

Runs in the serving environment. The tokenizer is the given file's, the weights are the artefact's in float32.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

_LAYOUT = ("GGUF.", "general.architecture", "general.file_type", "general.quantization_version")
"""What the writer says by itself, or what holds for the other file's weights only."""


def write(artefact: Path, vocabulary: Path, target: Path) -> None:
    """Write beside the target and rename, so that a killed run leaves nothing that looks finished."""
    config = json.loads((artefact / "config.json").read_text())
    partial = target.with_suffix(".partial")
    writer = gguf.GGUFWriter(partial, "llama")
    shape = _shape(config)
    for field in gguf.GGUFReader(vocabulary).fields.values():
        if not field.name.startswith(_LAYOUT):
            kind, inner = field.types[0], field.types[-1]
            value = shape.get(field.name, field.contents())
            writer.add_key_value(
                field.name, value, kind, sub_type=inner if kind == gguf.GGUFValueType.ARRAY else None
            )
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for name, tensor in load_file(artefact / "model.safetensors").items():
        values = tensor.to(torch.float32).numpy()
        piece = name.split(".")[-2]
        if piece in heads:
            values = _rotary_neighbours(values, heads[piece])
        writer.add_tensor(names.get_name(name, (".weight",)), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.replace(target)


def _shape(config: dict[str, Any]) -> dict[str, int]:
    return {
        "llama.embedding_length": config["hidden_size"],
        "llama.feed_forward_length": config["intermediate_size"],
        "llama.block_count": config["num_hidden_layers"],
        "llama.attention.head_count": config["num_attention_heads"],
        "llama.attention.head_count_kv": config["num_key_value_heads"],
        "llama.rope.dimension_count": config["head_dim"],
    }


def _rotary_neighbours(values: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Hugging Face pairs rotary dimensions as halves of a head, GGUF as neighbours."""
    pairs = values.shape[0] // heads // 2
    halves = values.reshape(heads, 2, pairs, values.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(values.shape)


if __name__ == "__main__":
    write(*(Path(word) for word in sys.argv[1:]))
