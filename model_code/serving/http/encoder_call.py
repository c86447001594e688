"""One embedding or classification request: parse, encode, reply, and its log line."""

from __future__ import annotations

import asyncio
import logging
import time

from contracts import container
from model_code.serving.encoders.embedding_service import EncodingService
from model_code.serving.http.request_headers import Incoming
from model_code.serving.http.response_sender import Reply
from model_code.serving.logs import event
from model_code.serving.model_tasks import ROUTES
from model_code.serving.protocol.encoder_bodies import (
    classification_reply,
    embeddings_reply,
    has_field,
    parse_classification,
    parse_embeddings,
)
from model_code.serving.protocol.unsupported import refuse_feature, refuse_route

_LARGE_REPLY = 65_536  # numbers; writing more takes long enough to hold up the event loop
_STATUS_CLIENT_GONE = 499

logger = logging.getLogger(__name__)


class EncoderCall:
    """The state of one request; keeps the `Call` protocol of `invocations`."""

    def __init__(self, service: EncodingService, reply: Reply, incoming: Incoming) -> None:
        self._service = service
        self._reply = reply
        self._incoming = incoming
        self._began = time.perf_counter()
        self._texts = 0
        self._tokens: int | None = None

    async def run(self, body: bytes) -> None:
        """Parse, encode, reply."""
        kind, route = self._service.kind, self._incoming.route
        if not route and (has_field(body, "messages") or has_field(body, "prompt")):
            route = container.ROUTE_CHAT
        if route and route not in ROUTES[kind]:
            raise refuse_route(route, kind)
        if self._incoming.adapter:
            raise refuse_feature("LoRA adapters", kind)
        await (self._embed(body) if kind == "embedding" else self._classify(body))

    async def _embed(self, body: bytes) -> None:
        request = parse_embeddings(body)
        self._texts = len(request.texts)
        vectors, self._tokens = await self._service.embed(request.model, request.texts, request.dimensions)
        if vectors.size > _LARGE_REPLY:
            await self._reply.body(await asyncio.to_thread(embeddings_reply, request, vectors, self._tokens))
        else:
            await self._reply.body(embeddings_reply(request, vectors, self._tokens))

    async def _classify(self, body: bytes) -> None:
        request = parse_classification(body)
        self._texts = len(request.texts)
        if hasattr(request, "inputs"):
            model, how, field = None, request.parameters.function_to_apply, "inputs"
        else:
            model, how, field = request.model, request.normalisation, "input"
        scores, self._tokens = await self._service.classify(model, request.texts, how, field)
        await self._reply.body(classification_reply(request, scores, self._service.labels, self._tokens))

    def report(self, failure: str | None) -> None:
        """Count the request and write its log line."""
        seconds = time.perf_counter() - self._began
        status = _STATUS_CLIENT_GONE if failure == "client_gone" else self._reply.status
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
