"""LoRA adapters that an operator brings: what their folder must hold, and where a model's artefact has them.

An adapter that is an inference component is an artefact of its own. Elsewhere it is the folder
`adapters/<name>` of the base model's artefact, beside `config.json`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from contracts.container import ADAPTER_FOLDER
from infra.settings import Settings
from operations.progress import CommandError
from operations.weights import WeightsError, read_header

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_BASE = "base_model_name_or_path"


def adapter_note(folder: Path) -> str:
    """A note on an adapter's folder. Raises CommandError where it holds no LoRA adapter."""
    config = _config(folder)
    try:
        tensors = read_header(folder / WEIGHTS)
    except WeightsError as error:
        raise CommandError(f"The adapter in {folder} cannot be used: {error}.") from None
    return f"LoRA of rank {config.get('r', 'unknown')}, {len(tensors)} tensors"


def check_folders(folder: Path, settings: Settings) -> None:
    """Every adapter that the settings name is in the model's artefact, and says whose it is.

    vLLM loads an adapter only where its configuration names the base as callers do: what training left there,
    a path as a rule, is replaced in our copy. Raises CommandError naming the first adapter that is missing.
    """
    for adapter in settings.folder_adapters:
        place = folder / ADAPTER_FOLDER / adapter.name
        if not place.is_dir():
            raise CommandError(
                f"settings/{settings.name}.yaml names the adapter {adapter.name}, and the model's folder has "
                f"no {ADAPTER_FOLDER}/{adapter.name}: put the adapter there and run this again."
            )
        adapter_note(place)
        config = _config(place)
        if config.get(_BASE) != settings.model.name:
            (place / CONFIG).unlink()  # a link: the source stays as it is
            (place / CONFIG).write_text(json.dumps(config | {_BASE: settings.model.name}, indent=1) + "\n")


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CommandError(f"{CONFIG} of the adapter in {folder} cannot be read: {error}.") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise CommandError(f"{folder} holds no LoRA adapter: {CONFIG} must have `peft_type: LORA`.")
    return config
