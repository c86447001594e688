"""Where the openvino engine's worker process begins. Its own module, since the process loads it by name.

The server imports it too, and so it imports nothing that computes before the process has started.
"""

from __future__ import annotations

from multiprocessing.connection import Connection
from pathlib import Path

from model_code.serving.engines.base import EngineLimits


def run_worker(connection: Connection, folder: Path, limits: EngineLimits) -> None:
    """The worker process's first function: only there is OpenVINO imported."""
    from model_code.serving.engines.openvino_worker import main

    main(connection, folder, limits)
