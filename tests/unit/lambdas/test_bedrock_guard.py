"""Bedrock Guardrails as a guard: what its assessments mean, over HTTP as the service answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, get_args

import botocore.session
import pytest
from botocore.validate import ParamValidator

from contracts.guards import (
    AttackCategory,
    BedrockSettings,
    ContentCategory,
    GuardrailChecks,
    GuardSettings,
    PersonalData,
)
from lambdas.pipeline.guards.base import Action
from lambdas.pipeline.guards.bedrock import BedrockGuardrail, BedrockScores, TruncatedResultError
from tests.support.front_door import SETTINGS, Door, chat

NOTHING = {"action": "NONE", "outputs": [], "assessments": []}


def intervened(**policies: Any) -> dict[str, Any]:
    return {"action": "GUARDRAIL_INTERVENED", "outputs": [], "assessments": [policies]}


@pytest.mark.parametrize(
    ("policies", "label"),
    [
        ({"topicPolicy": {"topics": [{"name": "Legal advice", "action": "BLOCKED"}]}}, "legal_advice"),
        ({"contentPolicy": {"filters": [{"type": "HATE", "action": "BLOCKED"}]}}, "hate"),
        ({"wordPolicy": {"customWords": [{"match": "x", "action": "BLOCKED"}]}}, "word"),
    ],
)
def test_what_it_blocks_is_refused(policies: dict[str, Any], label: str) -> None:
    (finding,) = BedrockGuardrail(lambda text: intervened(**policies)).check("hello")
    assert (finding.action, finding.label) == (Action.BLOCK, label)


def test_what_it_anonymises_is_masked_everywhere() -> None:
    entity = {"type": "NAME", "match": "Ann", "action": "ANONYMIZED"}
    reply = intervened(sensitiveInformationPolicy={"piiEntities": [entity]})
    findings = BedrockGuardrail(lambda text: reply).check("Ann met Ann")
    assert [(finding.start, finding.end, finding.label) for finding in findings] == [
        (0, 3, "name"),
        (8, 11, "name"),
    ]


def test_what_it_only_detects_passes() -> None:
    entry = {"type": "HATE", "action": "NONE", "detected": True}
    reply = intervened(contentPolicy={"filters": [entry]})
    assert BedrockGuardrail(lambda text: reply).check("x") == []
    assert BedrockGuardrail(lambda text: NOTHING).check("x") == []


# --- through the door ------------------------------------------------------------------------------------


@contextmanager
def bedrock(answer: Callable[[str, str], tuple[int, dict[str, Any]]]) -> Iterator[tuple[str, list[str]]]:
    """A guardrail: `answer` gets source and text. Also yields the paths asked for."""
    with bedrock_service(lambda asked: answer(asked["source"], asked["content"][0]["text"]["text"])) as made:
        yield made


@contextmanager
def bedrock_service(
    answer: Callable[[dict[str, Any]], tuple[int, dict[str, Any]]],
) -> Iterator[tuple[str, list[str]]]:
    """The service: `answer` gets the parsed request. Also yields the paths asked for."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            paths.append(self.path)
            status, reply = answer(request)
            body = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", paths
    finally:
        server.shutdown()
        server.server_close()


def door_with(
    make_door: Callable[..., Door], url: str, monkeypatch: pytest.MonkeyPatch, *, fail_open: bool = False
) -> Door:
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", url)
    guardrail = BedrockSettings(guardrail_id="gr1", version="3")
    guards = GuardSettings(bedrock=guardrail, fail_open=fail_open)
    return make_door(SETTINGS.model_copy(update={"guards": guards}))


def test_prompts_and_answers_are_checked_in_their_own_direction(
    make_door: Callable[..., Door], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, str]] = []

    def answer(source: str, text: str) -> tuple[int, dict[str, Any]]:
        seen.append((source, text))
        return 200, NOTHING

    with bedrock(answer) as (url, paths):
        reply, _ = door_with(make_door, url, monkeypatch).ask(chat("Hi"))
    assert reply.status == 200
    assert seen == [("INPUT", "Hi"), ("OUTPUT", "Hello")]
    assert set(paths) == {"/guardrail/gr1/version/3/apply"}


def test_a_blocked_prompt_never_reaches_the_model(
    make_door: Callable[..., Door], monkeypatch: pytest.MonkeyPatch
) -> None:
    reply_of = intervened(topicPolicy={"topics": [{"name": "Legal", "action": "BLOCKED"}]})
    with bedrock(lambda source, text: (200, reply_of)) as (url, _):
        door = door_with(make_door, url, monkeypatch)
        _, body = door.ask(chat("Sue them"))
    assert json.loads(body)["choices"][0]["content_filter"] == "bedrock:legal"
    assert door.sagemaker.calls == []


@pytest.mark.parametrize(("fail_open", "status"), [(False, 503), (True, 200)])
def test_a_provider_that_is_down_closes_the_door_unless_told_otherwise(
    make_door: Callable[..., Door], monkeypatch: pytest.MonkeyPatch, fail_open: bool, status: int
) -> None:
    with bedrock(lambda source, text: (500, {})) as (url, _):
        reply, _ = door_with(make_door, url, monkeypatch, fail_open=fail_open).ask(chat("Hi"))
    assert reply.status == status


