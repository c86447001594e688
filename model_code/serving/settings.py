"""What the container's environment says, read once at the start into one frozen object."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts import container

_VARIABLES = {
    "engine": container.ENV_ENGINE,
    "model_name": container.ENV_MODEL_NAME,
    "model_version": container.ENV_MODEL_VERSION,
    "model_digest": container.ENV_MODEL_DIGEST,
    "model_folder": container.ENV_SAGEMAKER_MODEL_DIR,
    "port": container.ENV_SAGEMAKER_PORT,
    "max_context": container.ENV_MAX_CONTEXT,
    "max_queued": container.ENV_MAX_QUEUED,
    "max_queued_tokens": container.ENV_MAX_QUEUED_TOKENS,
    "max_running": container.ENV_MAX_RUNNING,
    "default_max_tokens": container.ENV_DEFAULT_MAX_TOKENS,
    "request_timeout": container.ENV_REQUEST_TIMEOUT,
    "drain": container.ENV_DRAIN,
    "stall": container.ENV_STALL,
    "idle_release": container.ENV_IDLE_RELEASE,
    "host": container.ENV_HOST,
    "max_adapters": container.ENV_MAX_ADAPTERS,
    "adapter_folder": container.ENV_ADAPTER_FOLDER,
    "max_adapter_bytes": container.ENV_MAX_ADAPTER_BYTES,
    "sessions": container.ENV_SESSIONS_ENABLED,
    "session_seconds": container.ENV_SESSION_SECONDS,
    "max_sessions": container.ENV_MAX_SESSIONS,
    "threads": "OMP_NUM_THREADS",
}


class ServerSettings(BaseModel):
    """The server's settings. Times are in seconds, lengths in tokens; None means the model's own bound."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: Literal["auto", "transformers", "openvino"] = "auto"
    model_name: str = Field(default="model", min_length=1)
    model_version: str = ""
    model_digest: str | None = None
    model_folder: Path = Path(container.DEFAULT_MODEL_DIR)
    host: str = "0.0.0.0"  # noqa: S104 - inside a container the port mapping is the fence
    port: int = Field(default=container.DEFAULT_PORT, ge=0, le=65535)
    max_context: int | None = Field(default=None, ge=16)
    max_queued: int = Field(default=256, ge=0)
    max_queued_tokens: int | None = Field(default=None, ge=1)
    max_running: int = Field(default=64, ge=1)
    default_max_tokens: int | None = Field(default=None, ge=1)
    request_timeout: float = Field(default=600.0, gt=0)
    # SageMaker sends SIGKILL 30 s after SIGTERM; what this leaves of them is for closing connections.
    drain: float = Field(default=25.0, ge=0, le=28)
    stall: float = Field(default=120.0, gt=0)
    idle_release: float = Field(default=600.0, ge=0)
    max_adapters: int = Field(default=0, ge=0, le=256)
    max_adapter_bytes: int = Field(default=1 << 30, ge=1)
    adapter_folder: Path | None = None
    sessions: bool = False
    session_seconds: float = Field(default=1200.0, gt=0)
    max_sessions: int = Field(default=1000, ge=1)
    threads: int = Field(default_factory=lambda: usable_cores(), ge=1)

    @property
    def adapters_on_demand(self) -> Path | None:
        """The folder of adapters that requests may name; a relative one is the model's."""
        return None if self.adapter_folder is None else self.model_folder / self.adapter_folder


def read_settings(environment: Mapping[str, str] = os.environ) -> ServerSettings:
    """Settings from the environment; empty variables count as unset. Raises pydantic's ValidationError."""
    values = {field: environment.get(name) for field, name in _VARIABLES.items()}
    return ServerSettings.model_validate({field: value for field, value in values.items() if value})


def variable_of(field: str) -> str:
    """The environment variable behind a settings field."""
    return _VARIABLES[field]


def usable_cores() -> int:
    """Cores this process may use: its CPU affinity, cut down to the container's CPU quota."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):  # no cgroup v2 here: the affinity is all there is
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
