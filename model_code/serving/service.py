"""The server's heart without HTTP: starts the engine, plans requests, generates text, drains.

One instance per process, used from one event loop.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass

from contracts.artefact import Manifest, verify
from contracts.chat import ChatRequest, Message
from model_code.serving import engines
from model_code.serving.adapters import Adapters
from model_code.serving.admission import Admission, QueueFull
from model_code.serving.engines.base import Engine, GenerationRequest, Sampling
from model_code.serving.errors import ServingError, invalid, overloaded
from model_code.serving.incremental import StopMatcher, StreamDecoder
from model_code.serving.logs import event
from model_code.serving.metrics import Metrics
from model_code.serving.protocol import Piece
from model_code.serving.settings import ServerSettings
from model_code.serving.text import ChatTokenizer

_LARGE_TEXT = 16_384  # characters; longer prompts are tokenised off the event loop
_DEFAULT_TEMPERATURE = 1.0
_LEAST = 1e-4  # engines compute in single precision, where less is nothing: it means the likeliest token
_WARM_UP_TOKENS = 4

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """A request that fits: its prompt in tokens and how far the answer may go."""

    prompt: list[int]
    max_tokens: int
    sampling: Sampling
    stops: list[str]
    adapter: str | None = None

    @property
    def tokens(self) -> int:
        """Most tokens the request may come to hold."""
        return len(self.prompt) + self.max_tokens


class Service:
    """A model being served."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.metrics = Metrics(settings.model_name)
        self._engine: Engine | None = None
        self._tokenizer: ChatTokenizer | None = None
        self._admission: Admission | None = None
        self._adapters: Adapters | None = None
        self._ids = itertools.count()
        self._not_ready = "the model is loading"
        self._progress = time.monotonic()  # when the engine last showed a sign of life
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
        )
        await self._warm_up(engine, self._tokenizer)
        self._adapters = Adapters(
            engine,
            self.settings.model_folder,
            manifest.digest,
            self.settings.model_name,
            self.settings.max_adapters,
            self.settings.max_adapter_bytes,
        )
        self._not_ready = ""
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
        prompt = tokenizer.encode(tokenizer.render([Message(role="user", content="Hello")]))
        request = GenerationRequest("warm-up", prompt, _WARM_UP_TOKENS, Sampling(1.0, 0.9, 0))
        async with aclosing(engine.generate(request)) as events:
            async for _ in events:
                pass

    def unready_reason(self) -> str | None:
        """Why no request can be served now, or None when ready."""
        if self._not_ready:
            return self._not_ready
        return self.engine_fault() or self._stalled()

    def engine_fault(self) -> str | None:
        """Why the engine will not serve again, once it has started; None while it is well."""
        return self._engine.fault() if self._engine else None

    def _stalled(self) -> str | None:
        """The watchdog: an engine with work that gives no token for too long is not well."""
        running = self._admission.running if self._admission else 0
        silence = time.monotonic() - self._progress
        if running == 0 or silence < self.settings.stall:
            return None
        return f"no token for {silence:.0f} s while {running} requests run"

    async def plan(self, request: ChatRequest) -> Plan:
        """Check a request against the model. Raises ServingError: not ready, unknown model, too long."""
        if reason := self.unready_reason():
            raise overloaded(f"The model cannot serve now: {reason}.", code="not_ready")
        engine, tokenizer = self._loaded()
        adapter = self._adapter_of(request.model)
        prompt = await self._tokenise(tokenizer, request, engine.context_tokens)
        room = engine.context_tokens - len(prompt)
        asked = request.token_limit
        if room < 1 or (asked or 0) > room:
            raise _too_long(engine.context_tokens, len(prompt), asked)
        temperature = _DEFAULT_TEMPERATURE if request.temperature is None else request.temperature
        sampling = Sampling(
            temperature=temperature if temperature >= _LEAST else 0.0,
            top_p=1.0 if request.top_p is None else max(request.top_p, _LEAST),
            seed=request.seed,
            presence_penalty=request.presence_penalty or 0.0,
            frequency_penalty=request.frequency_penalty or 0.0,
        )
        default = min(room, self.settings.default_max_tokens or room)
        return Plan(prompt, asked or default, sampling, request.stop_strings, adapter)

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

    async def _tokenise(self, tokenizer: ChatTokenizer, request: ChatRequest, context: int) -> list[int]:
        text = tokenizer.render(request.messages)
        if (fewest := tokenizer.fewest_tokens(text)) > context:
            raise _too_long(context, fewest, request.token_limit)
        if len(text) > _LARGE_TEXT:
            return await asyncio.to_thread(tokenizer.encode, text)
        return tokenizer.encode(text)

    async def generate(self, plan: Plan) -> AsyncGenerator[Piece, None]:
        """Wait for a slot, then stream the answer. The first piece marks the first token, text or not.

        Closing the generator frees the slot. Raises ServingError (queue full) and EngineError.
        """
        engine, tokenizer = self._loaded()
        decoder, matcher = StreamDecoder(tokenizer.decode), StopMatcher(plan.stops)
        count = 0
        try:
            with self._adapter_key(plan) as key:
                request = GenerationRequest(
                    str(next(self._ids)), plan.prompt, plan.max_tokens, plan.sampling, key
                )
                async with self._slot(plan.tokens), aclosing(engine.generate(request)) as events:
                    async for tokens in events:
                        self._progress = time.monotonic()
                        text, stopped = matcher.push(decoder.push(tokens.tokens))
                        first, count = count == 0, count + len(tokens.tokens)
                        if stopped:
                            yield Piece(text, count, "stop")
                            return
                        if tokens.stop_reason:
                            yield Piece(text + matcher.flush(), count, tokens.stop_reason)
                            return
                        if text or first:
                            yield Piece(text, count)
        except QueueFull:
            self.metrics.count_rejection("queue_full")
            raise overloaded("Too many requests are waiting.", code="queue_full") from None

    def _adapter_key(self, plan: Plan) -> AbstractContextManager[str | None]:
        """Holds the plan's adapter, waiting included, and gives the engine's key of it."""
        if plan.adapter is None or self._adapters is None:
            return nullcontext()
        return self._adapters.hold(plan.adapter)

    @asynccontextmanager
    async def _slot(self, tokens: int) -> AsyncIterator[None]:
        admission = self._slots()
        async with admission.slot(tokens):
            if admission.running == 1:  # the engine was idle until now: its silence meant nothing
                self._progress = time.monotonic()
            yield

    def _loaded(self) -> tuple[Engine, ChatTokenizer]:
        if self._engine is None or self._tokenizer is None:
            raise overloaded("The model is loading.", code="not_ready")
        return self._engine, self._tokenizer

    def _slots(self) -> Admission:
        if self._admission is None:
            raise overloaded("The model is loading.", code="not_ready")
        return self._admission

    def render_metrics(self) -> bytes:
        """The text of `/metrics`."""
        queued = self._admission.queued if self._admission else 0
        running = self._admission.running if self._admission else 0
        cache_use = self._engine.stats().cache_use if self._engine else 0.0
        return self.metrics.render(queued=queued, running=running, cache_use=cache_use)

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
        if self._engine is not None:
            await asyncio.to_thread(self._engine.close)


def _too_long(context: int, prompt: int, asked: int | None) -> ServingError:
    wanted = f"{prompt} in the messages" + (f" and {asked} in the answer" if asked else "")
    return invalid(
        f"This model's context is {context} tokens, but the request needs more: {wanted}. "
        "Shorten the messages or lower max_tokens.",
        param="messages",
        code="context_length_exceeded",
    )
