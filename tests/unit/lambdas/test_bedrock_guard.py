"""Bedrock Guardrails as a guard: what its assessments mean, over HTTP as the service answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from door_world import SETTINGS, Door, chat

from contracts.guards import BedrockSettings, GuardSettings
from lambdas.inference.guards.base import Action
from lambdas.inference.guards.bedrock import BedrockGuardrail

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
    """The service: `answer` gets source and text. Also yields the paths asked for."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            paths.append(self.path)
            status, reply = answer(request["source"], request["content"][0]["text"]["text"])
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
