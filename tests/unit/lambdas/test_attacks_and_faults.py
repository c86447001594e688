"""Attacks on keys and stickiness, and tables that throttle: what the tests of single parts leave open.

The whole list, with the test that shows each survived, stands in docs/attacks.md.
"""

from __future__ import annotations

import ast
import inspect
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from contracts import metrics
from contracts.access import AccessKey, key_pk
from contracts.routing import Routing, VariantRoute
from lambdas.authorizer import service as authorizer
from lambdas.authorizer.service import AuthorizationError, Authorizer
from lambdas.aws import client as aws
from lambdas.aws.access_table import AccessTable
from lambdas.aws.dynamodb import DynamoDB, DynamoError
from tests.support.front_door import AUTHORIZER, SETTINGS, Door, chat, emitted

# --- keys ------------------------------------------------------------------------------------------------

SECRET = "eg-" + "s" * 43
KEY = AccessKey(
    pk=key_pk(SECRET), tenant="shop", name="web", usage_identifier="u", scopes=["inference"], created_at=1
)


class Keys:
    """One key, and the look-ups made."""

    def __init__(self, **changes: Any) -> None:
        self.key = KEY.model_copy(update=changes)
        self.asked: list[str] = []

    def find(self, pk: str) -> AccessKey | None:
        self.asked.append(pk)
        return self.key if pk == self.key.pk else None


@pytest.mark.parametrize(
    ("secret", "changes"),
    [
        ("eg-" + "x" * 43, {}),
        (SECRET[:-1] + "t", {}),
        (SECRET, {"revoked": True}),
        (SECRET, {"expires_at": 5}),
    ],
)
def test_every_wrong_key_costs_the_same_one_look_up(secret: str, changes: dict[str, Any]) -> None:
    """No early way out: unknown, nearly right, revoked and expired take the same steps in the same order."""
    keys = Keys(**changes)
    with pytest.raises(AuthorizationError):
        Authorizer(keys).admit({"headers": {"authorization": f"Bearer {secret}"}, "methodArn": "a/b/c"})
    assert keys.asked == [key_pk(secret)]


def test_no_secret_is_ever_compared_with_another() -> None:
    """Keys are found by their digest; wherever the authorizer compares, a secret is no side of it."""
    compared = [
        side.id
        for node in ast.walk(ast.parse(inspect.getsource(authorizer)))
        if isinstance(node, ast.Compare)
        and any(isinstance(operator, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for operator in node.ops)
        for side in (node.left, *node.comparators)
        if isinstance(side, ast.Name)  # its length, or how many dots it has, tells nothing
    ]
    assert not {"secret", "token"} & set(compared)


# --- stickiness ------------------------------------------------------------------------------------------


def test_another_tenants_user_id_is_another_user(door: Door) -> None:
    """Naming a stranger's user gives nobody that user's variant: the tenant is part of who it is."""
    variants = [
        VariantRoute(name=name, weight=0.5, model_version=name) for name in ("champion", "challenger")
    ]
    door.route(Routing(endpoint_name=SETTINGS.endpoint_name, experiment="e", variants=variants))
    asked = {}
    for tenant in ("shop", "thief"):
        for user in range(40):
            door.ask(chat(user=f"u{user}"), **{**AUTHORIZER, "tenant": tenant})
        calls, door.sagemaker.calls = door.sagemaker.calls, []
        asked[tenant] = [headers["x-amzn-sagemaker-target-variant"] for headers, _ in calls]
    same = sum(mine == theirs for mine, theirs in zip(asked["shop"], asked["thief"], strict=True))
    assert 5 < same < 35


# --- tables that throttle --------------------------------------------------------------------------------


class _Throttles(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked = 0

    def do_POST(self) -> None:
        type(self).asked += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps(
            {"__type": "com.amazonaws.dynamodb#ThrottlingException", "message": "slow"}
        ).encode()
        self.send_response(400)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Tests read standard output."""


@contextmanager
def throttling() -> Iterator[str]:
    _Throttles.asked = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Throttles)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_tables_that_throttle_cost_records_and_no_answer(
    make_door: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(aws, "PAUSE_SECONDS", 0.001)
    with throttling() as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", url)
        reply, body = make_door(SETTINGS).ask(chat(), **{**AUTHORIZER, "tokens_per_day": "1000"})
    assert (reply.status, json.loads(body)["choices"][0]["message"]["content"]) == (200, "Hello")
    printed = capsys.readouterr().out
    assert len(emitted(printed, metrics.BUDGET_UNCHECKED)) == len(emitted(printed, metrics.RECORDS_LOST)) == 1
    # Four calls (budget, routing, settling, record), each given up after its third attempt.
    assert _Throttles.asked == 12


def test_an_authorizer_that_is_throttled_fails_and_refuses_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller with a good key must not hear that it is bad: all but AuthorizationError become a 500."""
    monkeypatch.setattr(aws, "PAUSE_SECONDS", 0.001)
    with throttling() as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", url)
        keys = AccessTable("access", DynamoDB())
        with pytest.raises(DynamoError, match="ThrottlingException"):
            Authorizer(keys).admit({"headers": {"Authorization": f"Bearer {SECRET}"}, "methodArn": "a/b/c"})
