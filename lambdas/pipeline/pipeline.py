"""The way of a request, top to bottom: each stage takes the phase that the stage before it gave.

Knows the order of things and what happens when one fails; what is done stands in the stages.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from lambdas.pipeline.admission import Admit, Receive
from lambdas.pipeline.async_offload import AsyncOffload
from lambdas.pipeline.budgets import Reservation, ReserveBudget, SettleBudget
from lambdas.pipeline.cache import CacheLookup, FindAnswer, KeepAnswer, gather_pieces, replay
from lambdas.pipeline.delivery import Watcher, complete, deliver, event, observed, rendering_of
from lambdas.pipeline.guards.session import GuardSession
from lambdas.pipeline.invocation import Invoke
from lambdas.pipeline.model_parts import Models
from lambdas.pipeline.moderation import Moderate
from lambdas.pipeline.operations import Operation, Rendering
from lambdas.pipeline.post_response import PublishMetrics, StoreRecord
from lambdas.pipeline.prompt_guard import REFUSAL, refusal
from lambdas.pipeline.request import (
    STATUS_CLIENT_GONE,
    Admission,
    Chunk,
    IncomingRequest,
    Request,
    Response,
    Route,
    TextGeneration,
)
from lambdas.pipeline.responses.keeping import KeepResponse
from lambdas.pipeline.responses.rendering import ResponseRendering
from lambdas.pipeline.spans import PASSED_ON, ExportSpans, begin_trace
from lambdas.pipeline.transcripts import AnswerText, StoreTranscript
from lambdas.pipeline.unary import InvokeUnary
from lambdas.runtime import logs
from lambdas.runtime.cors import cors_headers
from lambdas.runtime.errors import ApiError, to_api_error
from lambdas.runtime.logs import Logger
from lambdas.runtime.streaming import StreamingReply
from lambdas.runtime.tracing import Sampling

_UNKNOWN = Operation()
"""What answers on a path that none of the operations has."""


class Releasable(Protocol):
    """What holds a model's stream."""

    def release(self) -> None:
        """Let go of the stream."""


@dataclass(frozen=True)
class Stages:
    """The stages, in the order in which a request passes them; what is switched off is None."""

    receive: Receive  # path, IncomingRequest → Request
    admit: Admit  # Request → Admission
    find_answer: FindAnswer | None  # Admission → CacheLookup
    reserve_budget: ReserveBudget  # Admission → Reservation
    invoke: Invoke  # Admission → chunks
    invoke_unary: InvokeUnary  # Admission → body
    moderate: Moderate  # Admission → body, by guards alone
    models: Models  # among a model's parts is the stage that guards its answers: chunks → chunks
    offload: AsyncOffload | None  # Request, error → body of a job
    settle_budget: SettleBudget
    store_record: StoreRecord
    publish_metrics: PublishMetrics
    store_transcript: StoreTranscript | None
    keep_answer: KeepAnswer | None
    keep_response: KeepResponse | None
    export_spans: ExportSpans | None = None
    sampling: Sampling = PASSED_ON


@dataclass
class _Progress:
    """How far a request has come: what the tasks after its response have to go by."""

    route: str
    incoming: IncomingRequest
    operation: Operation  # the reply is in its form, even where no request was understood
    response: Response = field(default_factory=Response)
    request: Request | None = None
    admission: Admission | None = None
    lookup: CacheLookup | None = None
    day: str = ""  # on which it is booked; empty before its budget is asked
    reservation: Reservation | None = None
    answer: Releasable | None = None
    rendering: Rendering | None = None
    guards: GuardSession | None = None
    answer_text: AnswerText | None = None


