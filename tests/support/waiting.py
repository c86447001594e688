"""Waiting for what comes in its own time; how long is only for the case that it never does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE_SECONDS = 180.0


def until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """What the condition answers, once it answers something. Fails after `seconds`, naming `what`."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"never happened within {seconds:g} s: {what}"
        time.sleep(0.1)
    return answer
