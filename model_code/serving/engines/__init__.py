"""Engines: what turns token ids into more token ids. `base` is the protocol, the rest implement it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model_code.serving.engines.base import Engine
    from model_code.serving.settings import ServerSettings


def create(settings: ServerSettings) -> Engine:
    """The engine that the settings name, not loaded yet. Imports take seconds: call it off the event loop."""
    from model_code.serving.engines.transformers_engine import TransformersEngine

    return TransformersEngine(
        max_context=settings.max_context, max_running=settings.max_running, threads=settings.threads
    )
