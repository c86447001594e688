"""Where a laptop cloud keeps its things. Standard library only: this runs before any environment exists."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
ACCOUNT = "123456789012"
REGION = "us-east-1"
SECRET = "laptop"  # noqa: S105 - the emulator's root user; it guards nothing outside this machine
DEFAULT_PORT = 4566


@dataclass(frozen=True)
class Home:
    """One laptop cloud: its folder, its environments, its port on 127.0.0.1 and which model it serves."""

    root: Path
    venvs: Path
    port: int
    tiny: bool = False

    @classmethod
    def from_environment(cls, *, tiny: bool = False) -> Home:
        """Reads EVERGREEN_HOME, EVERGREEN_VENVS and EVERGREEN_PORT; defaults lie under `.evergreen`."""
        root = Path(os.environ.get("EVERGREEN_HOME", REPOSITORY / ".evergreen")).resolve()
        venvs = Path(os.environ.get("EVERGREEN_VENVS", REPOSITORY / ".evergreen" / "venvs")).resolve()
        return cls(root, venvs, int(os.environ.get("EVERGREEN_PORT", DEFAULT_PORT)), tiny)

    @property
    def url(self) -> str:
        """Base address of the emulator, which is also every AWS service's endpoint."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def cloud(self) -> Path:
        """The emulator's state, logs and pid."""
        return self.root / "cloud"

    @property
    def outputs(self) -> Path:
        """What `make up` leaves for other programs."""
        return self.root / "outputs.json"

    @property
    def logs(self) -> Path:
        """One log per step of `make up`."""
        return self.root / "logs"

    @property
    def timings(self) -> Path:
        """Seconds of the last `make up`'s steps; `timings-cold.json` beside it: of the last from nothing."""
        return self.root / "timings.json"

    @property
    def assembly(self) -> Path:
        """The synthesized cloud assembly."""
        return self.root / "cdk.out" / "local"

    def python(self, environment: str) -> Path:
        """The interpreter of one of the environments."""
        return self.venvs / environment / "bin" / "python"

    def aws_environment(self) -> dict[str, str]:
        """This process's environment with the operator's credentials for the laptop cloud."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        return clean | {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": ACCOUNT,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "EVERGREEN_HOME": str(self.root),
            "EVERGREEN_VENVS": str(self.venvs),
            "EVERGREEN_PORT": str(self.port),
        }


def write_private(path: Path, text: str) -> None:
    """Replaces a file by one that only its owner may read, whoever could read the one before."""
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as target:
        target.write(text)
    os.replace(partial, path)
