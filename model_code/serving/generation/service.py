"""The server's heart without HTTP: starts the engine, plans requests, generates text, drains.

One instance per process, used from one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, nullcontext, suppress
from dataclasses import replace
from typing import Any

from contracts.artefact import Manifest, verify
from contracts.messages import Message
from model_code.serving import engines
from model_code.serving.admission import Admission, QueueFullError
from model_code.serving.engines.base import (
    Engine,
    EngineStats,
    GenerationRequest,
    SamplingParams,
)
from model_code.serving.engines.errors import (
    EngineError,
    OutOfMemoryError,
    UnsupportedSchemaError,
)
from model_code.serving.errors import ServingError, invalid, overloaded
from model_code.serving.generation.adapters import Adapters
from model_code.serving.generation.answers import Answers
from model_code.serving.generation.chat_tokenizer import ChatTokenizer
from model_code.serving.generation.operations import Operation, Request
from model_code.serving.generation.planning import Plan, Planner
from model_code.serving.generation.schema_quota import NEW_SCHEMAS_PER_MINUTE, SchemaQuota
from model_code.serving.generation.stream_merge import merge_streams
from model_code.serving.logs import event
from model_code.serving.metrics import Metrics
from model_code.serving.protocol.deltas import OutputDelta
from model_code.serving.settings import ServerSettings
from model_code.serving.watchdog import Watchdog

_WARM_UP_TOKENS = 4
_CHECK, _PROBE = "check", "probe"
CHECK_SECONDS = 30.0
"""How often the model's numbers are looked at while requests run."""
_NOT_FINITE = "the model's logits are not numbers"
_QUEUE_CACHES = 32
"""The queue holds the tokens of so many full caches, unless the settings say how many tokens."""

logger = logging.getLogger(__name__)


def _nothing() -> None:
    """For whoever does not ask when a request was admitted."""


