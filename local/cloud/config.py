"""Where a laptop cloud lives and what it calls itself; knows nothing of the emulator."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from local.cloud.process_table import ProcessTable

ACCOUNT = "123456789012"
REGION = "us-east-1"
ADDRESS = "127.0.0.1"


@dataclass(frozen=True)
class CloudConfig:
    """One running cloud. `home` holds everything it owns, `venvs` the environments its processes run in."""

    home: Path
    port: int
    venvs: Path
    account: str = ACCOUNT
    region: str = REGION

    @property
    def folder(self) -> Path:
        """State, logs, process records and unpacked code: `<home>/cloud`."""
        return self.home / "cloud"

    @property
    def endpoint_url(self) -> str:
        """What AWS clients are given as `AWS_ENDPOINT_URL`."""
        return f"http://{ADDRESS}:{self.port}"

    @property
    def processes(self) -> ProcessTable:
        """Where every child process is recorded as long as it lives."""
        return ProcessTable(self.folder / "processes")

    def python(self, environment: str) -> Path:
        """The interpreter of one of the environments `cdk`, `cloud`, `lambda`, `serving`."""
        return self.venvs / environment / "bin" / "python"
