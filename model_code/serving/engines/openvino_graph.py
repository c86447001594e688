"""Builds the OpenVINO graph of a Llama-shaped model from its Hugging Face folder, with int8 weights.

The graph keeps its key-value cache as state, in the shape that OpenVINO GenAI turns into paged attention.
Weights are 8 bits per value with scale and zero point per output row (the scheme NNCF calls INT8_ASYM);
activations stay in floating point. optimum-intel exports more architectures, but requires an older
transformers than the handler has, and torch at the start: bench/results/openvino_export.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops

from model_code.serving.engines.openvino_architectures import unsupported_part
from model_code.serving.engines.weights import Weights

_LEVELS = 255


class Tensors(Protocol):
    """A model's weights by name."""

    def __contains__(self, name: str) -> bool:
        """Whether there is a tensor of that name."""

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        """The tensor as float32. Raises KeyError."""


class UnsupportedModelError(Exception):
    """The model's architecture is not one this graph can express; the message says which part."""


def convert(folder: Path, target: Path) -> None:
    """Write `openvino_model.xml` and `.bin` of a model folder into `target`. Raises UnsupportedModelError."""
    config = json.loads((folder / "config.json").read_text())
    target.mkdir(parents=True, exist_ok=True)
    model = LlamaGraph(config, Weights(folder)).build()
    ov.save_model(model, target / "openvino_model.xml", compress_to_fp16=False)


