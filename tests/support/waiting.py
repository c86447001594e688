"""Waiting for what comes in its own time; how long is only for the case that it never does."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any

import httpx

from tests.support.laptop import Laptop

PATIENCE_SECONDS = 180.0


def until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """What the condition answers, once it answers something. Fails after `seconds`, naming `what`."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"never happened within {seconds:g} s: {what}"
        time.sleep(0.1)
    return answer


async def until_async(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """The same on an event loop, whose other tasks go on meanwhile."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"never happened within {seconds:g} s: {what}"
        await asyncio.sleep(0.005)
    return answer


def running_requests(laptop: Laptop) -> float:
    """Requests that the model's process works on, by its own metrics."""
    listed = httpx.get(f"{laptop.outputs['aws_endpoint_url']}/_evergreen/instances", timeout=60).json()
    instance = next(one for one in listed if one["endpoint"] == laptop.outputs["endpoint_name"])
    text = httpx.get(f"{instance['url']}/metrics", timeout=60).text
    found = re.search(r"^\S*running\S* ([0-9.e+]+)$", text, re.MULTILINE)
    assert found, text
    return float(found[1])
