"""`POST /invocations`: one request from its first byte to its last log line, whatever it asks for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from model_code.serving.errors import ServingError, internal, overloaded
from model_code.serving.http.connection import ClientDisconnectedError, read_body, wait_for_disconnect
from model_code.serving.http.request_headers import RequestHeaders
from model_code.serving.http.response_sender import ResponseSender
from model_code.serving.http.sessions import Sessions
from model_code.serving.logs import REQUEST_IDS
from model_code.serving.metrics import Metrics
from model_code.serving.settings import ServerSettings

logger = logging.getLogger(__name__)


class ServedModel(Protocol):
    """What every kind of service has that a request needs, whatever it asks for."""

    settings: ServerSettings
    metrics: Metrics
    cut_off: asyncio.Event


class Call(Protocol):
    """One request of one operation."""

    async def run(self, body: bytes) -> None:
        """Parse, compute, reply. Raises ServingError."""

    def report(self, failure: str | None) -> None:
        """Count the request and write its log line; called once, at the end."""


class Invocations:
    """The ASGI application behind `POST /invocations`."""

    def __init__(
        self, service: ServedModel, new_call: Callable[[ResponseSender, RequestHeaders], Call]
    ) -> None:
        self._service = service
        self._new_call = new_call
        settings = service.settings
        self._sessions = Sessions(
            enabled=settings.sessions, seconds=settings.session_seconds, limit=settings.max_sessions
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; every outcome ends in exactly one reply and one log line."""
        headers = RequestHeaders.read(Headers(scope=scope))
        # The context is this request's own: uvicorn runs each in a task of its own.
        REQUEST_IDS.set(headers.ids)
        reply = ResponseSender(send, [(b"x-request-id", headers.request_id.encode())])
        call = self._new_call(reply, headers)
        failure: str | None = None
        try:
            body = await read_body(receive)
            session = self._sessions.handle(headers.session, body)
            if session is not None:
                reply.add_header(session.header, session.value)
            if session is not None and session.text is not None:
                await reply.text(session.text)
            else:
                bound = self._service.settings.request_timeout
                seconds = bound if headers.timeout is None else min(bound, headers.timeout)
                await self._guard(call, body, receive, seconds)
        except ClientDisconnectedError:
            self._service.metrics.count_cancellation()
            failure = "client_disconnected"
        except ServingError as error:
            failure = error.code or error.type
            await reply.fail(error)
        except Exception:
            failure = "internal_error"
            logger.exception("request failed")
            await reply.fail(internal())
        call.report(failure)

    async def _guard(self, call: Call, body: bytes, receive: Receive, seconds: float) -> None:
        """Run a call until it ends, its client goes, its time is up or the server must stop."""
        work = asyncio.create_task(call.run(body))
        gone = asyncio.create_task(wait_for_disconnect(receive))
        cut = asyncio.create_task(self._service.cut_off.wait())
        tasks = {work, gone, cut}
        try:
            done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if work in done:
            work.result()
        elif gone in done:
            raise ClientDisconnectedError
        elif cut in done:
            raise overloaded("The server is shutting down and could not finish this answer.", code="draining")
        else:
            text = f"The answer was not finished within {seconds:g} s."
            raise ServingError("timeout_error", text, code="request_timeout")
