"""The section `functions`: the Lambda functions' runtime, size and concurrency.

Knows nothing of CDK, files or line numbers.
"""

from __future__ import annotations

import platform
import sys
from typing import Annotated, Literal

from pydantic import Field

from infra.settings.base import SettingsModel, setting

CAPACITY = "capacity"
"""For a reserved concurrency that follows from the model's machines."""


class FunctionSettings(SettingsModel):
    """The Lambda functions' runtime and size."""

    runtime: Literal["python3.12", "python3.13", "python3.14", "host"] = setting(
        "Lambda runtime; `host` is this machine's Python, for the laptop.", "python3.14"
    )
    architecture: Literal["arm64", "x86_64", "host"] = setting(
        "Instruction set; `host` is this machine's, for the laptop.", "arm64"
    )
    memory_mb: int = setting("Memory of each function; CPU grows with it.", 1024, ge=128, le=10_240)
    reserved_concurrency: Annotated[int, Field(ge=1, le=100_000)] | Literal["capacity"] | None = setting(
        "Most requests in flight in `inference`; `capacity` for what the model's machines hold and a tenth "
        "more, as far as the account's limit goes; left out, nothing is reserved.",
        CAPACITY,
        default=None,
    )
    account_concurrency: int = setting(
        "The account's limit of concurrent executions in the region (Service Quotas, Lambda); new accounts "
        "begin with 10 and have to ask for more.",
        1_000,
        ge=10,
        le=1_000_000,
        default=1_000,
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = setting(
        "Least severe line that is logged.", "INFO", default="INFO"
    )

    @property
    def runtime_name(self) -> str:
        """Lambda's name of the runtime, `host` resolved."""
        host = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return host if self.runtime == "host" else self.runtime

    @property
    def architecture_name(self) -> Literal["arm64", "x86_64"]:
        """Lambda's name of the instruction set, `host` resolved."""
        if self.architecture != "host":
            return self.architecture
        return "arm64" if platform.machine().lower() in ("arm64", "aarch64") else "x86_64"
