"""The OpenVINO graph against transformers' own model, shape by shape; needs the serving environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
ov = pytest.importorskip("openvino")
transformers = pytest.importorskip("transformers")

import numpy as np  # noqa: E402

from model_code.serving.engines import choose  # noqa: E402
from model_code.serving.engines.openvino_architectures import OPENVINO_TYPES  # noqa: E402
from model_code.serving.engines.openvino_graph import UnsupportedModelError, convert, quantise  # noqa: E402
from model_code.serving.engines.weights import Weights  # noqa: E402

TOKENS = 12
SHAPE: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "sliding_window": None,
}


def save_model(folder: Path, kind: str, **overrides: Any) -> Any:
    """A random model of that type, saved as training saves one; large weights make mistakes show."""
    torch.manual_seed(1)
    config = transformers.AutoConfig.for_model(kind, **SHAPE | overrides)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.normal_(std=0.2)
    model.save_pretrained(folder, max_shard_size="20KB")
    return model


def logits_of(folder: Path, tokens: np.ndarray, step: int) -> np.ndarray:
    """Logits [tokens, vocabulary] from the converted graph, fed `step` tokens at a time through its state."""
    compiled = ov.Core().compile_model(
        folder / "openvino_model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
    )
    request, parts = compiled.create_infer_request(), []
    for start in range(0, len(tokens), step):
        end = start + step
        inputs = {
            "input_ids": tokens[None, start:end],
            "attention_mask": np.ones((1, end), np.int64),
            "position_ids": np.arange(start, end)[None],
            "beam_idx": np.zeros(1, np.int32),
        }
        parts.append(request.infer(inputs)["logits"][0].copy())
    return np.concatenate(parts)


@pytest.mark.parametrize("step", [TOKENS, 1])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", OPENVINO_TYPES)
def test_the_graph_computes_what_transformers_computes(
    tmp_path: Path, kind: str, tied: bool, step: int
) -> None:
    """Given weights that eight bits hold to within their rounding, logits agree to within it."""
    model = save_model(tmp_path, kind, tie_word_embeddings=tied)
    convert(tmp_path, tmp_path / "converted")
    tokens = np.random.default_rng(0).integers(0, SHAPE["vocab_size"], TOKENS)

    with torch.inference_mode():
        expected = model(torch.from_numpy(tokens)[None]).logits[0].numpy()
    found = logits_of(tmp_path / "converted", tokens, step)

    error = np.sqrt(np.mean((found - expected) ** 2)) / expected.std()
    assert error < 0.05
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.998


def test_weights_come_back_within_half_a_step() -> None:
    weight = np.random.default_rng(0).normal(size=(8, 64)).astype(np.float32)
    codes, zero, scale = quantise(weight)
    restored = (codes.astype(np.float32) - zero) * scale.astype(np.float32)
    # half a step of rounding, another half from the zero point, and what float16 makes of the scale
    assert (np.abs(restored - weight) <= 1.01 * scale.astype(np.float32) + 1e-3).all()


def test_a_row_of_zeros_stays_zero() -> None:
    codes, zero, scale = quantise(np.zeros((2, 4), np.float32))
    assert ((codes.astype(np.float32) - zero) * scale == 0).all()


def test_shards_are_read_as_one(tmp_path: Path) -> None:
    model = save_model(tmp_path, "llama")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    weights = Weights(tmp_path)
    for name, parameter in model.named_parameters():
        assert np.array_equal(weights[name], parameter.detach().numpy())


def test_bfloat16_is_read_exactly(tmp_path: Path) -> None:
    model = save_model(tmp_path, "llama").to(torch.bfloat16)
    model.save_pretrained(tmp_path / "half")
    name = "model.norm.weight"
    expected = dict(model.named_parameters())[name].detach().float().numpy()
    assert np.array_equal(Weights(tmp_path / "half")[name], expected)


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        ({"hidden_act": "gelu"}, "gelu"),
        (
            {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}},
            "linear",
        ),
    ],
)
def test_what_the_graph_cannot_express_is_refused(
    tmp_path: Path, overrides: dict[str, Any], part: str
) -> None:
    save_model(tmp_path, "llama", **overrides)
    with pytest.raises(UnsupportedModelError, match=part):
        convert(tmp_path, tmp_path / "converted")


def test_auto_takes_the_engine_that_knows_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model_code.serving.engines._ACCELERATORS", ())
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert choose("auto", tmp_path) == "openvino"
    (tmp_path / "config.json").write_text('{"model_type": "llama", "rope_scaling": {"type": "dynamic"}}')
    assert choose("auto", tmp_path) == "transformers"
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    assert choose("auto", tmp_path) == "transformers"
    assert choose("transformers", tmp_path) == "transformers"
