"""The OpenAPI document: it is whole, it is the one that is published, and it only ever grows."""

from __future__ import annotations

import ast
import copy
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from contracts.errors import STATUS_OF_TYPE, error_body, statuses_of
from lambdas.api.openapi import document
from lambdas.aws.model_errors import from_container
from lambdas.pipeline.messages.operation import MESSAGES
from lambdas.pipeline.operations import CHAT, EMBEDDINGS, TEXT_COMPLETION
from lambdas.pipeline.text_operations import CLASSIFY, MODERATIONS, RERANK, SCORE
from tests.support.front_door import chat
from tests.support.openapi_changes import VERSION_ONE, breaks

PUBLISHED = Path(__file__).resolve().parents[3] / "docs/openapi.json"


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_every_reference_leads_somewhere() -> None:
    whole = document()
    found = list(references(whole))
    assert found
    for reference in found:
        assert reference.removeprefix("#/components/schemas/") in whole["components"]["schemas"]


def test_every_operation_of_the_door_is_described() -> None:
    paths = document()["paths"]
    texts = (EMBEDDINGS, RERANK, SCORE, CLASSIFY, MODERATIONS)
    assert {each.route for each in (CHAT, MESSAGES, TEXT_COMPLETION, *texts)} <= set(paths)


def test_messages_are_described_with_their_own_key_statuses_and_errors() -> None:
    whole = document()
    message = whole["paths"][MESSAGES.route]["post"]
    assert [whole["components"]["securitySchemes"][name] for [name] in message["security"]] == [
        {"type": "apiKey", "in": "header", "name": "x-api-key"}
    ]
    expected = {str(MESSAGES.status(int(status))) for status in statuses("model")} - {"409"}
    assert expected <= set(message["responses"])
    assert "503" not in message["responses"]
    shapes = {
        reply["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[-1]
        for status, reply in message["responses"].items()
        if status >= "400"
    }
    assert shapes == {"MessageErrorReply"}


def test_schemas_accept_and_refuse_as_the_door_does() -> None:
    whole = document()
    schema = {**whole["components"]["schemas"]["ChatRequest"], "components": whole["components"]}
    validator = Draft202012Validator(schema)
    assert validator.is_valid(chat(stream=True, max_tokens=5))
    assert not validator.is_valid(chat(max_tokens=0))
    assert not validator.is_valid(chat(magic=1))
    assert not validator.is_valid({"model": "m"})


def test_the_published_document_is_current() -> None:
    current = json.loads(json.dumps(document()))
    assert json.loads(PUBLISHED.read_text()) == current, (
        "write it anew: python -m lambdas.api.openapi > docs/openapi.json"
    )


# --- what may go wrong -----------------------------------------------------------------------------------

LAMBDAS = Path(__file__).resolve().parents[3] / "lambdas"
SHARED = ("runtime/*.py", "pipeline/principals.py")
MODEL_ROUTES = (
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/rerank",
    "/v1/score",
    "/v1/classify",
    "/v1/moderations",
)
WORK_ROUTES = ("/v1/jobs", "/v1/files", "/v1/batches", "/v1/responses/")
CODE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "model": (MODEL_ROUTES, ("inference/**/*.py", "pipeline/**/*.py", "aws/*.py")),
    "work": (
        WORK_ROUTES,
        ("jobs/handler.py", "jobs/service.py", "jobs/responses.py", "pipeline/job_submission.py"),
    ),
    "rest": (("/v1/models", "/v1/feedback", "/v1/usage"), ("api/handler.py", "api/service.py")),
}
ONE_BY_ONE = {"409": "some calls only", "413": "calls with a body only"}


def refusals(pattern: str) -> Iterator[tuple[str, str, str | None]]:
    """The errors that a module raises: where, and type and status as they are written."""
    for path in LAMBDAS.glob(pattern):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "ApiError":
                status = next((word.value for word in node.keywords if word.arg == "status"), None)
                yield path.name, ast.unparse(node.args[0]), status and ast.unparse(status)


def statuses(function: str) -> set[str]:
    """Every status with which the code of a function refuses; the rest comes from a model."""
    found: set[str] = set()
    for where, kind, status in [each for p in (*CODE[function][1], *SHARED) for each in refusals(p)]:
        if "'" in kind and (status is None or status.isdigit()):
            name: Any = ast.literal_eval(kind)
            found.add(status or str(STATUS_OF_TYPE[name]))
            assert int(status or STATUS_OF_TYPE[name]) in statuses_of(name), f"{where}: {name} with {status}"
        else:
            assert where == "model_errors.py", f"{where} has an error whose status nobody can foretell"
            found |= {str(status) for kind in STATUS_OF_TYPE for status in statuses_of(kind)} - {"502"}
    return found


@pytest.mark.parametrize("function", CODE)
def test_every_status_the_code_can_refuse_with_is_described(function: str) -> None:
    whole = {
        f"{verb} {path}": each
        for path, verbs in document()["paths"].items()
        if path.startswith(CODE[function][0])
        for verb, each in verbs.items()
    }
    expected = statuses(function)
    assert {"400", "401", "404", "500"} <= expected
    for name, each in whole.items():
        assert expected - set(each["responses"]) - set(ONE_BY_ONE) == set(), name
        assert ("413" in each["responses"]) is ("requestBody" in each), name
    assert expected <= {status for each in whole.values() for status in each["responses"]}