# --- checks that take no guardrail -----------------------------------------------------------------------


def scored(**results: Any) -> dict[str, Any]:
    """A reply of InvokeGuardrailChecks."""
    return {"results": {kind: {"results": entries} for kind, entries in results.items()}, "usage": {}}


def name_at(start: int, end: int, confidence: float = 0.9) -> dict[str, Any]:
    place = {"beginOffset": start, "endOffset": end, "messageIndex": 0, "contentIndex": 0}
    return {"type": "NAME", "confidenceScore": confidence, **place}


def test_scores_count_from_where_the_settings_say() -> None:
    reply = scored(
        contentFilter=[
            {"category": "HATE", "severityScore": 0.7},
            {"category": "INSULTS", "severityScore": 0.69},
        ],
        promptAttack=[{"category": "JAILBREAK", "severityScore": 1.0}],
        sensitiveInformation=[name_at(0, 3), name_at(4, 7, 0.2)],
    )
    guard = BedrockScores(GuardrailChecks(content=["HATE"], severity=0.7, confidence=0.3), lambda text: reply)
    found = [(each.label, each.action, each.start, each.end) for each in guard.check("Ann met Bob")]
    assert found == [
        ("hate", Action.BLOCK, 0, 11),
        ("jailbreak", Action.BLOCK, 0, 11),
        ("name", Action.MASK, 0, 3),
    ]


def test_what_it_does_not_tell_in_full_is_a_failure() -> None:
    reply = scored(sensitiveInformation=[name_at(0, 3)])
    reply["results"]["sensitiveInformation"]["truncated"] = True
    guard = BedrockScores(GuardrailChecks(personal_data=["NAME"]), lambda text: reply)
    with pytest.raises(TruncatedResultError):
        guard.check("Ann")
    assert guard.check(" ") == []


def model_of(operation: str) -> tuple[Any, Any]:
    """The service's own description of an operation: its request and its reply."""
    model = botocore.session.get_session().get_service_model("bedrock-runtime").operation_model(operation)
    return model.input_shape, model.output_shape


def test_the_checks_are_called_as_the_service_describes(
    make_door: Callable[..., Door], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def answer(request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        asked.append(request)
        text = request["messages"][0]["content"][0]["text"]
        at = text.find("Ann")
        return 200, scored(sensitiveInformation=[name_at(at, at + 3)] if at >= 0 else [])

    checks = GuardrailChecks(content=["HATE"], attacks=["JAILBREAK"], personal_data=["NAME", "URL"])
    with bedrock_service(answer) as (url, paths):
        monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", url)
        door = make_door(SETTINGS.model_copy(update={"guards": GuardSettings(bedrock_checks=checks)}))
        reply, _ = door.ask(chat("I am Ann"))
    assert (reply.status, set(paths)) == (200, {"/guardrail-checks/invoke"})
    assert json.loads(door.sagemaker.calls[0][1])["messages"][0]["content"] == "I am [NAME_1]"
    prompt, said = asked
    assert (prompt["messages"][0]["role"], said["messages"][0]["role"]) == ("user", "assistant")
    assert "promptAttack" in prompt["checks"]
    assert "promptAttack" not in said["checks"]
    request, response = model_of("InvokeGuardrailChecks")
    for each in asked:
        assert ParamValidator().validate(each, request).generate_report() == ""
    assert ParamValidator().validate(answer(prompt)[1], response).generate_report() == ""


def test_every_name_in_the_settings_is_one_of_the_service() -> None:
    request, _ = model_of("InvokeGuardrailChecks")
    offered = request.members["checks"].members
    categories = {
        name: offered[name].members["categories"].member for name in ("contentFilter", "promptAttack")
    }
    named = {name: set(shape.members["category"].enum) for name, shape in categories.items()}
    assert named == {
        "contentFilter": {*get_args(ContentCategory)},
        "promptAttack": {*get_args(AttackCategory)},
    }
    entity = offered["sensitiveInformation"].members["entities"].member.members["type"]
    assert set(entity.enum) == set(get_args(PersonalData))


def test_answers_are_not_asked_about_where_only_attacks_are_looked_for(
    make_door: Callable[..., Door], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = scored(promptAttack=[{"category": "PROMPT_LEAKAGE", "severityScore": 0.8}])
    checks = GuardrailChecks(attacks=["PROMPT_LEAKAGE"])
    with bedrock_service(lambda request: (200, found)) as (url, paths):
        monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", url)
        door = make_door(SETTINGS.model_copy(update={"guards": GuardSettings(bedrock_checks=checks)}))
        _, body = door.ask(chat("Say it"))
    assert json.loads(body)["choices"][0]["content_filter"] == "bedrock_checks:prompt_leakage"
    assert (len(paths), door.sagemaker.calls) == (1, [])


def test_checks_that_are_refused_close_the_door(
    make_door: Callable[..., Door], monkeypatch: pytest.MonkeyPatch
) -> None:
    with bedrock_service(lambda request: (403, {"message": "no"})) as (url, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", url)
        guards = GuardSettings(bedrock_checks=GuardrailChecks(content=["HATE"]))
        door = make_door(SETTINGS.model_copy(update={"guards": guards}))
        status, error = door.error(chat("Hi"))
    assert (status, error["code"]) == (503, "guard_unavailable")
