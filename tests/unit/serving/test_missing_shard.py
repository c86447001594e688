"""A shard that the index names and that is not there: each engine's own reading says which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from model_code.serving.engines.base import EngineLimits  # noqa: E402
from model_code.serving.engines.transformers_engine import TransformersEngine  # noqa: E402
from model_code.serving.engines.weights import Weights  # noqa: E402

SHAPE: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip


@pytest.fixture
def missing(tmp_path: Path) -> Path:
    """The second of several shards, which is gone."""
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SHAPE))
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    shard = sorted(tmp_path.glob("model-00002-of-*.safetensors"))[0]
    shard.unlink()
    return shard


def test_transformers_names_it(missing: Path) -> None:
    with pytest.raises(OSError, match=missing.name):
        TransformersEngine(EngineLimits(None, 4, 1)).load(missing.parent)


def test_the_reader_of_the_other_engine_names_it(missing: Path) -> None:
    with pytest.raises(OSError, match=missing.name):
        Weights(missing.parent)
