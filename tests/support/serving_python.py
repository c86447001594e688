"""Runs modules in the serving environment, the only one that has torch."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.support.training_data import REPOSITORY

VENVS = Path(os.environ.get("EVERGREEN_VENVS", REPOSITORY / ".evergreen" / "venvs"))
PYTHON = VENVS / "serving" / "bin" / "python"
PROCESS_SECONDS = 400


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a module of ours in the serving environment, from the repository's root."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SM_")}
    return subprocess.run(
        [str(PYTHON), *arguments],
        cwd=REPOSITORY,
        env=inherited | {"CUDA_VISIBLE_DEVICES": ""} | environment,
        capture_output=True,
        text=True,
        timeout=PROCESS_SECONDS,
        check=False,
    )