class Pipeline:
    """Answers requests. Never raises: whatever fails becomes the error object."""

    def __init__(self, stages: Stages, logger: Logger, cors_origins: Collection[str] = ()) -> None:
        self._stages = stages
        self._cors_origins = frozenset(cors_origins)
        self._logger = logger

    def answer(self, route: str, incoming: IncomingRequest) -> StreamingReply:
        """The reply to a request on a public path."""
        operation = self._stages.receive.operation(route) or _UNKNOWN
        trace = begin_trace(incoming, self._stages.sampling)
        logs.correlate(incoming.request_id, **trace.ids)
        progress = _Progress(route, incoming, operation, Response(trace=trace))
        try:
            body = self._begin(route, progress)
        except Exception as error:  # noqa: BLE001 - every failure becomes an error object
            body = self._failed(progress, error)
        response = progress.response
        headers = {**response.headers, "x-request-id": incoming.request_id}
        if response.variant:
            headers["x-evergreen-variant"] = response.variant
        if origin := incoming.headers.get("origin"):
            headers |= cors_headers(origin, self._cors_origins)
        headers |= operation.headers(incoming.request_id, headers)
        status = operation.status(response.status)
        return StreamingReply(status, headers, body, after=lambda: self._finish(progress))

    def _begin(self, route: str, progress: _Progress) -> Iterator[bytes]:
        """The stages up to the first bytes of the answer. Raises ApiError to end the request with it."""
        stages, response = self._stages, progress.response
        request = progress.request = stages.receive(route, progress.incoming)
        guards = progress.guards = GuardSession(response.guards, response.trace)
        admission = progress.admission = stages.admit(request, guards)
        response.from_model = admission.blocked is None and not admission.is_by_guards
        response.variant = None if admission.is_by_guards else admission.route.variant
        if stages.find_answer is not None:
            progress.lookup = stages.find_answer(admission, response)
            if progress.lookup is not None and progress.lookup.hit is not None:
                hit = progress.lookup.hit
                response.variant, response.model_version = hit.variant, hit.model_version
                response.is_cached, response.from_model = True, False
        progress.day = stages.reserve_budget.day()
        progress.reservation = stages.reserve_budget(admission, progress.day, response)
        generation = TextGeneration.of(admission)
        if generation is None:
            whole = (
                stages.moderate(admission, guards, response)
                if admission.is_by_guards
                else stages.invoke_unary(admission, response)
            )
            body: Iterator[bytes] = iter([whole])
        else:
            chunks = observed(generation, self._chunks(progress, admission, generation), response)
            guard_answer = stages.models.parts(request.entry).guard_answer
            if guard_answer is not None and response.from_model:
                chunks = guard_answer(generation, chunks, guards, response)
            rendering = progress.rendering = rendering_of(generation)
            watchers = self._watchers(progress, request, generation)
            body = deliver(rendering, chunks, response, watchers, streamed=generation.body.stream)
        return self._completed(progress, body)

    def _chunks(
        self, progress: _Progress, admission: Admission, generation: TextGeneration
    ) -> Iterable[Chunk]:
        """The answer: a refusal, a cached one, or the model's."""
        if admission.blocked is not None:
            return refusal(generation, admission.blocked, REFUSAL)
        if progress.lookup is not None and progress.lookup.hit is not None:
            return replay(generation, progress.lookup.hit)
        answer = self._stages.invoke(admission, progress.response)
        progress.answer = answer
        return answer.chunks()

    def _watchers(self, progress: _Progress, request: Request, generation: TextGeneration) -> list[Watcher]:
        watchers: list[Watcher] = []
        if progress.lookup is not None and progress.lookup.hit is None:
            watchers.append(gather_pieces(generation, progress.lookup))
        if self._stages.store_transcript is not None and request.principal.keep_text:
            progress.answer_text = AnswerText(generation)
            watchers.append(progress.answer_text)
        return watchers

    def _failed(self, progress: _Progress, error: Exception) -> Iterator[bytes]:
        """The error object, or the job that the request becomes."""
        offload, request = self._stages.offload, progress.request
        if offload is not None and request is not None:
            route = progress.admission.route if progress.admission else Route()
            try:
                job = offload(request, route, error, progress.response)
            except ApiError as refused:
                job, error = None, refused
            if job is not None:
                return self._completed(progress, iter([job]))
        api_error = self._noted(progress, error)
        progress.response.headers |= api_error.headers
        return iter([progress.operation.error_body(api_error, progress.incoming.request_id).encode()])

    def _completed(self, progress: _Progress, body: Iterator[bytes]) -> Iterator[bytes]:
        return complete(body, lambda error: self._broken_off(progress, error), progress.response)

    def _broken_off(self, progress: _Progress, error: Exception) -> Iterable[bytes]:
        noted = self._noted(progress, error)
        return progress.rendering.failure(noted) if progress.rendering else (event(noted.body.encode()),)

    def _noted(self, progress: _Progress, error: Exception) -> ApiError:
        api_error = to_api_error(error)
        progress.response.fail(api_error)
        if api_error is not error and api_error.is_server_error:
            self._logger.failure("unhandled_exception", error)
        return api_error

    def _finish(self, progress: _Progress) -> None:
        """What nobody waits for. A task that fails is logged and keeps none of the others from running."""
        response = progress.response
        response.ended_at = response.clock()
        if response.error is None and not response.ended:
            # The runtime asked for no more pieces: whoever was to receive them has gone.
            response.status = STATUS_CLIENT_GONE
        for task in self._tasks(progress):
            try:
                task()
            except Exception as error:  # noqa: BLE001 - no task keeps another from running
                self._logger.failure("post_response_task_failed", error)

    def _tasks(self, progress: _Progress) -> Iterator[Callable[[], None]]:
        """The tasks after the response, in order; each where the request has come far enough for it."""
        stages, response = self._stages, progress.response
        request, admission, lookup = progress.request, progress.admission, progress.lookup
        if progress.answer is not None:
            yield progress.answer.release  # a model whose caller has left stops generating
        if stages.keep_response is not None:
            yield lambda: self._keep_response(progress)  # soon: the caller may refer to it at once
        if request is not None and progress.day:
            yield lambda: stages.settle_budget(request, progress.day, progress.reservation, response)
        if request is not None:
            yield lambda: stages.store_record(request, response)
        entry = request.entry if request is not None else None
        yield lambda: stages.publish_metrics(progress.incoming.request_id, response, entry)
        if (store := stages.store_transcript) is not None and admission is not None and progress.day:
            texts = progress.answer_text.texts if progress.answer_text else []
            yield lambda: store(admission, progress.day, texts, response)
        if (keep := stages.keep_answer) is not None and lookup is not None and request is not None:
            yield lambda: keep(lookup, request, response)
        if (export := stages.export_spans) is not None and response.trace.is_sampled:
            yield lambda: export(progress.route, progress.incoming.request_id, request, response)

    def _keep_response(self, progress: _Progress) -> None:
        """For answers that later requests may refer to."""
        keep, admission, guards = self._stages.keep_response, progress.admission, progress.guards
        if keep and admission and guards and isinstance(progress.rendering, ResponseRendering):
            keep(admission, progress.rendering.response, guards.vault, progress.response)
