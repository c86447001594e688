"""Entry of the streaming function: event in, `StreamingReply` out. Everything else stands in `service`."""

from __future__ import annotations

import time
from typing import Any

from contracts.chat import ChatRequest
from lambdas.pipeline.assembly import from_environment
from lambdas.pipeline.request import IncomingRequest
from lambdas.runtime import environment, logs
from lambdas.runtime import http_event as requests
from lambdas.runtime.streaming import Context, StreamingReply

ChatRequest.model_rebuild()  # now, while nobody waits: the models of other requests are built by the first
_service = from_environment(environment.variables())


def handler(event: dict[str, Any], context: Context) -> StreamingReply:
    """Answer one request on a route that calls the model."""
    request_id = requests.request_id(event)
    logs.correlate(request_id, context.trace_id)
    incoming = IncomingRequest(
        request_id=request_id,
        body=requests.body_bytes(event),
        authorizer=event["requestContext"].get("authorizer") or {},
        headers=requests.headers(event),
        trace_id=context.trace_id,
        received_at=time.time(),
        deadline_ms=context.deadline_ms or None,
        principal=requests.principal(event),
    )
    return _service.answer(requests.route(event), incoming)
