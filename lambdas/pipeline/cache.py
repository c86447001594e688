"""Gives an answer again to a caller who asked for that: the same key, the very same request, the same model.

Asked for by the request header `Cache-Control: max-age=<seconds>`, the oldest answer that will do. The
request is compared as the caller sent it, before guards replace anything; how it is to be delivered
(`stream`) makes no difference. Only answers that ended well are kept. A hit is a request, but costs no
tokens: the model has no part in it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from contracts import metrics
from contracts.access import Principal
from contracts.cached_answer import CachedAnswer
from contracts.catalogue import ModelEntry
from contracts.chat import ChatRequest
from contracts.completions import CompletionRequest
from contracts.fallback import FALLBACK_VARIANT
from contracts.jobs import work_pk
from lambdas.pipeline.model_parts import Models
from lambdas.pipeline.operations import ModelRequest
from lambdas.pipeline.preferences import DEPRECATED_CACHE, cache_seconds
from lambdas.pipeline.request import Admission, Chunk, Request, Response, Route, TextGeneration
from lambdas.runtime.logs import Logger
from lambdas.runtime.metrics import MetricLine

HEADER = "x-cache"
MOST_BYTES = 350_000
"""Longest answer that is kept: an item of the table may have 400 kB, its keys and names included."""

_DELIVERY = ("stream", "stream_options")
_WHOLE = ("stop", "length")


@dataclass
class CacheLookup:
    """One look into the cache. `pieces` gathers the new answer where there was none (`hit` is None).

    `variant` is the one that was to answer; `seconds`, how long the answer is to be kept.
    """

    digest: str
    seconds: int
    variant: str | None
    hit: CachedAnswer | None = None
    pieces: list[str] = field(default_factory=list)


class Answers(Protocol):
    """Where answers are kept, apart for each key."""

    def find(self, owner: str, digest: str) -> CachedAnswer | None:
        """The owner's answer under a digest that has not run out."""

    def keep(self, owner: str, digest: str, answer: CachedAnswer, seconds: int) -> None:
        """Keep an answer for so long."""


