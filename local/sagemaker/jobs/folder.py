"""A job's own folder: what is `/opt/ml` inside a container is `<job>/opt/ml` here.

Knows nothing of S3 and of processes.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.sagemaker.jobs.rules import OPT_ML

# Only a whole path component: /opt/mlflow is another folder.
_IN_TEXT = re.compile(rf"{OPT_ML}(?![\w.-])")
_FAILURE_CHARACTERS = 1024


@dataclass(frozen=True)
class JobFolder:
    """The folder of one job."""

    root: Path

    @property
    def ml(self) -> Path:
        """What the container calls /opt/ml."""
        return self.root / "opt" / "ml"

    @property
    def home(self) -> Path:
        """The process's home and temporary folder."""
        return self.root / "home"

    @property
    def failure(self) -> Path:
        """Where a job leaves the reason of its failure."""
        return self.ml / "output" / "failure"

    def at(self, container_path: str) -> Path:
        """Where a container's path below /opt/ml lies."""
        return Path(self.translated(container_path))

    def translated(self, text: str) -> str:
        """A word of a command line or environment with every /opt/ml in it moved into this folder."""
        return _IN_TEXT.sub(lambda _match: str(self.ml), text)

    def make(self, *names: str) -> None:
        """Make folders below /opt/ml, and the home."""
        self.home.mkdir(parents=True, exist_ok=True)
        for name in names:
            (self.ml / name).mkdir(parents=True, exist_ok=True)

    def write_json(self, name: str, value: Any) -> None:
        """Write a configuration file below /opt/ml."""
        path = self.ml / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))

    def failure_reason(self) -> str | None:
        """What the job left in its failure file, cut as the service cuts it."""
        try:
            text = self.failure.read_text(errors="replace").strip()
        except OSError:
            return None
        return text[:_FAILURE_CHARACTERS] or None
