"""One line of a task through the very pipeline that answers callers: same guards, budgets and records."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from contracts.tasks import Task
from lambdas.pipeline.batch_lines import Outcome, request_of
from lambdas.pipeline.request import IncomingRequest
from lambdas.runtime import logs
from lambdas.runtime.errors import ApiError
from lambdas.runtime.streaming import StreamingReply

_DEFECT = ApiError("server_error", "The server failed to answer. The failure has been logged.")


class Answering(Protocol):
    """The pipeline; see `lambdas.pipeline.assembly.Service`."""

    def answer(self, route: str, incoming: IncomingRequest) -> StreamingReply: ...


def ask(
    service: Answering,
    task: Task,
    number: int,
    text: bytes,
    seconds: float,
    trace: str | None,
    again: Callable[[int], bool],
) -> Outcome:
    """The outcome of line `number`. Never raises for what is wrong with the line or the model.

    The request's id is the task's with the line's number: asking again replaces its record. `again` says
    after which status that will be done: of all tries the last one counts as the request it is.
    """
    request_id = f"{task.id}-{number}"
    logs.correlate(request_id, trace)
    request = request_of(text)
    # As short as the caller may have sent it: a larger one could be too large.
    body = json.dumps(_whole(request.body), ensure_ascii=False, separators=(",", ":"))
    now = time.time()
    incoming = IncomingRequest(
        request_id=request_id,
        body=body.encode(),
        authorizer=task.authorizer,
        headers={},
        trace_id=trace,
        received_at=now,
        deadline_ms=int((now + seconds) * 1000),
        will_retry=again,
    )
    reply = service.answer(request.url, incoming)
    try:
        content = b"".join(reply.body)
    finally:
        reply.after()
    try:
        answer = json.loads(content)
    except ValueError:
        return Outcome(number, request_id, 500, json.loads(_DEFECT.body))
    return Outcome(number, request_id, reply.status, answer, _retry_after(reply.headers))


def _whole(body: dict[str, Any]) -> dict[str, Any]:
    """The body of a request whose answer comes whole."""
    return {name: value for name, value in body.items() if name != "stream"}


def _retry_after(headers: Mapping[str, str]) -> int | None:
    value = headers.get("retry-after", "")
    return int(value) if value.isascii() and value.isdigit() else None
