"""LoRA adapters: read as peft reads them, computed and merged as peft does, refused where they do not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

from safetensors.torch import load_file, save_file  # noqa: E402

from model_code.serving.engines.lora import IncompatibleAdapterError, read_adapter  # noqa: E402
from model_code.serving.engines.lora_layers import LoraLayers  # noqa: E402
from model_code.serving.engines.merged_weights import write_merged  # noqa: E402
from model_code.serving.engines.weights import Weights  # noqa: E402

SHAPE: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
    "initializer_range": 0.3, "tie_word_embeddings": True,
}  # fmt: skip
TOKENS = torch.arange(1, 13)[None]


def base_model(folder: Path) -> Any:
    """A random Llama, saved in shards as large models are."""
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SHAPE)).eval()
    model.save_pretrained(folder, max_shard_size="20KB")
    return model


def adapter(base: Path, folder: Path, seed: int = 1, **config: Any) -> Any:
    """A strong random adapter as peft saves one, and peft's own model with it."""
    torch.manual_seed(seed)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"], **config}
    model = peft.get_peft_model(
        transformers.LlamaForCausalLM.from_pretrained(base), peft.LoraConfig(**settings)
    ).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    model.save_pretrained(folder)
    return model


def read(base: Path, folder: Path, key: str = "a") -> Any:
    return read_adapter(key, folder, Weights(base).shapes, "0" * 64)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The base model's folder."""
    base_model(tmp_path / "base")
    return tmp_path / "base"


@torch.inference_mode()
def logits(model: Any, tokens: torch.Tensor = TOKENS) -> torch.Tensor:
    return model(tokens).logits[0]


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"use_rslora": True},
        {"rank_pattern": {"down_proj": 2}, "alpha_pattern": {"layers.1.mlp.down_proj": 3, "q_proj": 5}},
    ],
)
def test_hooks_compute_what_peft_computes(base: Path, tmp_path: Path, config: dict[str, Any]) -> None:
    expected = logits(adapter(base, tmp_path / "a", **config))
    model = transformers.LlamaForCausalLM.from_pretrained(base).eval()
    plain = logits(model)

    layers = LoraLayers(model)
    layers.add(read(base, tmp_path / "a"))
    assert torch.equal(logits(model), plain)  # loaded, and used by nobody
    layers.route([("a", 0, TOKENS.shape[1])])
    assert torch.allclose(logits(model), expected, atol=1e-4)
    assert not torch.allclose(plain, expected, atol=1e-1)
    layers.remove("a")
    assert torch.equal(logits(model), plain)


def test_a_merged_folder_is_pefts_merged_model(base: Path, tmp_path: Path) -> None:
    expected = logits(adapter(base, tmp_path / "a"))
    target = tmp_path / "merged"
    target.mkdir()
    write_merged(base, read(base, tmp_path / "a"), target)

    weights = Weights(target)
    merged = transformers.LlamaForCausalLM.from_pretrained(base).eval()
    with torch.no_grad():
        for name, parameter in merged.named_parameters():
            if name in weights:
                parameter.copy_(torch.from_numpy(weights[name]))
    assert torch.allclose(logits(merged), expected, atol=1e-4)
    assert {path.name for path in target.iterdir() if not path.is_symlink()} == {
        "merged.safetensors",
        "model.safetensors.index.json",
    }


def test_each_stretch_is_computed_under_its_own_adapter(base: Path, tmp_path: Path) -> None:
    """One projection, whose output depends on its own token alone."""
    first = adapter(base, tmp_path / "a", seed=1)
    second = adapter(base, tmp_path / "b", seed=2)
    model = transformers.LlamaForCausalLM.from_pretrained(base).eval()
    layers = LoraLayers(model)
    layers.add(read(base, tmp_path / "a", "a"))
    layers.add(read(base, tmp_path / "b", "b"))
    states = torch.randn(1, 9, SHAPE["hidden_size"])

    layers.route([("a", 0, 3), ("b", 5, 9)])
    with torch.inference_mode():
        found = model.model.layers[0].self_attn.q_proj(states)
        plain = transformers.LlamaForCausalLM.from_pretrained(base).model.layers[0].self_attn.q_proj(states)
        under_a = first.base_model.model.model.layers[0].self_attn.q_proj(states)
        under_b = second.base_model.model.model.layers[0].self_attn.q_proj(states)

    expected = torch.cat([under_a[:, :3], plain[:, 3:5], under_b[:, 5:]], dim=1)
    assert torch.allclose(found, expected, atol=1e-5)


def test_the_head_is_not_adapted_in_a_batch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape = SHAPE | {"tie_word_embeddings": False}
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape)).save_pretrained(tmp_path / "base")
    adapter(tmp_path / "base", tmp_path / "a", target_modules=["lm_head", "q_proj"])
    layers = LoraLayers(transformers.LlamaForCausalLM.from_pretrained(tmp_path / "base"))
    with pytest.raises(IncompatibleAdapterError, match="lm_head"):
        layers.add(read(tmp_path / "base", tmp_path / "a"))


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"peft_type": "IA3"}, "peft_type"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"lora_alpha": "much"}, "lora_alpha"),
        ({"alpha_pattern": {"(": 2}}, "alpha_pattern"),
    ],
)
def test_what_is_more_than_a_plain_adapter_is_refused_by_name(
    base: Path, tmp_path: Path, changes: dict[str, Any], word: str
) -> None:
    adapter(base, tmp_path / "a")
    change_config(tmp_path / "a", **changes)
    with pytest.raises(IncompatibleAdapterError, match=word):
        read(base, tmp_path / "a")


def test_weights_that_do_not_fit_are_refused_by_name(base: Path, tmp_path: Path) -> None:
    adapter(base, tmp_path / "a")
    path = tmp_path / "a" / "adapter_model.safetensors"
    tensors = load_file(path)
    down = next(name for name in tensors if "lora_A" in name)

    save_file({name: value for name, value in tensors.items() if name != down}, path)
    with pytest.raises(IncompatibleAdapterError, match="only one half"):
        read(base, tmp_path / "a")
    save_file(tensors | {down: torch.full_like(tensors[down], float("nan"))}, path)
    with pytest.raises(IncompatibleAdapterError, match="finite"):
        read(base, tmp_path / "a")
    save_file(tensors | {"base_model.model.lm_head.weight": torch.zeros(2, 2)}, path)
    with pytest.raises(IncompatibleAdapterError, match="no low-rank update"):
        read(base, tmp_path / "a")
    save_file({name.replace("layers.1", "layers.7"): value for name, value in tensors.items()}, path)
    with pytest.raises(IncompatibleAdapterError, match=r"layers\.7"):
        read(base, tmp_path / "a")


def test_an_index_that_points_nowhere_is_said_by_name(base: Path) -> None:
    index = base / "model.safetensors.index.json"
    places = json.loads(index.read_text())
    places["weight_map"]["model.extra.weight"] = next(iter(places["weight_map"].values()))
    index.write_text(json.dumps(places))
    with pytest.raises(ValueError, match=r"model\.extra\.weight"):
        Weights(base)
