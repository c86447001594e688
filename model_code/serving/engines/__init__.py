"""Engines: what turns token ids into more token ids. `base` is the protocol, the rest implement it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from model_code.serving.engines.base import EngineLimits
from model_code.serving.engines.errors import EngineError
from model_code.serving.engines.openvino_architectures import unsupported_part

if TYPE_CHECKING:
    from model_code.serving.engines.base import Engine
    from model_code.serving.engines.encoder import Encoder
    from model_code.serving.model_tasks import ModelTask
    from model_code.serving.settings import ServerSettings

_ACCELERATORS = (Path("/dev/nvidiactl"),)


def create(settings: ServerSettings) -> Engine:
    """The engine that the settings name, not loaded yet. Imports take seconds: call it off the event loop."""
    engine = choose(settings.engine, settings.model_folder)
    limits = EngineLimits(settings.max_context, settings.max_running, settings.threads, settings.max_adapters)
    if engine == "openvino":
        from model_code.serving.engines.openvino_engine import OpenVinoEngine

        if settings.max_adapters:
            from model_code.serving.engines.merged_weights import MergedAdapters

            return MergedAdapters(lambda: OpenVinoEngine(limits))
        return OpenVinoEngine(limits)
    from model_code.serving.engines.transformers_engine import TransformersEngine

    return TransformersEngine(limits)


def create_encoder(settings: ServerSettings, task: ModelTask) -> Encoder:
    """The engine for a model that encodes, not loaded yet. Raises EngineError for one that has no such."""
    if settings.engine == "openvino":
        raise EngineError(
            f"the openvino engine generates text only; this artefact holds a model for {task}: "
            "set EVERGREEN_ENGINE to auto or transformers"
        )
    from model_code.serving.engines.transformers_encoder import TransformersEncoder

    return TransformersEncoder(
        EngineLimits(settings.max_context, settings.max_running, settings.threads), task
    )


def choose(
    wanted: Literal["auto", "transformers", "openvino"], folder: Path
) -> Literal["transformers", "openvino"]:
    """`auto` means openvino for a model it knows on a machine without accelerator, else transformers."""
    if wanted != "auto":
        return wanted
    if any(device.exists() for device in _ACCELERATORS):
        return "transformers"
    config = json.loads((folder / "config.json").read_text())
    return "transformers" if unsupported_part(config) else "openvino"
