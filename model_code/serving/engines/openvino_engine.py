"""The fast engine on CPU: OpenVINO GenAI's continuous batching over int8 weights.

One thread owns the pipeline: it takes new requests between steps, runs a step, and hands the step's tokens to
the event loop in one go. Imports neither torch nor transformers, so that a server is up in seconds.
"""

from __future__ import annotations

import asyncio
import json
import logging
import queue
import random
import shutil
import tempfile
import threading
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import openvino as ov
import openvino_genai as genai

from model_code.serving.engines.base import (
    EngineError,
    EngineLimits,
    EngineStats,
    GenerationRequest,
    TokenEvent,
)
from model_code.serving.engines.openvino_graph import convert

CONVERTED = "openvino"
"""Folder inside an artefact that holds the converted model, if preparation left one there."""
STEP_TOKENS = 512
"""Most tokens in one step: a longer prompt is computed in pieces, between which others decode."""
BLOCK_TOKENS = 32  # what the CPU plug-in's paged attention uses
CACHE_CONTEXTS = 8
"""The cache holds this many requests of full length, or as many more of shorter ones."""
_LARGEST_SEED = 2**31 - 1
_CLOSE_SECONDS = 5.0
_IDLE_SECONDS = 1.0

logger = logging.getLogger(__name__)
_STOPPED = "the batch loop has stopped"


@dataclass(eq=False)
class _Running:
    """A request inside the pipeline; `deliver` is called in the event loop's thread."""

    request: GenerationRequest
    config: genai.GenerationConfig
    deliver: Callable[[TokenEvent | EngineError], None]
    cancelled: threading.Event = field(default_factory=threading.Event)
    handle: genai.GenerationHandle | None = None


