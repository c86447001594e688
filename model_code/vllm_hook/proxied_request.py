"""One caller's request through the wrapped server: body, checks, a place in the batch, deadline, reply."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import time
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from contracts import container
from contracts.chat import ChatRequest
from contracts.classification import ClassificationRequest
from contracts.completions import CompletionRequest
from contracts.embeddings import EmbeddingsRequest
from contracts.scoring import RerankRequest, ScoreRequest
from contracts.texts import TextsRequest
from model_code.serving.admission import QueueFullError
from model_code.serving.control_text import INVISIBLE, ControlText
from model_code.serving.errors import ServingError, internal, invalid, overloaded
from model_code.serving.http.connection import (
    STATUS_CLIENT_DISCONNECTED,
    ClientDisconnectedError,
    read_body,
    wait_for_disconnect,
)
from model_code.serving.http.request_headers import RequestHeaders
from model_code.serving.logs import REQUEST_IDS, event, phases
from model_code.serving.protocol.parsing import parse
from model_code.vllm_hook.answer_tool import AnswerTool
from model_code.vllm_hook.error_translation import translate_error
from model_code.vllm_hook.forms import Form, forms, schema_field
from model_code.vllm_hook.health import Health
from model_code.vllm_hook.metrics import HookMetrics
from model_code.vllm_hook.response_relay import ResponseRelay
from model_code.vllm_hook.settings import HookSettings
from model_code.vllm_hook.upstream import (
    CHAT,
    CLASSIFY,
    EMBEDDINGS,
    RERANK,
    ROUTES,
    SCORE,
    UpstreamApp,
    body_receiver,
    upstream_scope,
)

_NOT_SERVED = (404, 405)
_UNWIND_SECONDS = 5.0
_TEXTS: dict[str, type[TextsRequest]] = {
    EMBEDDINGS: EmbeddingsRequest,
    RERANK: RerankRequest,
    SCORE: ScoreRequest,
    CLASSIFY: ClassificationRequest,
}
_PROMPTS = {CHAT: "messages", EMBEDDINGS: "input", CLASSIFY: "input", RERANK: "documents", SCORE: "text_2"}
_ANY_MODEL = "-"  # a body without `model` means the one that vLLM serves, which vLLM knows

logger = logging.getLogger(__name__)


@functools.cache
def _control_text(folder: Path) -> ControlText:
    """Read at the first request: by then the folder has been verified."""
    return ControlText.read(folder)


def _as_text(body: bytes, control: ControlText) -> bytes:
    """The body with callers' control tokens parted: vLLM tokenises what its template has rendered, whoever
    wrote it. Only a body that may hold one is read again."""
    if not control.may_be_in(body):
        return body
    values = json.loads(body)
    read = {name: values[name] for name in ("messages", "tools", "functions") if name in values}
    changed = control.parted(read, INVISIBLE)
    return body if changed is read else json.dumps({**values, **changed}, ensure_ascii=False).encode()


class ProxiedRequest:
    """The state of one request."""

    def __init__(
        self,
        settings: HookSettings,
        health: Health,
        upstream: UpstreamApp,
        metrics: HookMetrics,
        scope: Scope,
    ) -> None:
        self._settings, self._health, self._upstream, self._metrics = settings, health, upstream, metrics
        self._scope = scope
        self._headers = headers = RequestHeaders.read(Headers(scope=scope))
        self._route = container.public_route(headers.route) or CHAT
        bound = settings.request_timeout
        self._timeout = bound if headers.timeout is None else min(bound, headers.timeout)
        self._began = time.perf_counter()
        self._admitted: float | None = None

    async def run(self, receive: Receive, send: Send) -> None:
        """Answer; every outcome ends in exactly one reply and one log line."""
        REQUEST_IDS.set(
            self._headers.ids
        )  # the context is this request's own: the server runs each in a task of its own
        reply = ResponseRelay(send, self._headers.request_id, self._health)
        failure: str | None = None
        try:
            body = await read_body(receive)
            await self._guard(body, receive, reply)
        except ClientDisconnectedError:
            self._metrics.count_cancellation()
            failure = "client_disconnected"
        except ServingError as error:
            failure = error.code or error.type
            await reply.fail(error)
        except Exception:
            failure = "internal_error"
            logger.exception("request failed")
            await reply.fail(internal())
        self._report(reply, failure)

    async def _guard(self, body: bytes, receive: Receive, reply: ResponseRelay) -> None:
        """Work until the reply's end, the client's leaving, the deadline or the end of the drain."""
        work = asyncio.create_task(self._work(body, reply))
        gone = asyncio.create_task(wait_for_disconnect(receive))
        cut = asyncio.create_task(self._health.cut_off.wait())
        tasks: set[asyncio.Task[Any]] = {work, gone, cut}
        try:
            done, _ = await asyncio.wait(tasks, timeout=self._timeout, return_when=asyncio.FIRST_COMPLETED)
            if reply.ended:  # after a reply's last byte a server calls its client gone: let the rest unwind
                done, _ = await asyncio.wait({work}, timeout=_UNWIND_SECONDS)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if work in done:
            work.result()
        elif reply.ended:
            event(logger, "vLLM went on after its reply", level=logging.WARNING)
        elif gone in done:
            raise ClientDisconnectedError
        elif cut in done:
            raise overloaded("The server is shutting down and could not finish this answer.", code="draining")
        else:
            text = f"The answer was not finished within {self._timeout:g} s."
            raise ServingError("timeout_error", text, code="request_timeout")

    async def _work(self, body: bytes, reply: ResponseRelay) -> None:
        if self._route not in ROUTES:
            text = f"The route '{self._route}' is not served; one of {', '.join(ROUTES)}."
            raise invalid(text, param=container.ATTRIBUTE_ROUTE, code="unknown_route", status=404)
        limited = check(self._route, body)
        if self._route == CHAT:
            body = _as_text(body, _control_text(self._settings.model_folder))
        if reason := self._health.unready_reason():
            raise overloaded(f"The model cannot serve now: {reason}.", code="not_ready")
        try:
            async with self._health.admission.slot(1):
                self._health.admitted()
                self._admitted = time.perf_counter()
                await self._pass_on(body, limited, reply)
        except QueueFullError:
            self._metrics.count_rejection("queue_full")
            raise overloaded("Too many requests are waiting.", code="queue_full") from None

    async def _pass_on(self, body: bytes, limited: bool, reply: ResponseRelay) -> None:
        content = json.loads(body)
        default = self._settings.default_max_tokens
        if not limited and default:
            try:
                return await self._ask({**content, "max_tokens": default}, reply)
            except ServingError as error:
                if error.code != "context_length_exceeded" or reply.status:
                    raise
                # The default leaves no room for this prompt: the rest of the context is the bound then.
        await self._ask(content, reply)

    async def _ask(self, content: dict[str, Any], reply: ResponseRelay) -> None:
        """Pass the request on, in the first form that vLLM can do."""
        failure: ServingError | None = None
        for form in forms(content):
            try:
                return await self._ask_once(form, reply)
            except Exception as error:
                problem = await self._schema_problem(content, error, reply)
                if problem is None:
                    raise
                failure = failure or problem
        assert failure is not None, "there is always a first form"
        raise failure

    async def _schema_problem(
        self, content: dict[str, Any], error: Exception, reply: ResponseRelay
    ) -> ServingError | None:
        """What is wrong with a schema, where that may be why vLLM refused or failed; None where it is not.

        vLLM answers 500 to schemas that its compiler cannot read: a failure before the first token is the
        schema's where there is one and the engine is well.
        """
        field = schema_field(content)
        if field is None or reply.status:
            return None
        if isinstance(error, ServingError) and error.code == "invalid_value":
            return error
        failed = not isinstance(error, ServingError) or error.type == "server_error"
        if not failed or await self._health.engine_fault():
            return None
        event(logger, "vLLM failed on a schema", level=logging.WARNING, error=type(error).__name__)
        text = "The model's server cannot hold an answer to this schema."
        return invalid(text, param=field, code="unsupported_schema")

    async def _ask_once(self, form: Form, reply: ResponseRelay) -> None:
        body = json.dumps(form.content).encode()
        scope = upstream_scope(self._scope, self._route, body, self._headers)
        reply.answer = AnswerTool(form.answer_tool) if form.answer_tool else None
        await self._upstream.app(scope, body_receiver(body), reply.send)
        if reply.error is not None:
            error, reply.error = reply.error, None
            raise error
        if refusal := reply.refusal():
            status, text = refusal
            if status in _NOT_SERVED and b"does not exist" not in text:
                message = f"This model does not serve {self._route}."
                raise invalid(message, param=container.ATTRIBUTE_ROUTE, code="unsupported_operation")
            raise translate_error(status, text, _PROMPTS.get(self._route, "prompt"))

    def _report(self, reply: ResponseRelay, failure: str | None) -> None:
        status = reply.status or (STATUS_CLIENT_DISCONNECTED if failure == "client_disconnected" else 500)
        usage = reply.usage
        self._metrics.observe(
            status=status,
            began=self._began,
            first=reply.first,
            prompt_tokens=usage.get("prompt_tokens"),
            completion_tokens=usage.get("completion_tokens"),
        )
        event(
            logger,
            "request",
            status=status,
            failure=failure,
            route=self._route,
            prompt_tokens=usage.get("prompt_tokens"),
            completion_tokens=usage.get("completion_tokens"),
            **phases(self._began, self._admitted, reply.first, time.perf_counter()),
        )


def check(route: str, body: bytes) -> bool:
    """Whether an answer's length is the caller's choice, or there is none to choose. As strict as our own
    server: raises ServingError for what is no request of this route."""
    if (texts := _TEXTS.get(route)) is not None:
        parse(texts, body, model=_ANY_MODEL)
        return True
    request: ChatRequest | CompletionRequest
    if route == CHAT:
        request = parse(ChatRequest, body, model=_ANY_MODEL)
    else:
        request = parse(CompletionRequest, body, model=_ANY_MODEL)
    return request.token_limit is not None
