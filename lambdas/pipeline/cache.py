"""Gives an answer again to a caller who asked for that: the same key, the very same request, the same model.

Asked for by the request header `x-evergreen-cache: <seconds>`, the oldest answer that will do. The request is
compared as the caller sent it, before guards replace anything; how it is to be delivered (`stream`) makes no
difference. Only answers that ended well are kept. A hit is a request, but costs no tokens: the model has no
part in it.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from contracts import metrics
from contracts.cached_answer import CachedAnswer
from contracts.chat import ChatRequest
from contracts.completions import CompletionRequest
from contracts.fallback import FALLBACK_VARIANT
from contracts.jobs import work_pk
from lambdas.pipeline.operations import ModelRequest
from lambdas.pipeline.request import Chunk, Exchange
from lambdas.runtime.errors import ApiError
from lambdas.runtime.logs import Logger
from lambdas.runtime.metrics import MetricLine

HEADER = "x-evergreen-cache"
MOST_BYTES = 350_000
"""Longest answer that is kept: an item of the table may have 400 kB, its keys and names included."""

_DELIVERY = ("stream", "stream_options")
_WHOLE = ("stop", "length")
_SECONDS = re.compile(r"[0-9]{1,9}")


class Answers(Protocol):
    """Where answers are kept, apart for each key."""

    def find(self, owner: str, digest: str) -> CachedAnswer | None:
        """The owner's answer under a digest that has not run out."""

    def keep(self, owner: str, digest: str, answer: CachedAnswer, seconds: int) -> None:
        """Keep an answer for so long."""