class OpenVinoEngine:
    """Implements `base.Engine`."""

    name = "openvino"

    def __init__(self, limits: EngineLimits) -> None:
        self._limits = limits
        self._context = 0
        self._eos: list[int] = []
        self._pipeline: genai.ContinuousBatchingPipeline | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._incoming: queue.SimpleQueue[_Running | None] = queue.SimpleQueue()
        self._running: dict[int, _Running] = {}
        self._numbers = iter(range(2**62))
        self._thread = threading.Thread(target=self._work, name="openvino", daemon=True)
        self._fault: str | None = "the model is not loaded"

    @property
    def context_tokens(self) -> int:
        """See `base.Engine`."""
        return self._context

    @property
    def cache_tokens(self) -> int:
        """See `base.Engine`."""
        return self._blocks * BLOCK_TOKENS

    @property
    def _blocks(self) -> int:
        return -(-self._context // BLOCK_TOKENS) * CACHE_CONTEXTS

    def load(self, folder: Path) -> None:
        """See `base.Engine`."""
        longest = json.loads((folder / "config.json").read_text())["max_position_embeddings"]
        self._context = min(longest, self._limits.max_context or longest)
        eos = json.loads((folder / "generation_config.json").read_text()).get("eos_token_id")
        self._eos = eos if isinstance(eos, list) else [] if eos is None else [eos]
        with tempfile.TemporaryDirectory(prefix="evergreen-openvino-") as scratch:
            self._pipeline = self._open(_converted(folder, Path(scratch)))
        self._fault = None
        self._thread.start()

    def _open(self, folder: Path) -> genai.ContinuousBatchingPipeline:
        scheduler = genai.SchedulerConfig()
        scheduler.max_num_seqs = self._limits.max_running
        scheduler.max_num_batched_tokens = max(STEP_TOKENS, self._limits.max_running)
        scheduler.num_kv_blocks = self._blocks
        scheduler.dynamic_split_fuse = True
        scheduler.enable_prefix_caching = True
        return genai.ContinuousBatchingPipeline(
            folder, scheduler, "CPU", {"INFERENCE_NUM_THREADS": self._limits.threads}
        )

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[TokenEvent, None]:
        """See `base.Engine`."""
        if reason := self.fault():
            raise EngineError(reason)
        self._loop = asyncio.get_running_loop()
        events: asyncio.Queue[TokenEvent | EngineError] = asyncio.Queue()
        running = _Running(request, self._config(request), events.put_nowait)
        self._incoming.put(running)
        try:
            if reason := self.fault():  # it may have died since: then nobody will look at this request
                raise EngineError(reason)
            while True:
                event = await events.get()
                if isinstance(event, EngineError):
                    raise event
                yield event
                if event.stop_reason:
                    return
        finally:
            running.cancelled.set()  # of no effect on a request that has ended

    def _config(self, request: GenerationRequest) -> genai.GenerationConfig:
        config = genai.GenerationConfig()
        config.max_new_tokens = request.max_tokens
        config.stop_token_ids = set(self._eos)
        sampling = request.sampling
        config.presence_penalty = sampling.presence_penalty
        config.frequency_penalty = sampling.frequency_penalty
        config.do_sample = sampling.temperature > 0
        if config.do_sample:
            config.temperature = sampling.temperature
            config.top_p = sampling.top_p
            seed = random.getrandbits(31) if sampling.seed is None else sampling.seed
            config.rng_seed = seed % _LARGEST_SEED
        return config

    def _work(self) -> None:
        """The pipeline's thread."""
        try:
            while self._accept():
                self._step()
            self._fault = _STOPPED
        except Exception as error:
            logger.exception("the batch loop died")
            self._fault = f"the batch loop died: {type(error).__name__}"
        self._fail_all(self._fault)

    def _accept(self) -> bool:
        """Take what has arrived, waiting for it while there is nothing to do. False means: stop."""
        block = not self._running
        while True:
            try:
                arrived = self._incoming.get(block=block, timeout=_IDLE_SECONDS if block else None)
            except queue.Empty:
                if self._running or not block:
                    return True
                continue
            if arrived is None:
                return False
            self._admit(arrived)
            block = False

    def _admit(self, running: _Running) -> None:
        number = next(self._numbers)
        prompt = np.array([running.request.prompt], dtype=np.int64)
        running.handle = self._live().add_request(number, ov.Tensor(prompt), running.config)
        self._running[number] = running

    def _step(self) -> None:
        for running in self._running.values():
            if running.cancelled.is_set() and running.handle is not None:
                running.handle.cancel()
        self._live().step()
        fresh: list[tuple[_Running, TokenEvent]] = []
        for number, running in list(self._running.items()):
            event = _read(running)
            if event is not None:
                fresh.append((running, event))
            if running.cancelled.is_set() or (event and event.stop_reason):
                del self._running[number]
        self._deliver(fresh)

    def _deliver(self, events: list[tuple[_Running, TokenEvent]]) -> None:
        """One hop into the event loop for a whole step."""
        if events and self._loop is not None:
            self._loop.call_soon_threadsafe(_hand_out, events)

    def _fail_all(self, reason: str) -> None:
        while not self._incoming.empty():
            if (waiting := self._incoming.get()) is not None:
                self._running[next(self._numbers)] = waiting
        for running in self._running.values():
            if self._loop is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(running.deliver, EngineError(reason))
        self._running = {}

    def _live(self) -> genai.ContinuousBatchingPipeline:
        if self._pipeline is None:
            raise EngineError("the model is not loaded")
        return self._pipeline

    def fault(self) -> str | None:
        """See `base.Engine`."""
        return self._fault

    def stats(self) -> EngineStats:
        """See `base.Engine`."""
        if self._pipeline is None:
            return EngineStats(running=0, waiting=0, cache_use=0.0)
        metrics = self._pipeline.get_metrics()
        return EngineStats(
            running=metrics.scheduled_requests,
            waiting=max(0, metrics.requests - metrics.scheduled_requests),
            cache_use=min(1.0, metrics.cache_usage / 100),
        )

    def close(self) -> None:
        """See `base.Engine`."""
        if self._thread.is_alive():
            self._incoming.put(None)
            self._thread.join(_CLOSE_SECONDS)


def _read(running: _Running) -> TokenEvent | None:
    """What a step has made for a request, if anything."""
    handle, tokens, reason = running.handle, [], genai.GenerationFinishReason.NONE
    if handle is None or running.cancelled.is_set():
        return None
    while handle.can_read():
        for output in handle.read().values():
            tokens += output.generated_ids
            reason = output.finish_reason
    if reason == genai.GenerationFinishReason.NONE:
        return TokenEvent(tokens) if tokens else None
    return TokenEvent(tokens, "stop" if reason == genai.GenerationFinishReason.STOP else "length")


def _hand_out(events: list[tuple[_Running, TokenEvent]]) -> None:
    for running, event in events:
        running.deliver(event)


def _converted(folder: Path, scratch: Path) -> Path:
    """The artefact's own converted model, or one made now from its weights."""
    ready = folder / CONVERTED
    if (ready / "openvino_model.xml").is_file():
        return ready
    convert(folder, scratch)
    for name in ("config.json", "generation_config.json"):
        shutil.copyfile(folder / name, scratch / name)
    return scratch
