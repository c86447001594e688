"""`make chat`: streams one answer from the deployed API to the terminal. Standard library only."""

from __future__ import annotations

import json
import sys

from local.home import Home
from operations.chat_client import model_name, stream
from operations.progress import CommandError

__all__ = ["main", "model_name", "read_outputs", "stream"]


def read_outputs(home: Home) -> dict[str, str]:
    """The outputs of the last `make up`. Raises CommandError when there was none."""
    if not home.outputs.exists():
        raise CommandError("the laptop cloud is not up: run `make up` first.")
    outputs: dict[str, str] = json.loads(home.outputs.read_text())
    return outputs


def main(home: Home, prompt: str) -> int:
    """Prints one streamed answer; returns the exit code."""
    outputs = read_outputs(home)
    for piece in stream(outputs["api_url"], outputs["api_key"], prompt):
        sys.stdout.write(piece)
        sys.stdout.flush()
    print()
    return 0