class FindAnswer:
    """Fills `exchange.chunks` from a kept answer, or notes under what the new one is to be kept.

    `salt` is what else an answer depends on: change it, and nothing that was kept fits any more.
    """

    def __init__(
        self,
        answers: Answers,
        max_seconds: int,
        default_version: str,
        salt: str,
        logger: Logger,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._answers, self._max_seconds = answers, max_seconds
        self._default_version, self._salt = default_version, salt
        self._logger, self._clock = logger, clock

    def apply(self, exchange: Exchange) -> None:
        """Raises ApiError 400 for a header that is no number of seconds. A table that fails is a miss."""
        asked = exchange.incoming.headers.get(HEADER)
        if asked is None:
            return
        seconds = self._seconds(asked)
        if exchange.is_answered or not _is_one_text(exchange.request):
            exchange.headers[HEADER] = "bypass"
            return
        digest = self._digest(exchange)
        exchange.cache_digest, exchange.cache_seconds = digest, seconds
        exchange.cache_variant = exchange.variant
        try:
            kept = self._answers.find(_owner(exchange), digest)
        except Exception as error:
            self._logger.failure("cache_failed", error)
            kept = None
        if kept is None or kept.made_at + seconds < self._clock():
            exchange.headers[HEADER] = "miss"
            return
        exchange.headers[HEADER] = "hit"
        exchange.headers["age"] = str(max(0, int(self._clock() - kept.made_at)))
        exchange.cache_hit = exchange.is_answered = True
        exchange.variant, exchange.model_version = kept.variant, kept.model_version
        exchange.chunks = _again(exchange, kept)

    def _seconds(self, asked: str) -> int:
        if not _SECONDS.fullmatch(asked) or not 1 <= int(asked) <= self._max_seconds:
            raise ApiError(
                "invalid_request_error",
                f"'{HEADER}' must be a number of seconds from 1 to {self._max_seconds}.",
                param=HEADER,
                code="invalid_value",
            )
        return int(asked)

    def _digest(self, exchange: Exchange) -> str:
        request = json.loads(exchange.incoming.body)
        for name in _DELIVERY:
            request.pop(name, None)
        parts = [exchange.operation.route, self._versions(exchange), self._salt, request]
        canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def _versions(self, exchange: Exchange) -> str:
        """The variant and version that will answer; where the endpoint's weights decide, all that may."""
        routes = exchange.routing.variants if exchange.routing else []
        if exchange.variant:
            routes = [route for route in routes if route.name == exchange.variant]
        versions = sorted({route.model_version for route in routes if route.weight > 0 or exchange.variant})
        named = f"{exchange.variant}=" if exchange.variant else ""
        return named + (",".join(versions) or self._default_version)


def _is_one_text(request: ModelRequest | None) -> bool:
    """Whether the answer is one text: what is kept holds neither several, nor calls, nor probabilities."""
    if isinstance(request, ChatRequest):
        return request.answers == 1 and not request.tools and not request.logprobs
    return isinstance(request, CompletionRequest) and request.answers == 1


class GatherAnswer:
    """Wraps `exchange.chunks`: what the caller gets is what is kept."""

    def apply(self, exchange: Exchange) -> None:
        """Costs nothing where nobody asked for it."""
        if exchange.cache_digest and not exchange.cache_hit:
            exchange.chunks = _gathered(exchange, exchange.chunks)


class KeepAnswerForAgain:
    """Afterwards: keeps an answer that ended well, and counts hits and misses."""

    def __init__(
        self, answers: Answers, endpoint_name: str, logger: Logger, clock: Callable[[], float] = time.time
    ) -> None:
        self._answers, self._endpoint_name = answers, endpoint_name
        self._logger, self._clock = logger, clock

    def apply(self, exchange: Exchange) -> None:
        """An answer that cannot be kept is logged; the reply has long gone."""
        if exchange.cache_digest is None:
            return
        name = metrics.CACHE_HITS if exchange.cache_hit else metrics.CACHE_MISSES
        line = MetricLine({metrics.DIM_ENDPOINT: self._endpoint_name})
        line.add({name: (1, "Count")}, [[metrics.DIM_ENDPOINT]])
        line.emit(request_id=exchange.incoming.request_id)
        if exchange.cache_hit or not _ended_well(exchange):
            return
        answer = CachedAnswer(
            made_at=self._clock(),
            tenant=exchange.the_caller.tenant,
            user=exchange.the_request.user,
            variant=exchange.variant,
            model_version=exchange.model_version,
            pieces=exchange.cache_pieces,
            finish_reason=exchange.finish_reason or "stop",
            prompt_tokens=exchange.prompt_tokens,
            completion_tokens=exchange.completion_tokens,
        )
        if len(answer.model_dump_json()) > MOST_BYTES:
            return
        try:
            self._answers.keep(_owner(exchange), exchange.cache_digest, answer, exchange.cache_seconds)
        except Exception as error:
            self._logger.failure("cache_failed", error)


def _owner(exchange: Exchange) -> str:
    """Whose answer it is: the key's, or the bearer's where many share what stands for a key."""
    caller = exchange.the_caller
    subject = exchange.incoming.authorizer.get("subject", "")
    return work_pk(caller.tenant, caller.key_id or caller.key_name, subject)


def _ended_well(exchange: Exchange) -> bool:
    """Whether it is what the same request would get again: not a stand-in's, nor one that a guard missed."""
    return (
        exchange.status == 200
        and exchange.error is None
        and exchange.ended
        and not exchange.is_answered
        and exchange.finish_reason in _WHOLE
        and not exchange.guard_times.passed_by
        and exchange.variant != FALLBACK_VARIANT
        and exchange.cache_variant in (None, exchange.variant)  # else the one asked for had gone
    )


def _gathered(exchange: Exchange, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    for chunk in chunks:
        exchange.cache_pieces += [
            text for choice in chunk["choices"] if (text := exchange.generation.text(choice))
        ]
        yield chunk


def _again(exchange: Exchange, kept: CachedAnswer) -> Iterator[Chunk]:
    """The answer as the model would have sent it, usage included."""
    head: Chunk = {
        "object": exchange.generation.chunk_object,
        "created": int(exchange.incoming.received_at),
    }
    for piece in kept.pieces:
        choice: Chunk = {"index": 0, "finish_reason": None}
        exchange.generation.set_text(choice, piece)
        yield {**head, "choices": [choice]}
    last: Chunk = {"index": 0, "finish_reason": kept.finish_reason}
    exchange.generation.set_text(last, "")
    yield {**head, "choices": [last]}
    if kept.prompt_tokens is not None and kept.completion_tokens is not None:
        usage = {
            "prompt_tokens": kept.prompt_tokens,
            "completion_tokens": kept.completion_tokens,
            "total_tokens": kept.prompt_tokens + kept.completion_tokens,
        }
        yield {**head, "choices": [], "usage": usage}
