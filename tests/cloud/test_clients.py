"""One scenario, four clients, unchanged: whoever speaks OpenAI's protocol needs an address and a key.

The drivers under clients/ report what their client saw, each in the same words; what it should have seen
stands in scenario.json and is judged here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from local.environments import node_environment
from local.home import Home
from tests.support.laptop import REPOSITORY, Laptop

FOLDER = Path(__file__).with_name("clients")
SCENARIO = FOLDER / "scenario.json"
STEPS: list[dict[str, Any]] = json.loads(SCENARIO.read_text())["steps"]
EVERYTHING = {"models", "chat", "completion", "embeddings", "feedback"}
PYTHON = [sys.executable, "-m"]
DRIVERS = {
    "openai_python": [*PYTHON, "tests.cloud.clients.with_openai"],
    "openai_javascript": ["node", str(FOLDER / "with_openai.mjs")],
    "langchain": [*PYTHON, "tests.cloud.clients.with_langchain"],
    "curl": [*PYTHON, "tests.cloud.clients.with_curl"],
}
CALLS = dict.fromkeys(DRIVERS, EVERYTHING) | {
    # LangChain has no words for the rest.
    "langchain": {"chat", "completion", "embeddings"},
}
SILENT = {("langchain", "the same completion, streamed", "usage")}
"""What a client hides from its users, though it gets it."""


@pytest.mark.parametrize("client", DRIVERS)
def test_the_scenario_runs_unchanged(laptop: Laptop, client: str) -> None:
    given = {"API_URL": laptop.api_url, "API_KEY": laptop.outputs["api_key"], "MODEL": laptop.model}
    # Tracing and proxies of the machine the tests run on are no part of the scenario.
    done = subprocess.run(
        [*DRIVERS[client], str(SCENARIO)],
        cwd=REPOSITORY,
        env=node_environment(Home.from_environment()) | given | {"LANGSMITH_TRACING": "false"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    seen = {line.pop("name"): line for line in map(json.loads, done.stdout.splitlines())}
    expected = [step for step in STEPS if step["call"] in CALLS[client]]
    assert list(seen) == [step["name"] for step in expected]
    for step in expected:
        for what, wanted in step["expect"].items():
            if (client, step["name"], what) not in SILENT:
                wanted = _schema(step, what) or wanted
                problem = _problem(what, wanted, seen[step["name"]], seen, laptop.model)
                assert problem is None, f"{step['name']}: {problem}\n{seen[step['name']]}"


def _schema(step: dict[str, Any], what: str) -> dict[str, Any] | None:
    """What the request holds a call, or an answer, to."""
    if what == "calls":
        return dict(step["request"]["tools"][0]["function"])
    return dict(step["request"]["response_format"]["json_schema"]["schema"]) if what == "form" else None


def _keeps_to(text: str, schema: dict[str, Any]) -> bool:
    try:
        jsonschema.validate(json.loads(text), schema)
    except (ValueError, jsonschema.ValidationError):
        return False
    return True


def _problem(
    what: str, wanted: Any, step: dict[str, Any], seen: dict[str, dict[str, Any]], model: str
) -> str | None:
    """What is wrong with one aspect of what a client reported; None where nothing is."""
    match what:
        case "status" | "finish" | "type" | "code" | "param":
            ok = step.get(what) in wanted
        case "models":
            ok = step["models"] == [model if name == "$model" else name for name in wanted]
        case "text":
            ok = bool(step["text"])
        case "vectors":
            ok = step["vectors"] == wanted
        case "pieces":
            ok = step["pieces"] >= wanted
        case "same_as":
            ok = step["text"] == seen[wanted]["text"]
        case "form":
            ok = _keeps_to(step["text"], wanted)
        case "calls":
            calls = step["calls"]
            ok = [name for _, name, _ in calls] == [wanted["name"]] and bool(calls[0][0])
            ok = ok and _keeps_to(calls[0][2], wanted["parameters"])
        case "usage":
            prompt, completion, total = step["usage"] or (0, 0, 0)
            ok = prompt > 0 and completion > 0 and total == prompt + completion
        case _:
            raise AssertionError(f"the scenario expects '{what}', which nobody judges")
    return None if ok else f"expected {what} {wanted}"


def test_a_step_that_goes_wrong_is_noticed() -> None:
    """The judge itself: each aspect can fail."""
    good = {
        "status": 200, "finish": "stop", "type": "t", "code": "c", "param": "p", "models": ["m"],
        "text": "1", "pieces": 2, "usage": [1, 2, 3], "calls": [["id", "f", "{}"]],
        "vectors": 1,
    }  # fmt: skip
    wanted = {
        "status": [200], "finish": ["stop"], "type": ["t"], "code": ["c"], "param": ["p"],
        "models": ["$model"], "text": True, "pieces": 2, "same_as": "x", "usage": True,
        "form": {"type": "integer"}, "calls": {"name": "f", "parameters": {"type": "object"}},
        "vectors": 1,
    }  # fmt: skip
    bad = {
        "status": 500, "finish": None, "type": "u", "code": None, "param": "q", "models": [],
        "text": "", "pieces": 1, "usage": [1, 2, 4], "calls": [["id", "f", "[]"]],
        "vectors": 2,
    }  # fmt: skip
    for what, value in wanted.items():
        assert _problem(what, value, good, {"x": good}, "m") is None
        assert _problem(what, value, bad, {"x": good}, "m") is not None
    assert {what for step in STEPS for what in step["expect"]} <= set(wanted)
