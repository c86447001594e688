"""One embedding or classification request: parse, encode, reply, and its log line."""

from __future__ import annotations

import asyncio
import logging
import time

from contracts import container
from contracts.classification import PipelineRequest
from model_code.serving.encoders.embedding_service import EmbeddingService
from model_code.serving.http.request_headers import RequestHeaders
from model_code.serving.http.response_sender import ResponseSender
from model_code.serving.logs import event
from model_code.serving.model_tasks import ROUTES
from model_code.serving.protocol.encoder_bodies import (
    classification_reply,
    embeddings_reply,
    has_field,
    parse_classification,
    parse_embeddings,
)
from model_code.serving.protocol.unsupported import unsupported_feature, unsupported_route

_LARGE_REPLY = 65_536  # numbers; writing more takes long enough to hold up the event loop
_STATUS_CLIENT_DISCONNECTED = 499

logger = logging.getLogger(__name__)


class EncoderCall:
    """The state of one request; keeps the `Call` protocol of `invocations`."""

    def __init__(self, service: EmbeddingService, reply: ResponseSender, headers: RequestHeaders) -> None:
        self._service = service
        self._reply = reply
        self._headers = headers
        self._began = time.perf_counter()
        self._texts = 0
        self._tokens: int | None = None

    async def run(self, body: bytes) -> None:
        """Parse, encode, reply."""
        task, route = self._service.task, self._headers.route
        if not route and (has_field(body, "messages") or has_field(body, "prompt")):
            route = container.ROUTE_CHAT
        if route and route not in ROUTES[task]:
            raise unsupported_route(route, task)
        if self._headers.adapter:
            raise unsupported_feature("LoRA adapters", task)
        await (self._embed(body) if task == "embedding" else self._classify(body))

    async def _embed(self, body: bytes) -> None:
        request = parse_embeddings(body, self._service.settings.model_name)
        self._texts = len(request.texts)
        vectors, self._tokens = await self._service.embed(request.model, request.texts, request.dimensions)
        if vectors.size > _LARGE_REPLY:
            await self._reply.body(await asyncio.to_thread(embeddings_reply, request, vectors, self._tokens))
        else:
            await self._reply.body(embeddings_reply(request, vectors, self._tokens))

    async def _classify(self, body: bytes) -> None:
        request = parse_classification(body, self._service.settings.model_name)
        self._texts = len(request.texts)
        if isinstance(request, PipelineRequest):
            model, how, field = None, request.parameters.function_to_apply, "inputs"
        else:
            model, how, field = request.model, request.normalisation, "input"
        scores, self._tokens = await self._service.classify(model, request.texts, how, field)
        await self._reply.body(classification_reply(request, scores, self._service.labels, self._tokens))

    def report(self, failure: str | None) -> None:
        """Count the request and write its log line."""
        seconds = time.perf_counter() - self._began
        status = _STATUS_CLIENT_DISCONNECTED if failure == "client_disconnected" else self._reply.status
        metrics = self._service.metrics
        metrics.count_request(status)
        metrics.duration.observe(seconds)
        if self._tokens is not None:
            metrics.input_tokens.observe(self._tokens)
        event(
            logger,
            "request",
            status=status,
            failure=failure,
            texts=self._texts,
            prompt_tokens=self._tokens,
            duration_ms=round(1000 * seconds, 1),
        )
