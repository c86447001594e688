"""One request for text, a chat or a completion: parse, plan, generate, reply, and its log line."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import aclosing

from model_code.serving.generation.operations import BY_ROUTE, Request
from model_code.serving.generation.planning import Plan
from model_code.serving.generation.service import Service
from model_code.serving.http.connection import STATUS_CLIENT_DISCONNECTED
from model_code.serving.http.request_headers import RequestHeaders
from model_code.serving.http.response_sender import ResponseSender
from model_code.serving.logs import event, phases
from model_code.serving.protocol.parsing import parse
from model_code.serving.protocol.response_writers import DONE, CollectedOutput, Writer
from model_code.serving.protocol.unsupported import unsupported_route

logger = logging.getLogger(__name__)


class GenerationCall:
    """The state of one request: what it asked for, when its tokens came, what it cost.

    Keeps the `Call` protocol of `invocations`.
    """

    def __init__(self, service: Service, reply: ResponseSender, headers: RequestHeaders) -> None:
        self._service = service
        self._reply = reply
        self._headers = headers
        self._began = time.perf_counter()
        self._admitted: float | None = None
        self._first_token: float | None = None
        self._prompt_tokens: int | None = None
        self._answers: list[CollectedOutput] = []
        self._streamed = False

    async def run(self, body: bytes) -> None:
        """Parse, plan, generate, reply."""
        if (operation := BY_ROUTE.get(self._headers.route)) is None:
            raise unsupported_route(self._headers.route, "generation")
        request: Request = parse(operation.request, body, model=self._service.settings.model_name)
        if self._headers.adapter:  # as SageMaker's containers do: the header takes the model's place
            request = request.model_copy(update={"model": self._headers.adapter})
        self._streamed = request.stream
        plans = [await self._service.plan(operation, part) for part in operation.parts(request)]
        for plan in plans:
            if plan.schema is not None:
                self._service.admit_schema(self._headers.caller, plan.schema)
        self._prompt_tokens = sum(len(plan.prompt) for plan in plans)
        self._answers = [CollectedOutput() for _ in range(sum(plan.answers for plan in plans))]
        writer = operation.writer(self._headers.request_id, request.model, self._prompt_tokens)
        if request.stream:
            await self._stream(request, plans, writer)
        else:
            await self._collect(plans, writer)

    async def _collect(self, plans: Sequence[Plan], writer: Writer) -> None:
        async with aclosing(self._service.generate_all(plans, self._record_admission)) as deltas:
            async for delta in deltas:
                self._record_first_token()
                self._answers[delta.index].add(delta)
        await self._reply.body(writer.whole(self._answers))

    async def _stream(self, request: Request, plans: Sequence[Plan], writer: Writer) -> None:
        async with aclosing(self._service.generate_all(plans, self._record_admission)) as deltas:
            async for delta in deltas:
                # Nothing is sent before the first token, so that a refusal until then has its own status.
                answer = self._answers[delta.index]
                opening, answer.last = answer.last is None, delta
                self._record_first_token()
                if content := writer.events(delta, opening=opening):
                    await self._reply.event(content)
        if request.stream_options and request.stream_options.include_usage:
            await self._reply.event(writer.usage(self._answers))
        await self._reply.event(DONE)
        await self._reply.end()

    def _record_admission(self) -> None:
        if self._admitted is None:
            self._admitted = time.perf_counter()

    def _record_first_token(self) -> None:
        if self._first_token is None:
            self._first_token = time.perf_counter()

    @property
    def _completion_tokens(self) -> int:
        return sum(answer.last.completion_tokens for answer in self._answers if answer.last)

    def report(self, failure: str | None) -> None:
        """Count the request and write its log line."""
        now = time.perf_counter()
        status = STATUS_CLIENT_DISCONNECTED if failure == "client_disconnected" else self._reply.status
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
            **phases(self._began, self._admitted, self._first_token, now),
        )