@given(st.integers(0, 999), st.sampled_from([*STATUS_OF_TYPE, "teapot_error", None]))
def test_a_container_cannot_make_the_door_answer_otherwise(status: int, kind: Any) -> None:
    body = error_body(kind, "no") if kind else "<html>"
    told = from_container(status, body)
    assert told.status in statuses_of(told.type)
    responses = document_once()["paths"]["/v1/chat/completions"]["post"]["responses"]
    assert str(told.status) in responses


document_once = cache(document)


# --- compatibility ---------------------------------------------------------------------------------------


def schema(name: str) -> Any:
    """How to find one schema in a document."""
    return lambda whole: whole["components"]["schemas"][name]


chat_request, completion, receipt = schema("ChatRequest"), schema("ChatCompletion"), schema("FeedbackReceipt")
operation = lambda whole: whole["paths"]["/v1/chat/completions"]["post"]  # noqa: E731
BREAKING: dict[str, tuple[Any, str]] = {
    "a path": (lambda d: d["paths"].pop("/v1/usage"), "get /v1/usage is gone"),
    "a reply": (
        lambda d: operation(d)["responses"].pop("429"),
        "post /v1/chat/completions lost its reply 429",
    ),
    "streams": (
        lambda d: operation(d)["responses"]["200"]["content"].pop("text/event-stream"),
        "post /v1/chat/completions: a 200 is not text/event-stream any more",
    ),
    "another name for generated code": (
        lambda d: operation(d).update(operationId="talk"),
        "post /v1/chat/completions has another operationId",
    ),
    "other credentials": (
        lambda d: operation(d).update(security=[{"signature": []}]),
        "post /v1/chat/completions asks for other credentials",
    ),
    "a parameter": (
        lambda d: d["paths"]["/v1/usage"]["get"]["parameters"].pop(),
        "get /v1/usage: parameter end is gone",
    ),
    "a demanded parameter": (
        lambda d: d["paths"]["/v1/usage"]["get"]["parameters"][0].update(required=True),
        "get /v1/usage: parameter start has become required",
    ),
    "a field of a request": (
        lambda d: chat_request(d)["properties"].pop("stop"),
        "ChatRequest.stop is gone",
    ),
    "a demanded field": (
        lambda d: chat_request(d)["required"].append("user"),
        "ChatRequest.user has become required",
    ),
    "a lower limit": (
        lambda d: chat_request(d)["properties"]["messages"].update(maxItems=5),
        "ChatRequest.messages has a lower maxItems",
    ),
    "a higher limit, within a union": (
        lambda d: chat_request(d)["properties"]["max_tokens"]["anyOf"][0].update(minimum=2),
        "ChatRequest.max_tokens has a higher minimum",
    ),
    "one kind of a union": (
        lambda d: schema("Message")(d)["properties"]["content"]["anyOf"][0]["oneOf"].pop(0),
        "ChatRequest.messages[].content is not string any more",
    ),
    "a value": (
        lambda d: schema("Message")(d)["properties"]["role"]["enum"].remove("developer"),
        'ChatRequest.messages[].role does not take "developer" any more',
    ),
    "a field of a reply": (
        lambda d: completion(d)["properties"].pop("usage"),
        "ChatCompletion.usage is gone",
    ),
    "a field that may be missing": (
        lambda d: receipt(d)["required"].remove("request_id"),
        "FeedbackReceipt.request_id may be missing now",
    ),
    "another kind in a reply": (
        lambda d: receipt(d)["properties"]["created"].update(type="string"),
        "FeedbackReceipt.created may be string now",
    ),
    "a null in a reply": (
        lambda d: receipt(d)["properties"].update(id={"anyOf": [{"type": "string"}, {"type": "null"}]}),
        "FeedbackReceipt.id may be null now",
    ),
    "another constant": (
        lambda d: receipt(d)["properties"]["object"].update(const="thanks"),
        "FeedbackReceipt.object has other values now",
    ),
}


@pytest.mark.parametrize("change", BREAKING)
def test_a_breaking_change_is_noticed(change: str) -> None:
    break_it, said = BREAKING[change]
    changed = copy.deepcopy(document())
    break_it(changed)
    assert breaks(document(), changed) == [said]


ADDITIONS: dict[str, Any] = {
    "a path": lambda d: d["paths"].update({"/v1/new": d["paths"]["/v1/usage"]}),
    "an optional field": lambda d: chat_request(d)["properties"].update(mood={"type": "string"}),
    "a wider limit": lambda d: chat_request(d)["properties"]["messages"].update(maxItems=10_000),
    "no limit": lambda d: chat_request(d)["properties"]["messages"].pop("maxItems"),
    "a field that need not be sent": lambda d: chat_request(d)["required"].remove("model"),
    "a value": lambda d: schema("Message")(d)["properties"]["role"]["enum"].append("critic"),
    "a kind": lambda d: chat_request(d)["properties"]["seed"]["anyOf"].append({"type": "string"}),
    "a field of a reply": lambda d: completion(d)["properties"].update(mood={"type": "string"}),
    "a field that is always there now": lambda d: schema("ErrorObject")(d)["required"].append("code"),
    "a reply": lambda d: operation(d)["responses"].update({"226": {"description": "Changed."}}),
    "a parameter": lambda d: (
        operation(d)
        .setdefault("parameters", [])
        .append({"name": "x", "in": "query", "schema": {"type": "string"}})
    ),
}


@pytest.mark.parametrize("change", ADDITIONS)
def test_an_addition_passes(change: str) -> None:
    changed = copy.deepcopy(document())
    ADDITIONS[change](changed)
    assert changed != document()
    assert breaks(document(), changed) == []


def test_nothing_of_version_one_is_broken() -> None:
    assert breaks(json.loads(VERSION_ONE.read_text()), json.loads(json.dumps(document()))) == []
