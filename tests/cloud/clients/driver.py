"""What the Python drivers share: go through the scenario's steps and write down what the client
reported.

A driver is started as `python -m tests.cloud.clients.<driver>` with the scenario's file and, in the
environment, `API_URL`, `API_KEY` and `MODEL`; it writes one JSON object per step to standard output. It
judges nothing: tests/cloud/test_clients.py does, by the same rules for all.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Seen = dict[str, Any]
"""What was reported: `status`, `id`, `text`, `pieces`, `finish`, `usage`, `models`, or an error's parts.

`calls` holds the id, name and arguments (as JSON text) of each; `answer` the message as the client has
it, for a later step that puts it back.
"""


@dataclass(frozen=True)
class Step:
    """One call with everything filled in."""

    call: str
    stream: bool
    key: str
    request: dict[str, Any]


def go_through(calls: Mapping[str, Callable[[Step], Seen]]) -> None:
    """Every step whose call the client has. A record follows its answer, so a step may have patience."""
    scenario = json.loads(Path(sys.argv[1]).read_text())
    seen: dict[str, Seen] = {}
    messages: dict[str, Any] = {}
    for step in scenario["steps"]:
        if step["call"] not in calls:
            continue
        deadline = time.monotonic() + step.get("patience_seconds", 0)
        while True:
            filled = _filled(step, seen, messages)
            reported = calls[step["call"]](filled)
            if reported["status"] != 404 or time.monotonic() >= deadline:
                break
            time.sleep(0.2)
        if (message := reported.pop("answer", None)) is not None:
            messages[step["name"]] = [*filled.request["messages"], message]
        seen[step["name"]] = reported
        print(json.dumps({"name": step["name"], **reported}), flush=True)


def _filled(step: Mapping[str, Any], seen: Mapping[str, Seen], messages: Mapping[str, list[Any]]) -> Step:
    request = dict(step.get("request", {}))
    if step["call"] not in ("models", "feedback"):
        request = {"model": os.environ["MODEL"], **request}
    if "of" in step:
        request["request_id"] = seen[step["of"]]["id"]
    if "echo" in step:
        results = [
            {"role": "tool", "tool_call_id": call_id, "content": "12 C"}
            for call_id, _, _ in seen[step["echo"]]["calls"]
        ]
        request["messages"] = [*messages[step["echo"]], *results]
    return Step(step["call"], step.get("stream", False), step.get("key") or os.environ["API_KEY"], request)


def refused(status: int, error: Mapping[str, Any]) -> Seen:
    """What a client tells of an error: the inside of OpenAI's error object."""
    return {"status": status, **{name: error.get(name) for name in ("type", "code", "param", "message")}}
