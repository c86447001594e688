"""One request to a model that encodes: parse, encode, reply, and its log line."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from contracts import container
from contracts.scoring import RerankRequest, ScoreRequest
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
    rerank_reply,
    score_reply,
)
from model_code.serving.protocol.parsing import parse
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
        task, route = self._service.task, container.public_route(self._headers.route)
        if not route and (has_field(body, "messages") or has_field(body, "prompt")):
            route = container.ROUTE_CHAT
        if not route:
            route = container.ROUTE_CLASSIFY if has_field(body, "inputs") else ROUTES[task][0]
        if route not in ROUTES[task]:
            raise unsupported_route(route, task)
        if self._headers.adapter:
            raise unsupported_feature("LoRA adapters", task)
        await self._answers[route](body)

    @property
    def _answers(self) -> dict[str, Callable[[bytes], Awaitable[None]]]:
        return {
            container.ROUTE_EMBEDDINGS: self._embed,
            container.ROUTE_RERANK: self._rerank,
            container.ROUTE_SCORE: self._score,
            container.ROUTE_CLASSIFY: self._classify,
        }

    async def _embed(self, body: bytes) -> None:
        request = parse_embeddings(body, self._service.settings.model_name)
        self._texts = len(request.texts)
        vectors, self._tokens = await self._service.embed(request.model, request.texts, request.dimensions)
        if vectors.size > _LARGE_REPLY:
            await self._reply.body(await asyncio.to_thread(embeddings_reply, request, vectors, self._tokens))
        else:
            await self._reply.body(embeddings_reply(request, vectors, self._tokens))

    async def _rerank(self, body: bytes) -> None:
        request = parse(RerankRequest, body, model=self._service.settings.model_name)
        self._texts = len(request.texts)
        scores, self._tokens = await self._service.score(request)
        await self._reply.body(rerank_reply(request, scores, self._tokens, self._headers.request_id))

    async def _score(self, body: bytes) -> None:
        request = parse(ScoreRequest, body, model=self._service.settings.model_name)
        self._texts = len(request.texts)
        scores, self._tokens = await self._service.score(request)
        await self._reply.body(score_reply(request, scores, self._tokens, self._headers.request_id))

    async def _classify(self, body: bytes) -> None:
        request = parse_classification(body, self._service.settings.model_name)
        self._texts = len(request.texts)
        scores, self._tokens = await self._service.classify(request)
        labels = self._service.labels
        await self._reply.body(
            classification_reply(request, scores, labels, self._tokens, self._headers.request_id)
        )

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
