"""Turns a GGUF file of a Llama-shaped model into Hugging Face weights and configuration; makes a tiny twin.

The tiny twin has the same architecture and vocabulary with two narrow layers of seeded random weights: it
starts in a moment and says nonsense, which is all that tests of a server need.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf.quants import dequantize
from numpy.typing import NDArray
from safetensors.torch import save_file

from local.model.progress import Progress

Array = NDArray[np.float32]

TINY = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
}
TINY_SEED = 20250101
TINY_STANDARD_DEVIATION = 0.05

_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_TOP_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}


class GgufModel:
    """A GGUF file opened for reading; tensors are read lazily from the mapped file."""

    def __init__(self, path: Path) -> None:
        self._reader = gguf.GGUFReader(path)
        architecture = self.field("general.architecture")
        if architecture != "llama":
            raise ValueError(f"the GGUF file holds a '{architecture}' model; only 'llama' is understood")

    def field(self, name: str) -> Any:
        """A metadata field's value; raises KeyError when the file has none of that name."""
        field = self._reader.get_field(name)
        if field is None:
            raise KeyError(f"the GGUF file has no field {name}")
        return field.contents()

    def config(self) -> dict[str, Any]:
        """The content of `config.json`."""
        heads = self.field("llama.attention.head_count")
        width = self.field("llama.embedding_length")
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.field("llama.vocab_size"),
            "hidden_size": width,
            "intermediate_size": self.field("llama.feed_forward_length"),
            "num_hidden_layers": self.field("llama.block_count"),
            "num_attention_heads": heads,
            "num_key_value_heads": self.field("llama.attention.head_count_kv"),
            "head_dim": width // heads,
            "hidden_act": "silu",
            "max_position_embeddings": self.field("llama.context_length"),
            "rms_norm_eps": float(np.float32(self.field("llama.attention.layer_norm_rms_epsilon")).round(8)),
            "rope_theta": self.field("llama.rope.freq_base"),
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": not any(tensor.name == "output.weight" for tensor in self._reader.tensors),
            "bos_token_id": self.field("tokenizer.ggml.bos_token_id"),
            "eos_token_id": self.field("tokenizer.ggml.eos_token_id"),
            "pad_token_id": self.field("tokenizer.ggml.padding_token_id"),
            "torch_dtype": "bfloat16",
        }

    def weights(self) -> dict[str, Array]:
        """Hugging Face name → float32 array, with the row order of queries and keys restored."""
        config = self.config()
        heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
        weights: dict[str, Array] = {}
        with Progress("converting weights", len(self._reader.tensors)) as progress:
            for tensor in self._reader.tensors:
                values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
                piece = tensor.name.split(".")[-2]
                if piece in heads:
                    values = _restore_rotary_order(values, heads[piece])
                weights[_hugging_face_name(tensor.name)] = values
                progress.advance()
        return weights


def _hugging_face_name(name: str) -> str:
    if name in _TOP_NAMES:
        return _TOP_NAMES[name]
    _, layer, piece, kind = name.split(".")
    return f"model.layers.{layer}.{_LAYER_NAMES[piece]}.{kind}"


def _restore_rotary_order(values: Array, heads: int) -> Array:
    """GGUF pairs rotary dimensions as neighbours, Hugging Face as halves of a head: undo the permutation."""
    pairs = values.shape[0] // heads // 2
    return values.reshape(heads, pairs, 2, values.shape[1]).swapaxes(1, 2).reshape(values.shape)


def tiny_config(config: dict[str, Any]) -> dict[str, Any]:
    """The tiny twin's `config.json`."""
    return {**config, **TINY, "tie_word_embeddings": True}


def tiny_weights(config: dict[str, Any]) -> dict[str, Array]:
    """Seeded random weights for a configuration; norms are ones."""
    random = np.random.Generator(np.random.PCG64(TINY_SEED))
    return {
        name: np.ones(shape, np.float32)
        if name.endswith("norm.weight")
        else (random.standard_normal(shape, np.float32) * np.float32(TINY_STANDARD_DEVIATION))
        for name, shape in _shapes(config)
    }


def _shapes(config: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    width, inner = config["hidden_size"], config["intermediate_size"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    yield "model.embed_tokens.weight", (config["vocab_size"], width)
    yield "model.norm.weight", (width,)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        yield prefix + "input_layernorm.weight", (width,)
        yield prefix + "post_attention_layernorm.weight", (width,)
        yield prefix + "self_attn.q_proj.weight", (queries, width)
        yield prefix + "self_attn.k_proj.weight", (keys, width)
        yield prefix + "self_attn.v_proj.weight", (keys, width)
        yield prefix + "self_attn.o_proj.weight", (width, queries)
        yield prefix + "mlp.gate_proj.weight", (inner, width)
        yield prefix + "mlp.up_proj.weight", (inner, width)
        yield prefix + "mlp.down_proj.weight", (width, inner)


def save_weights(weights: dict[str, Array], path: Path) -> None:
    """Write a safetensors file in bfloat16; equal weights give equal bytes."""
    tensors = {
        name: torch.from_numpy(np.require(values, requirements=["C", "W"])).to(torch.bfloat16)
        for name, values in weights.items()
    }
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors leaves it readable for its owner alone
