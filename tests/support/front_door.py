"""A front door to ask, and what its tests share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from contracts.access import routing_pk
from contracts.routing import Routing
from lambdas.aws.dynamodb import from_item, to_item
from lambdas.pipeline.environment import InferenceEnvironment
from lambdas.pipeline.operations import CHAT
from lambdas.pipeline.request import IncomingRequest
from lambdas.runtime.streaming import StreamingReply
from tests.support.fake_model_endpoint import FakeSageMaker

MODEL = "smollm2"
ENDPOINT = "evergreen-test"
SETTINGS = InferenceEnvironment(
    environment="test",
    access_table="access",
    endpoint_name=ENDPOINT,
    model_name=MODEL,
    model_version="v1",
    records_table="records",
    record_ttl_days=7,
    max_body_bytes=1_000_000,
)
Headers = Mapping[str, str]
NONE: Headers = {}
AUTHORIZER = {"tenant": "shop", "key_name": "web", "scopes": "inference"}


@dataclass
class Door:
    """Asks the pipeline as API Gateway would, and reads what it answered."""

    sagemaker: FakeSageMaker
    tables: Any
    service: Any

    def ask(
        self, body: bytes | dict[str, Any], *, route: str = CHAT.route, headers: Headers = NONE, **caller: str
    ) -> tuple[StreamingReply, bytes]:
        """The reply and its whole body; what runs afterwards has run."""
        reply = self.start(body, route=route, headers=headers, **caller)
        text = b"".join(reply.body)
        reply.after()
        return reply, text

    def start(
        self,
        body: bytes | dict[str, Any],
        *,
        route: str = CHAT.route,
        headers: Headers = NONE,
        request_id: str = "req-1",
        **caller: str,
    ) -> StreamingReply:
        """The reply, its body still to be read."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        incoming = IncomingRequest(
            request_id, raw, caller or AUTHORIZER, dict(headers), None, 1_700_000_000.0
        )
        reply: StreamingReply = self.service.answer(route, incoming)
        return reply

    def error(self, body: bytes | dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and error object of a refused request."""
        reply, text = self.ask(body)
        error: dict[str, Any] = json.loads(text)["error"]
        return reply.status, error

    def route(self, routing: Routing) -> None:
        """Put the routing item."""
        item = {"pk": routing_pk(routing.endpoint_name), **routing.model_dump()}
        self.tables.put_item(TableName="access", Item=to_item(item))

    def record(self) -> dict[str, Any] | None:
        """The row kept of the request."""
        key = {"pk": {"S": "req-1"}, "sk": {"S": "RECORD"}}
        item = self.tables.get_item(TableName="records", Key=key).get("Item")
        return from_item(item) if item else None


def chat(text: str = "Hi", **fields: Any) -> dict[str, Any]:
    """A chat request."""
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **fields}


def events(body: bytes) -> list[Any]:
    """The payloads of a streamed reply, parsed; `[DONE]` stays text."""
    payloads = [block.removeprefix(b"data: ") for block in body.split(b"\n\n") if block]
    return [payload.decode() if payload == b"[DONE]" else json.loads(payload) for payload in payloads]


def emitted(output: str, metric: str) -> list[dict[str, Any]]:
    """The metric lines that carry a metric."""
    lines = [json.loads(line) for line in output.splitlines()]
    return [line for line in lines if "_aws" in line and metric in line]