class FindAnswer:
    """Admission → CacheLookup.

    A model's salt is what else an answer depends on: change it, and nothing that was kept fits any more.
    """

    def __init__(
        self,
        answers: Answers,
        max_seconds: int,
        models: Models,
        logger: Logger,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._answers, self._max_seconds, self._models = answers, max_seconds, models
        self._logger, self._clock = logger, clock

    def __call__(self, admission: Admission, response: Response) -> CacheLookup | None:
        """None where none is asked for, or possible; fills the headers. A table that fails is a miss.

        Raises ApiError 400 for a deprecated header that is no number of seconds.
        """
        request = admission.request
        seconds = cache_seconds(request.incoming, self._max_seconds)
        if seconds is None:
            return None
        if admission.blocked is not None or not _is_one_text(admission.body):
            _say("bypass", request, response)
            return None
        lookup = CacheLookup(self._digest(request, admission.route), seconds, admission.route.variant)
        try:
            kept = self._answers.find(_owner(request.principal), lookup.digest)
        except Exception as error:  # noqa: BLE001 - a table that fails is a miss
            self._logger.failure("cache_failed", error)
            kept = None
        if kept is None or kept.made_at + seconds < self._clock():
            _say("miss", request, response)
            return lookup
        _say("hit", request, response)
        response.headers["age"] = str(max(0, int(self._clock() - kept.made_at)))
        lookup.hit = kept
        return lookup

    def _digest(self, request: Request, route: Route) -> str:
        body = json.loads(request.incoming.body)
        for name in _DELIVERY:
            body.pop(name, None)
        body["model"] = request.entry.name  # whichever alias was used
        salt = self._models.parts(request.entry).salt
        parts = [request.operation.route, _versions(request.entry, route), salt, body]
        canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def _versions(entry: ModelEntry, route: Route) -> str:
    """The variant and version that will answer; where the endpoint's weights decide, all that may."""
    routes = route.routing.variants if route.routing else []
    if route.variant:
        routes = [each for each in routes if each.name == route.variant]
    versions = sorted({each.model_version for each in routes if each.weight > 0 or route.variant})
    named = f"{route.variant}=" if route.variant else ""
    return named + (",".join(versions) or entry.target.model_version)


def _say(result: str, request: Request, response: Response) -> None:
    response.headers[HEADER] = result
    if DEPRECATED_CACHE in request.incoming.headers:
        response.headers[DEPRECATED_CACHE] = result


def _is_one_text(request: ModelRequest | None) -> bool:
    """Whether the answer is one text: what is kept holds neither several, nor calls, nor probabilities."""
    if isinstance(request, ChatRequest):
        return request.answers == 1 and not request.tools and not request.logprobs
    return isinstance(request, CompletionRequest) and request.answers == 1 and request.logprobs is None


class KeepAnswer:
    """After the reply: keeps an answer that ended well, and counts hits and misses."""

    def __init__(
        self, answers: Answers, endpoint_name: str, logger: Logger, clock: Callable[[], float] = time.time
    ) -> None:
        self._answers, self._endpoint_name = answers, endpoint_name
        self._logger, self._clock = logger, clock

    def __call__(self, lookup: CacheLookup, request: Request, response: Response) -> None:
        """An answer that cannot be kept is logged; the reply has long gone."""
        name = metrics.CACHE_HITS if lookup.hit else metrics.CACHE_MISSES
        line = MetricLine({metrics.DIM_ENDPOINT: self._endpoint_name})
        line.add({name: (1, "Count")}, [[metrics.DIM_ENDPOINT]])
        line.emit(request_id=request.incoming.request_id)
        if lookup.hit or not _ended_well(lookup, response):
            return
        answer = CachedAnswer(
            made_at=self._clock(),
            tenant=request.principal.tenant,
            user=request.body.user,
            variant=response.variant,
            model_version=response.model_version,
            pieces=lookup.pieces,
            finish_reason=response.finish_reason or "stop",
            stop_reason=response.stop_reason,
            prompt_tokens=response.prompt_tokens,
            completion_tokens=response.completion_tokens,
        )
        if len(answer.model_dump_json()) > MOST_BYTES:
            return
        try:
            self._answers.keep(_owner(request.principal), lookup.digest, answer, lookup.seconds)
        except Exception as error:  # noqa: BLE001 - the reply stands without it
            self._logger.failure("cache_failed", error)


def _owner(principal: Principal) -> str:
    """Whose answer it is: the key's, or the bearer's where many share what stands for a key."""
    return work_pk(principal.tenant, principal.key_id or principal.key_name, principal.subject)


def _ended_well(lookup: CacheLookup, response: Response) -> bool:
    """Whether it is what the same request would get again: not a fallback's, nor one that a guard missed."""
    return (
        response.status == 200
        and response.error is None
        and response.ended
        and response.finish_reason in _WHOLE
        and not response.guards.times.passed_by
        and response.variant != FALLBACK_VARIANT
        and lookup.variant in (None, response.variant)  # else the one asked for had gone
    )


def gather_pieces(generation: TextGeneration, lookup: CacheLookup) -> Callable[[Chunk], None]:
    """A watcher: what the caller gets is what is kept."""

    def watch(chunk: Chunk) -> None:
        lookup.pieces += [text for choice in chunk["choices"] if (text := generation.operation.text(choice))]

    return watch


def replay(generation: TextGeneration, kept: CachedAnswer) -> Iterator[Chunk]:
    """The answer as the model would have sent it, usage included."""
    head: Chunk = {"object": generation.operation.chunk_object, "created": generation.created}
    for piece in kept.pieces:
        choice: Chunk = {"index": 0, "finish_reason": None}
        generation.operation.set_text(choice, piece)
        yield {**head, "choices": [choice]}
    last: Chunk = {"index": 0, "finish_reason": kept.finish_reason}
    generation.operation.set_text(last, "")
    if kept.stop_reason is not None:
        last["stop_reason"] = kept.stop_reason
    yield {**head, "choices": [last]}
    if kept.prompt_tokens is not None and kept.completion_tokens is not None:
        usage = {
            "prompt_tokens": kept.prompt_tokens,
            "completion_tokens": kept.completion_tokens,
            "total_tokens": kept.prompt_tokens + kept.completion_tokens,
        }
        yield {**head, "choices": [], "usage": usage}
