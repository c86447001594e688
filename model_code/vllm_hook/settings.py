"""What the container's environment says to the hook, read once at the start."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from contracts import container

_VARIABLES = {
    "model_name": container.ENV_MODEL_NAME,
    "model_digest": container.ENV_MODEL_DIGEST,
    "model_folder": container.ENV_SAGEMAKER_MODEL_DIR,
    "max_running": container.ENV_MAX_RUNNING,
    "max_queued": container.ENV_MAX_QUEUED,
    "default_max_tokens": container.ENV_DEFAULT_MAX_TOKENS,
    "request_timeout": container.ENV_REQUEST_TIMEOUT,
    "drain": container.ENV_DRAIN,
    "stall": container.ENV_STALL,
}


class HookSettings(BaseModel):
    """The hook's settings, named and bounded as our own server's. Times are in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_name: str = Field(default="model", min_length=1)
    model_digest: str | None = None
    model_folder: Path = Path(container.DEFAULT_MODEL_DIR)
    max_running: int = Field(default=64, ge=1)
    max_queued: int = Field(default=256, ge=0)
    default_max_tokens: int | None = Field(default=None, ge=1)
    request_timeout: float = Field(default=600.0, gt=0)
    # SageMaker sends SIGKILL 30 s after SIGTERM; what this leaves of them is for vLLM's own end.
    drain: float = Field(default=25.0, ge=0, le=28)
    stall: float = Field(default=120.0, gt=0)


def read_settings(environment: Mapping[str, str] = os.environ) -> HookSettings:
    """Settings from the environment; empty variables count as unset. Raises pydantic's ValidationError."""
    values = {field: environment.get(name) for field, name in _VARIABLES.items()}
    return HookSettings.model_validate({field: value for field, value in values.items() if value})
