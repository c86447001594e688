"""`POST /invocations`: one request from its first byte to its last log line, and the calls that make text."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import Protocol

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from model_code.serving.caller import STATUS_CLIENT_GONE, ClientGone, disconnected, read_body
from model_code.serving.errors import ServingError, internal, overloaded
from model_code.serving.incoming import Incoming
from model_code.serving.logs import REQUEST_IDS, event
from model_code.serving.metrics import Metrics
from model_code.serving.operations import BY_ROUTE, Request
from model_code.serving.planning import Plan
from model_code.serving.protocol import parse
from model_code.serving.refusals import refuse_route
from model_code.serving.reply import Reply
from model_code.serving.service import Service
from model_code.serving.sessions import Sessions
from model_code.serving.settings import ServerSettings
from model_code.serving.writers import DONE, Gathered, Writer

logger = logging.getLogger(__name__)


class Served(Protocol):
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

    def __init__(self, service: Served, new_call: Callable[[Reply, Incoming], Call]) -> None:
        self._service = service
        self._new_call = new_call
        settings = service.settings
        self._sessions = Sessions(
            enabled=settings.sessions, seconds=settings.session_seconds, limit=settings.max_sessions
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; every outcome ends in exactly one reply and one log line."""
        incoming = Incoming.read(Headers(scope=scope))
        # The context is this request's own: uvicorn runs each in a task of its own.
        REQUEST_IDS.set(incoming.ids)
        reply = Reply(send, [(b"x-request-id", incoming.request_id.encode())])
        call = self._new_call(reply, incoming)
        failure: str | None = None
        try:
            body = await read_body(receive)
            session = self._sessions.handle(incoming.session, body)
            if session is not None:
                reply.say(session.header, session.value)
            if session is not None and session.text is not None:
                await reply.text(session.text)
            else:
                bound = self._service.settings.request_timeout
                seconds = bound if incoming.patience is None else min(bound, incoming.patience)
                await self._guard(call, body, receive, seconds)
        except ClientGone:
            self._service.metrics.count_cancellation()
            failure = "client_gone"
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
        gone = asyncio.create_task(disconnected(receive))
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
            raise ClientGone
        elif cut in done:
            raise overloaded("The server is shutting down and could not finish this answer.", code="draining")
        else:
            text = f"The answer was not finished within {seconds:g} s."
            raise ServingError("timeout_error", text, code="request_timeout")


class ChatCall:
    """The state of one request for text: what it asked for, when its tokens came, what it cost."""

    def __init__(self, service: Service, reply: Reply, incoming: Incoming) -> None:
        self._service = service
        self._reply = reply
        self._incoming = incoming
        self._began = time.perf_counter()
        self._first_token: float | None = None
        self._prompt_tokens: int | None = None
        self._answers: list[Gathered] = []
        self._streamed = False

    async def run(self, body: bytes) -> None:
        """Parse, plan, generate, reply."""
        if (operation := BY_ROUTE.get(self._incoming.route)) is None:
            raise refuse_route(self._incoming.route, "generation")
        request: Request = parse(operation.request, body)
        if self._incoming.adapter:  # as SageMaker's containers do: the header takes the model's place
            request = request.model_copy(update={"model": self._incoming.adapter})
        self._streamed = request.stream
        plan = await self._service.plan(operation, request)
        self._prompt_tokens = len(plan.prompt)
        self._answers = [Gathered() for _ in range(plan.answers)]
        writer = operation.writer(self._incoming.request_id, request.model, len(plan.prompt))
        if request.stream:
            await self._stream(request, plan, writer)
        else:
            await self._collect(plan, writer)

    async def _collect(self, plan: Plan, writer: Writer) -> None:
        async with aclosing(self._service.generate(plan)) as pieces:
            async for piece in pieces:
                self._note()
                self._answers[piece.index].add(piece)
        await self._reply.body(writer.whole(self._answers))

    async def _stream(self, request: Request, plan: Plan, writer: Writer) -> None:
        async with aclosing(self._service.generate(plan)) as pieces:
            async for piece in pieces:
                # Nothing is sent before the first token, so that a refusal until then has its own status.
                answer = self._answers[piece.index]
                opening, answer.last = answer.last is None, piece
                self._note()
                if content := writer.events(piece, opening=opening):
                    await self._reply.event(content)
        if request.stream_options and request.stream_options.include_usage:
            await self._reply.event(writer.usage(self._answers))
        await self._reply.event(DONE)
        await self._reply.end()

    def _note(self) -> None:
        if self._first_token is None:
            self._first_token = time.perf_counter()

    @property
    def _completion_tokens(self) -> int:
        return sum(answer.last.completion_tokens for answer in self._answers if answer.last)

    def report(self, failure: str | None) -> None:
        """Count the request and write its log line."""
        now = time.perf_counter()
        status = STATUS_CLIENT_GONE if failure == "client_gone" else self._reply.status
        tokens = self._completion_tokens
        last = self._answers[0].last if self._answers else None
        metrics = self._service.metrics
        metrics.count_request(status)
        metrics.duration.observe(now - self._began)
        if self._prompt_tokens is not None:
            metrics.input_tokens.observe(self._prompt_tokens)
        if self._first_token is not None:
            metrics.output_tokens.observe(tokens)
            metrics.first_token.observe(self._first_token - self._began)
            if tokens > 1:
                metrics.per_token.observe((now - self._first_token) / (tokens - 1))
        event(
            logger,
            "request",
            status=status,
            failure=failure,
            streamed=self._streamed,
            prompt_tokens=self._prompt_tokens,
            completion_tokens=tokens,
            finish_reason=last.finish_reason if last else None,
            first_token_ms=_milliseconds(self._began, self._first_token),
            duration_ms=_milliseconds(self._began, now),
        )


def _milliseconds(start: float, end: float | None) -> float | None:
    return None if end is None else round(1000 * (end - start), 1)