class Service:
    """A model being served."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.metrics = Metrics(settings.model_name)
        self._engine: Engine | None = None
        self._tokenizer: ChatTokenizer | None = None
        self._planner: Planner | None = None
        self._answers: Answers | None = None
        self._admission: Admission | None = None
        self._adapters: Adapters | None = None
        self._quota = SchemaQuota()
        self._not_ready = "the model is loading"
        self._watchdog = Watchdog(settings.stall)
        self._used_at = time.monotonic()  # when a request last began or ended
        self._broken: str | None = None
        self._used = False  # since its memory was last given back
        self._background_tasks: list[asyncio.Task[None]] = []
        self.cut_off = asyncio.Event()
        """Set when draining has run out of time: whatever still runs must end now."""

    async def start(self) -> None:
        """Verify the artefact, load the engine, generate once. Raises ArtefactError, EngineError, OSError."""
        began = time.perf_counter()
        # Hashing lets go of the interpreter lock, so the engine's slow imports run at the same time.
        manifest, engine = await asyncio.gather(
            asyncio.to_thread(self._verify), asyncio.to_thread(engines.create, self.settings)
        )
        verified = time.perf_counter()
        self._tokenizer = await asyncio.to_thread(ChatTokenizer, self.settings.model_folder)
        await asyncio.to_thread(engine.load, self.settings.model_folder)
        loaded = time.perf_counter()
        self._engine = engine
        self._admission = Admission(
            max_running=self.settings.max_running,
            max_queued=self.settings.max_queued,
            max_tokens=engine.cache_tokens,
            max_queued_tokens=self.settings.max_queued_tokens or _QUEUE_CACHES * engine.cache_tokens,
        )
        self._planner = Planner(self.settings, engine, self._tokenizer)
        self._answers = Answers(engine, self._tokenizer, self._watchdog.alive)
        await self._warm_up(engine, self._tokenizer)
        self._adapters = Adapters(
            engine,
            self.settings.model_folder,
            manifest.digest,
            self.settings.model_name,
            self.settings.max_adapters,
            self.settings.max_adapter_bytes,
            self.settings.adapters_on_demand,
        )
        self._not_ready = ""
        if self.settings.idle_release:
            self._start_background_task(self._release_when_idle(engine, self.settings.idle_release))
        self._start_background_task(self._watch_logits(engine, CHECK_SECONDS))
        self._watchdog.alive()
        running, probe = (lambda: self._slots().running), (lambda: self._probe(engine))
        self._start_background_task(self._watchdog.watch(running, probe))
        event(
            logger,
            "ready",
            engine=engine.name,
            context_tokens=engine.context_tokens,
            cache_tokens=engine.cache_tokens,
            verify_seconds=round(verified - began, 3),
            load_seconds=round(loaded - verified, 3),
            warm_up_seconds=round(time.perf_counter() - loaded, 3),
        )

    def _verify(self) -> Manifest:
        return verify(self.settings.model_folder, self.settings.model_digest)

    async def _warm_up(self, engine: Engine, tokenizer: ChatTokenizer) -> None:
        prompt = tokenizer.encode_prompt(tokenizer.render([Message(role="user", content="Hello")]))
        request = GenerationRequest(
            "warm-up", prompt, _WARM_UP_TOKENS, SamplingParams(1.0, 0.9, 0), logprobs=0
        )
        if not await _has_finite_logprobs(engine, request):
            raise EngineError(_NOT_FINITE)

    async def _watch_logits(self, engine: Engine, seconds: float) -> None:
        """While requests run, look now and then at a token's log probability: not every engine shows more."""
        while True:
            await asyncio.sleep(seconds)
            if self._slots().running == 0 or engine.fault():
                continue
            with suppress(EngineError):  # what fails otherwise shows in the requests themselves
                if not await _has_finite_logprobs(engine, _one_token(_CHECK)):
                    self._broken = _NOT_FINITE
                    return

    async def _probe(self, engine: Engine) -> bool:
        """Whether the engine gives a token. One that fails the request is not hung: `fault` tells of it."""
        with suppress(EngineError):
            await _has_finite_logprobs(engine, _one_token(_PROBE))
        return True

    def _start_background_task(self, work: Coroutine[Any, Any, None]) -> None:
        self._background_tasks.append(asyncio.create_task(work))

    async def _release_when_idle(self, engine: Engine, seconds: float) -> None:
        """Give memory back that filled with use, once nobody has used it for so long."""
        while True:
            silence = time.monotonic() - self._used_at
            if self._used and self._slots().idle.is_set() and silence >= seconds:
                self._used = False
                await engine.release()
                self.metrics.count_release()
                event(logger, "memory released", idle_seconds=round(silence, 1))
            await asyncio.sleep(max(0.1, seconds - silence) if silence < seconds else seconds)

    def unready_reason(self) -> str | None:
        """Why no request can be served now, or None when ready."""
        if self._not_ready:
            return self._not_ready
        return self.engine_fault() or self._watchdog.reason(self._slots().running)

    def engine_fault(self) -> str | None:
        """Why the engine will not serve again, once it has started; None while it is well."""
        return self._broken or (self._engine.fault() if self._engine else None)

    async def plan(self, operation: Operation, request: Request) -> Plan:
        """Check a request against the model. Raises ServingError: not ready, unknown model, too long."""
        if reason := self.unready_reason():
            raise overloaded(f"The model cannot serve now: {reason}.", code="not_ready")
        if self._planner is None:
            raise overloaded("The model is loading.", code="not_ready")
        adapter = self._adapter_of(request.model)
        return replace(await operation.plan(self._planner, request), adapter=adapter)

    def admit_schema(self, caller: str, schema: str) -> None:
        """Raises ServingError 429 where a caller brings more new schemas than it may.

        Whoever calls the endpoint itself, which only its own account can, is not limited.
        """
        if caller and (wait := self._quota.seconds_to_wait(caller, schema)):
            text = f"More than {NEW_SCHEMAS_PER_MINUTE} new schemas in a minute: use the same ones again."
            raise ServingError(
                "rate_limit_error", text, code="too_many_new_schemas", retry_after=math.ceil(wait)
            )

    def _adapter_of(self, model: str) -> str | None:
        """The adapter that a request names as its model, None for the base. Raises ServingError."""
        if model == self.settings.model_name:
            return None
        known = self._adapters.names if self._adapters else []
        if model in known:
            return model
        raise ServingError(
            "not_found_error",
            f"The model '{model}' does not exist here; this endpoint serves '{self.settings.model_name}'"
            f"{' and the adapters ' + ', '.join(known) if known else ''}.",
            param="model",
            code="model_not_found",
        )

    def loaded_adapters(self) -> Adapters:
        """The adapters, to be loaded and unloaded. Raises ServingError before the model is ready."""
        if self._adapters is None or self._not_ready:
            raise overloaded(f"No adapter can change now: {self._not_ready}.", code="not_ready")
        return self._adapters

    async def generate(
        self, plan: Plan, admitted: Callable[[], None] = _nothing
    ) -> AsyncGenerator[OutputDelta, None]:
        """Wait for room, then stream the answers. An answer's first delta marks its first token, text or not.

        `admitted` is called once there is room. Closing the generator frees the room. Raises ServingError
        (queue full, no memory) and EngineError.
        """
        answers = self._loaded()
        try:
            if plan.adapter is not None and self._adapters is not None:
                await self._adapters.demand(plan.adapter)
            with self._adapter_key(plan) as adapter:
                async with self._slot(plan):
                    admitted()
                    if plan.answers == 1:
                        deltas = answers.of(plan, 0, adapter)
                    else:
                        deltas = merge_streams([answers.of(plan, i, adapter) for i in range(plan.answers)])
                    async with aclosing(deltas):
                        async for delta in deltas:
                            yield delta
                    self._slots().recover()
        except QueueFullError as full:
            self.metrics.count_rejection(full.reason)
            raise overloaded("Too many requests are waiting.", code="queue_full") from None
        except OutOfMemoryError as error:
            self._slots().shed()
            self.metrics.count_rejection("out_of_memory")
            event(logger, f"out of memory: {error}", level=logging.ERROR, slots=self._slots().max_running)
            raise overloaded("There was not enough memory.", code="out_of_memory", retry_after=2) from None
        except UnsupportedSchemaError as refused:
            text = f"The engine cannot hold an answer to this schema: {refused}"
            raise invalid(text, param="response_format", code="unsupported_schema") from None

    async def generate_all(
        self, plans: Sequence[Plan], admitted: Callable[[], None] = _nothing
    ) -> AsyncGenerator[OutputDelta, None]:
        """The answers to several prompts, numbered one after another: as many at once as the engine computes.

        As `generate` otherwise.
        """
        if len(plans) == 1:
            streams = [self.generate(plans[0], admitted)]
        else:
            turns = asyncio.Semaphore(max(1, self.settings.max_running // plans[0].answers))
            streams = [self._in_turn(plan, number, turns, admitted) for number, plan in enumerate(plans)]
        deltas = streams[0] if len(streams) == 1 else merge_streams(streams)
        async with aclosing(deltas):
            async for delta in deltas:
                yield delta

    async def _in_turn(
        self, plan: Plan, number: int, turns: asyncio.Semaphore, admitted: Callable[[], None]
    ) -> AsyncGenerator[OutputDelta, None]:
        async with turns, aclosing(self.generate(plan, admitted)) as deltas:
            async for delta in deltas:
                yield replace(delta, index=number * plan.answers + delta.index)

    def _adapter_key(self, plan: Plan) -> AbstractContextManager[str | None]:
        """Holds the plan's adapter, waiting included, and gives the engine's key of it."""
        if plan.adapter is None or self._adapters is None:
            return nullcontext()
        return self._adapters.hold(plan.adapter)

    @asynccontextmanager
    async def _slot(self, plan: Plan) -> AsyncIterator[None]:
        admission = self._slots()
        async with admission.slot(plan.tokens, plan.answers):
            if admission.running == plan.answers:
                self._watchdog.begin()
            self._used, self._used_at = True, time.monotonic()
            try:
                yield
            finally:
                self._used_at = time.monotonic()

    def _loaded(self) -> Answers:
        if self._answers is None:
            raise overloaded("The model is loading.", code="not_ready")
        return self._answers

    def _slots(self) -> Admission:
        if self._admission is None:
            raise overloaded("The model is loading.", code="not_ready")
        return self._admission

    def render_metrics(self) -> bytes:
        """The text of `/metrics`."""
        stats = self._engine.stats() if self._engine else EngineStats(0, 0, 0.0)
        admission = self._admission
        return self.metrics.render(
            stats,
            queued=admission.queued if admission else 0,
            queued_tokens=admission.queued_tokens if admission else 0,
            running=admission.running if admission else 0,
            slots=admission.max_running if admission else 0,
        )

    async def drain(self, seconds: float) -> None:
        """Refuse new work, let running requests finish for so long, then tell the rest to end."""
        self._not_ready = "the server is shutting down"
        if self._admission is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._admission.idle.wait()
        event(logger, "drained", left=self._admission.running if self._admission else 0)
        self.cut_off.set()

    async def close(self) -> None:
        """Stop the engine."""
        for task in self._background_tasks:
            task.cancel()
        if self._engine is not None:
            await asyncio.to_thread(self._engine.close)


def _one_token(request_id: str) -> GenerationRequest:
    return GenerationRequest(request_id, [0], 1, SamplingParams(0.0, 1.0, None), logprobs=0)


async def _has_finite_logprobs(engine: Engine, request: GenerationRequest) -> bool:
    """Whether the log probabilities of a request's tokens are numbers. Raises EngineError."""
    sound = True
    async with aclosing(engine.generate(request)) as events:
        async for event in events:
            sound = sound and all(math.isfinite(entry.value) for entry in event.logprobs or [])
    return sound
