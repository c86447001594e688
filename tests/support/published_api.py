"""Requests made from the API's own document, good and bad, against a deployed API.

python -m tests.support.published_api [--minutes 10] [--seed N]     # the laptop cloud that runs

Half of the time with a fixed seed, which finds again what it found before, half with a random one, which is
printed. Whatever comes, nothing fails, and each answer has a status and a shape that the document names.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import urllib.request
from typing import Any

import jsonschema
import schemathesis
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from lambdas.api.openapi import document
from local.home import Home

FIXED_SEED = 20_261_130
SCHEMA = schemathesis.openapi.from_dict(document())
MESSAGES = "/v1/messages"
_LIMITS = {"/v1/responses": "max_output_tokens"}
_MOST_EXAMPLES = 20_000


def check(case: Any, api_url: str, api_key: str, model: str) -> None:
    """Send a request and hold its answer against the document. Raises what is wrong with it."""
    _bound(case, model)
    headers = {"x-api-key": api_key} if case.path == MESSAGES else {"Authorization": f"Bearer {api_key}"}
    reply = case.call(base_url=api_url.removesuffix("/v1"), headers=headers, timeout=120)
    checks = [not_a_server_error, status_code_conformance]
    if reply.headers["content-type"][0].startswith("text/event-stream"):
        _events_conform(case.path, reply.content.decode())
    else:
        checks.append(response_schema_conformance)
    case.validate_response(reply, checks=checks)


def _events_conform(path: str, stream: str) -> None:
    """Each event's data is what the document says of a stream; Schemathesis would look at the event."""
    content = document()["paths"][path]["post"]["responses"]["200"]["content"]
    shape = {**content["text/event-stream"]["schema"], "components": document()["components"]}
    lines = [line[6:] for line in stream.splitlines() if line.startswith("data: ") and line != "data: [DONE]"]
    assert lines, stream
    for line in lines:
        event = json.loads(line)
        if "error" not in event:
            jsonschema.validate(event, shape)


def _bound(case: Any, model: str) -> None:
    """Requests that are right in all but the model's name ask for this model, and for few tokens."""
    body = case.body
    if not isinstance(body, dict) or not isinstance(body.get("model"), str) or not len(body["model"]) % 2:
        return
    body["model"] = model
    limits = ("max_tokens", "max_completion_tokens", "max_output_tokens")
    for name in limits:
        if isinstance(body.get(name), int):
            body[name] = min(body[name], 3)
    generates = "messages" in body or "prompt" in body or case.path in _LIMITS
    if generates and not any(name in body for name in limits):
        body[_LIMITS.get(case.path, "max_tokens")] = 3


def _tried(
    operation: Any, seconds: float, number: int, access: tuple[str, str, str]
) -> tuple[int, str | None]:
    """How many requests one operation got in that time, and what was wrong, if anything was."""
    ends, sent = time.monotonic() + seconds, 0

    @seed(number)
    @settings(
        max_examples=_MOST_EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def tries(case: Any) -> None:
        nonlocal sent
        if time.monotonic() < ends:
            sent += 1
            check(case, *access)
        elif sent:
            raise KeyboardInterrupt  # the one way to end a run early

    try:
        tries()
    except KeyboardInterrupt:
        return sent, None
    except Exception as problem:
        return sent, str(problem)
    return sent, None


def main(words: list[str] | None = None) -> int:
    """Try every operation against the running laptop cloud; print what is wrong; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    given_ = parser.parse_args(words)
    home = Home.from_environment()
    if not home.outputs.exists():
        print(f"evergreen: no laptop cloud in {home.root}: run `make up` first", file=sys.stderr)
        return 2
    outputs = json.loads(home.outputs.read_text(encoding="utf-8"))
    access = (outputs["api_url"], outputs["api_key"], _model(outputs["api_url"], outputs["api_key"]))
    found: list[Any] = list(SCHEMA.get_all_operations())
    operations = [each.ok() for each in found]
    seconds = 60 * given_.minutes / len(operations) / 2
    wrong = 0
    for number in (FIXED_SEED, given_.seed):
        print(f"seed {number}", flush=True)
        for operation in operations:
            sent, problem = _tried(operation, seconds, number, access)
            print(
                f"{'✗' if problem else '✓'} {sent:5} {operation.method.upper():6} {operation.path}",
                flush=True,
            )
            if problem:
                wrong += 1
                print(problem, flush=True)
    return 1 if wrong else 0


def _model(api_url: str, api_key: str) -> str:
    request = urllib.request.Request(f"{api_url}/models", headers={"Authorization": f"Bearer {api_key}"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        return str(json.load(reply)["data"][0]["id"])


if __name__ == "__main__":
    sys.exit(main())