class LlamaGraph:
    """One model under construction; shapes in comments: b batch, s new tokens, t all tokens, h heads."""

    def __init__(self, config: dict[str, Any], weights: Tensors) -> None:
        if part := unsupported_part(config):
            raise UnsupportedModelError(f"the openvino engine cannot express this model's {part}")
        self._weights = weights
        self._layers: int = config["num_hidden_layers"]
        self._heads: int = config["num_attention_heads"]
        self._kv_heads: int = config.get("num_key_value_heads") or self._heads
        self._head_size: int = config.get("head_dim") or config["hidden_size"] // self._heads
        self._epsilon: float = config["rms_norm_eps"]
        self._theta: float = _theta(config)
        self._tied: bool = config.get("tie_word_embeddings", False)
        self._input_ids = _input("input_ids", [-1, -1], ov.Type.i64)
        self._attention_mask = _input("attention_mask", [-1, -1], ov.Type.i64)
        self._position_ids = _input("position_ids", [-1, -1], ov.Type.i64)
        self._beam = _input("beam_idx", [-1], ov.Type.i32)
        self._sinks: list[Any] = []

    def build(self) -> ov.Model:
        """The whole graph: tokens in, logits [b, s, vocabulary] out."""
        table = _compressed(self._weight("model.embed_tokens.weight"))
        state = ops.gather(table, ops.convert(self._input_ids, "i32"), _ints(0))
        cosine, sine = self._rotation()
        mask = self._mask()
        for layer in range(self._layers):
            state = self._layer(f"model.layers.{layer}.", layer, state, cosine, sine, mask)
        state = self._norm(state, "model.norm.weight")
        head = table if self._tied else _compressed(self._weight("lm_head.weight"))
        logits = ops.matmul(state, head, False, True)
        logits.output(0).set_names({"logits"})
        inputs = [self._input_ids, self._attention_mask, self._position_ids, self._beam]
        return ov.Model([ops.result(logits)], self._sinks, inputs, "llama")

    def _layer(self, prefix: str, index: int, state: Any, cosine: Any, sine: Any, mask: Any) -> Any:
        normed = self._norm(state, prefix + "input_layernorm.weight")
        queries = self._split(self._linear(normed, prefix + "self_attn.q_proj"), self._heads)
        keys = self._split(self._linear(normed, prefix + "self_attn.k_proj"), self._kv_heads)
        values = self._split(self._linear(normed, prefix + "self_attn.v_proj"), self._kv_heads)
        if prefix + "self_attn.q_norm.weight" in self._weights:
            queries = self._norm(queries, prefix + "self_attn.q_norm.weight")
            keys = self._norm(keys, prefix + "self_attn.k_norm.weight")
        queries, keys = _rotate(queries, cosine, sine), _rotate(keys, cosine, sine)
        keys, values = self._cached(keys, f"{index}.key"), self._cached(values, f"{index}.value")
        attended = ops.scaled_dot_product_attention(
            queries, self._repeat(keys), self._repeat(values), mask, causal=False
        )
        merged = ops.reshape(
            ops.transpose(attended, _ints(0, 2, 1, 3)), _ints(0, 0, self._heads * self._head_size), True
        )
        state = ops.add(state, self._linear(merged, prefix + "self_attn.o_proj"))
        normed = self._norm(state, prefix + "post_attention_layernorm.weight")
        gate = ops.swish(self._linear(normed, prefix + "mlp.gate_proj"))
        inner = ops.multiply(gate, self._linear(normed, prefix + "mlp.up_proj"))
        return ops.add(state, self._linear(inner, prefix + "mlp.down_proj"))

    def _linear(self, state: Any, name: str) -> Any:
        product = ops.matmul(state, _compressed(self._weight(f"{name}.weight")), False, True)
        bias = f"{name}.bias"
        return ops.add(product, ops.constant(self._weight(bias))) if bias in self._weights else product

    def _weight(self, name: str) -> NDArray[np.float32]:
        weight = self._weights[name]
        if not np.isfinite(weight).all():  # in eight bits it would pass for a number
            raise UnsupportedModelError(f"{name} holds values that are not finite")
        return weight

    def _norm(self, state: Any, name: str) -> Any:
        """Root mean square norm (Zhang and Sennrich 2019), in the form that OpenVINO fuses."""
        square = ops.power(state, ops.constant(np.float32(2)))
        mean = ops.reduce_mean(square, _ints(-1), True)
        root = ops.sqrt(ops.add(mean, ops.constant(np.float32(self._epsilon))))
        normed = ops.multiply(state, ops.divide(ops.constant(np.float32(1)), root))
        return ops.multiply(normed, ops.constant(self._weight(name)))

    def _split(self, state: Any, heads: int) -> Any:
        """[b, s, h·d] to [b, h, s, d]."""
        shaped = ops.reshape(state, _ints(0, 0, heads, self._head_size), True)
        return ops.transpose(shaped, _ints(0, 2, 1, 3))

    def _cached(self, fresh: Any, name: str) -> Any:
        """Append to the state of that name; [b, h, t, d]."""
        shape = ops.concat(
            [_batch(self._input_ids), _ints(self._kv_heads), _ints(0), _ints(self._head_size)], 0
        )
        empty = ops.broadcast(ops.constant(np.float32(0)), shape)
        variable = f"past_key_values.{name}present.{name}"
        kept = ops.read_value(empty, variable, ov.Type.f32, [-1, self._kv_heads, -1, self._head_size])
        whole = ops.concat([ops.gather(kept, self._beam, _ints(0)), fresh], 2)
        self._sinks.append(ops.assign(whole, variable))
        return whole

    def _repeat(self, state: Any) -> Any:
        """Give every query head its own copy of the keys or values it shares."""
        groups = self._heads // self._kv_heads
        if groups == 1:
            return state
        lifted = ops.unsqueeze(state, _ints(2))
        shape = ops.shape_of(lifted)
        front, back = ops.gather(shape, _ints(0, 1), _ints(0)), ops.gather(shape, _ints(3, 4), _ints(0))
        spread = ops.broadcast(lifted, ops.concat([front, _ints(groups), back], 0), "BIDIRECTIONAL")
        return ops.reshape(spread, _ints(0, self._heads, -1, self._head_size), True)

    def _rotation(self) -> tuple[Any, Any]:
        """Cosine and sine of the rotary angles (Su et al. 2021), [b, 1, s, d]."""
        half = np.arange(0, self._head_size, 2, dtype=np.float32) / self._head_size
        frequency = (1.0 / self._theta**half).astype(np.float32).reshape(1, -1, 1)
        shape = ops.concat([_batch(self._input_ids), _ints(self._head_size // 2), _ints(1)], 0)
        positions = ops.convert(ops.unsqueeze(self._position_ids, _ints(1)), "f32")
        angles = ops.matmul(ops.broadcast(ops.constant(frequency), shape), positions, False, False)
        turned = ops.transpose(angles, _ints(0, 2, 1))
        both = ops.unsqueeze(ops.concat([turned, turned], -1), _ints(1))
        return ops.cos(both), ops.sin(both)

    def _mask(self) -> Any:
        """True where a new token may look: at the past, itself, and no padding; [b, 1, s, t]."""
        length = ops.gather(ops.shape_of(self._attention_mask), ops.constant(np.int64(1)), _ints(0))
        key = ops.range(ops.constant(np.int64(0)), length, ops.constant(np.int64(1)), "i64")
        own = ops.unsqueeze(ops.unsqueeze(self._position_ids, _ints(1)), _ints(3))
        real = ops.convert(ops.unsqueeze(ops.unsqueeze(self._attention_mask, _ints(1)), _ints(1)), "boolean")
        return ops.logical_and(ops.less_equal(key, own), real)


def _theta(config: dict[str, Any]) -> float:
    parameters = config.get("rope_parameters") or {}
    return float(parameters.get("rope_theta") or config.get("rope_theta") or 10_000.0)


def _input(name: str, shape: list[int], kind: ov.Type) -> Any:
    parameter = ops.parameter(shape, kind)
    parameter.set_friendly_name(name)  # the rewriting to paged attention looks for this name
    parameter.output(0).set_names({name})
    return parameter


def _ints(*values: int) -> Any:
    return ops.constant(np.array(values, dtype=np.int64))


def _batch(tokens: Any) -> Any:
    return ops.gather(ops.shape_of(tokens), _ints(0), _ints(0))


def _rotate(state: Any, cosine: Any, sine: Any) -> Any:
    half = int(state.output(0).partial_shape[3].get_length()) // 2
    low = ops.slice(state, _ints(0), _ints(half), _ints(1), _ints(3))
    high = ops.slice(state, _ints(half), _ints(np.iinfo(np.int64).max), _ints(1), _ints(3))
    turned = ops.concat([ops.multiply(high, ops.constant(np.float32(-1))), low], -1)
    return ops.add(ops.multiply(state, cosine), ops.multiply(turned, sine))


def _compressed(weight: NDArray[np.float32]) -> Any:
    """A weight matrix [rows, columns] as 8-bit constants and the graph that restores it."""
    codes, zero, scale = quantise(weight)
    centred = ops.subtract(ops.convert(ops.constant(codes), "f16"), ops.convert(ops.constant(zero), "f16"))
    return ops.convert(ops.multiply(centred, ops.constant(scale)), "f32")


def quantise(
    weight: NDArray[np.float32],
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float16]]:
    """8-bit codes [rows, columns] with zero point and scale [rows, 1]: weight ≈ (code − zero) · scale."""
    low = np.minimum(weight.min(axis=1, keepdims=True), 0)
    high = np.maximum(weight.max(axis=1, keepdims=True), 0)
    scale = np.maximum((high - low) / _LEVELS, np.finfo(np.float16).tiny).astype(np.float16)
    wide = scale.astype(np.float32)
    zero = np.clip(np.rint(-low / wide), 0, _LEVELS)
    codes = np.clip(np.rint(weight / wide) + zero, 0, _LEVELS)
    return codes.astype(np.uint8), zero.astype(np.uint8), scale
