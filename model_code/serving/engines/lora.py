"""Reads LoRA adapters in peft's format and judges whether they fit the model being served.

Without torch and without peft: every engine uses it, the light ones too. What an adapter asks for beyond
plain low-rank updates of linear layers is refused by name. Source: Hu et al. 2021, LoRA; peft's documentation
of its checkpoint format.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.artefact import MANIFEST_NAME, ArtefactError, verify
from contracts.training import TRAINING_CARD_FILE
from model_code.serving.engines.errors import IncompatibleAdapterError
from model_code.serving.engines.weights import as_float32, open_tensors

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_PLAIN: dict[str, tuple[Any, ...]] = {  # what these settings may be
    "peft_type": ("LORA",),
    "bias": ("none", None),
    "use_dora": (False, None),
    "fan_in_fan_out": (False, None),
    "modules_to_save": (None, []),
    "alora_invocation_tokens": (None,),
    "trainable_token_indices": (None,),
    "layer_replication": (None,),
}

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class LowRank:
    """One layer's update: weight + up · down · scale, with down [rank, inputs] and up [outputs, rank]."""

    down: Matrix
    up: Matrix
    scale: float

    def product(self) -> Matrix:
        """The update as a matrix [outputs, inputs]."""
        update: Matrix = (self.up @ self.down) * np.float32(self.scale)
        return update


@dataclass(frozen=True)
class Adapter:
    """An adapter under the name by which engines know it: updates by module name, stored size in bytes."""

    key: str
    layers: Mapping[str, LowRank]
    bytes: int


def adapter_bytes(folder: Path) -> int:
    """Size of an adapter's weights on disk. Raises IncompatibleAdapterError: none of a known format."""
    weights = folder / WEIGHTS_NAME
    if not folder.is_dir():
        raise IncompatibleAdapterError(f"src '{folder}' is no folder in this container")
    if not weights.is_file():
        raise IncompatibleAdapterError(
            f"the adapter's folder holds no {WEIGHTS_NAME} (pickled weights are not read)"
        )
    return weights.stat().st_size


def read_adapter(
    key: str, folder: Path, base_shapes: Mapping[str, tuple[int, ...]], base_digest: str
) -> Adapter:
    """The adapter in a folder, checked against the base's tensors. Raises IncompatibleAdapterError."""
    size = adapter_bytes(folder)
    try:
        if (folder / MANIFEST_NAME).is_file():
            verify(folder, None)
        _check_base(folder, base_digest)
        config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
        tensors = open_tensors(folder / WEIGHTS_NAME)
    except ArtefactError as error:
        raise IncompatibleAdapterError(f"the adapter is damaged: {error}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IncompatibleAdapterError(
            f"the adapter cannot be read: {type(error).__name__}: {error}"
        ) from None
    _check_config(config)
    downs, ups = _pairs(tensors)
    layers = {}
    for module, down in downs.items():
        layers[module] = LowRank(down, ups[module], _scale(config, module, down.shape[0]))
        _check_layer(module, layers[module], base_shapes)
    if not layers:
        raise IncompatibleAdapterError("the adapter holds no tensors")
    return Adapter(key, layers, size)


def _check_base(folder: Path, base_digest: str) -> None:
    card = folder / TRAINING_CARD_FILE
    if not card.is_file():
        return
    trained_on = json.loads(card.read_text(encoding="utf-8")).get("base_digest")
    if trained_on and trained_on != base_digest:
        raise IncompatibleAdapterError(
            f"the adapter was trained on the base model {trained_on[:12]}…, this one is {base_digest[:12]}…"
        )


def _check_config(config: Any) -> None:
    if not isinstance(config, dict):
        raise IncompatibleAdapterError(f"{CONFIG_NAME} is no JSON object")
    for name, allowed in _PLAIN.items():
        if config.get(name, allowed[0]) not in allowed:
            raise IncompatibleAdapterError(
                f"{CONFIG_NAME} asks for {name} = {config[name]!r}, which is not served"
            )


def _pairs(tensors: Mapping[str, tuple[str, Any]]) -> tuple[dict[str, Matrix], dict[str, Matrix]]:
    sides: dict[str, dict[str, Matrix]] = {"A": {}, "B": {}}
    for name, stored in tensors.items():
        match = re.fullmatch(r"(.+)\.lora_([AB])\.weight", name.removeprefix(_PREFIX))
        if match is None:
            raise IncompatibleAdapterError(
                f"the adapter's tensor {name} is no low-rank update of a linear layer"
            )
        values = as_float32(*stored)
        if values.ndim != 2 or not np.isfinite(values).all():
            raise IncompatibleAdapterError(f"the adapter's tensor {name} is no matrix of finite numbers")
        sides[match[2]][match[1]] = values
    if lonely := sides["A"].keys() ^ sides["B"].keys():
        raise IncompatibleAdapterError(f"the adapter has only one half of its update of {min(lonely)}")
    return sides["A"], sides["B"]


def _scale(config: dict[str, Any], module: str, rank: int) -> float:
    """alpha / rank, or alpha / √rank for rank-stabilised adapters; patterns may name layers of their own."""
    alpha = config.get("lora_alpha", rank)
    try:
        for pattern, value in (config.get("alpha_pattern") or {}).items():
            if re.fullmatch(rf"(.*\.)?({pattern})", module):
                alpha = value
    except (re.error, AttributeError):
        raise IncompatibleAdapterError(f"{CONFIG_NAME} has an alpha_pattern that cannot be read") from None
    if not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise IncompatibleAdapterError(f"{CONFIG_NAME} has no usable lora_alpha")
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _check_layer(module: str, layer: LowRank, base_shapes: Mapping[str, tuple[int, ...]]) -> None:
    if layer.up.shape[1] != layer.down.shape[0]:
        raise IncompatibleAdapterError(f"the two halves of the update of {module} have different ranks")
    found = (layer.up.shape[0], layer.down.shape[1])
    expected = base_shapes.get(f"{module}.weight")
    if expected is None:
        raise IncompatibleAdapterError(f"the adapter updates {module}, which this base model does not have")
    if expected != found:
        raise IncompatibleAdapterError(
            f"the adapter belongs to another base model: its update of {module} is {found}, "
            f"here it is {expected}"
        )
