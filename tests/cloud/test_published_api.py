"""The deployed door against the API that it publishes: Schemathesis makes requests from the document,
good and bad.

Whatever comes, nothing fails, and each answer has a status and a shape that the document names.
"""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from lambdas.api.openapi import document
from tests.support.laptop import Laptop

EXAMPLES = 5
schema = schemathesis.openapi.from_dict(document())


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_operation_answers_as_published(laptop: Laptop, case: Any) -> None:
    _bound(case, laptop.model)
    base = laptop.api_url.removesuffix("/v1")
    reply = case.call(base_url=base, headers=laptop.headers, timeout=120)
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
    if isinstance(body, dict) and isinstance(body.get("model"), str) and len(body["model"]) % 2:
        body["model"] = model
        for name in ("max_tokens", "max_completion_tokens"):
            if isinstance(body.get(name), int):
                body[name] = min(body[name], 3)
        if "max_tokens" not in body and "max_completion_tokens" not in body and "input" not in body:
            body["max_tokens"] = 3


def test_every_published_operation_is_tried() -> None:
    tried = {(operation.ok().method, operation.ok().path) for operation in schema.get_all_operations()}
    published = {(verb, path) for path, verbs in document()["paths"].items() for verb in verbs}
    assert tried == published


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Schemathesis reads settings of its own from the working folder if there are any."""
    monkeypatch.delenv("SCHEMATHESIS_HOOKS", raising=False)
