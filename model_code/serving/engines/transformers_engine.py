"""The reference engine: transformers' continuous batching over a paged cache, for any model on any device.

Everything that touches transformers' batching classes stands here and in `sampling`.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingLogitsProcessorList,
)
from transformers.generation.continuous_batching.continuous_api import ContinuousBatchingManager
from transformers.generation.continuous_batching.requests import GenerationOutput
from transformers.generation.logits_process import LogitsProcessorList
from transformers.utils import logging as transformers_logging

from contracts.chat import MAX_TOP_LOGPROBS
from model_code.serving.engines.base import (
    Capabilities,
    EngineLimits,
    EngineStats,
    GenerationRequest,
    Logprob,
    TokenEvent,
)
from model_code.serving.engines.errors import (
    EngineError,
    IncompatibleAdapterError,
    OutOfMemoryError,
    UnsupportedSchemaError,
)
from model_code.serving.engines.lora import Adapter
from model_code.serving.engines.lora_layers import LoraLayers, RoutingProcessors
from model_code.serving.engines.precision import fastest_dtype
from model_code.serving.engines.sampling import KEYWORD, BatchSampler, RequestSampler
from model_code.serving.engines.schema_masks import SchemaMasks
from model_code.serving.engines.transformers_scorer import SharedScorer

PAGE_TOKENS = 32
STEP_TOKENS = 512
"""Most tokens in one forward pass: a longer prompt is computed in pieces, between which others decode."""
CACHE_CONTEXTS = 4
"""The cache holds this many requests of full length, or as many more of shorter ones."""
_ALIVE_CHECK_SECONDS = 1.0
_CLOSE_SECONDS = 5.0

logger = logging.getLogger(__name__)


class TransformersEngine:
    """Implements `base.Engine`."""

    name = "transformers"

    def __init__(self, limits: EngineLimits) -> None:
        self._limits = limits
        self._model: Any = None
        self._masks: SchemaMasks | None = None
        self._manager: ContinuousBatchingManager | None = None
        self._changing = asyncio.Lock()
        """Held while the batch loop is replaced; requests wait for it."""
        self._gone: str | None = None
        self._sampler = BatchSampler()
        self._eos: frozenset[int] = frozenset()
        self._context = 0
        self._cache_tokens = 0
        self._adapters: LoraLayers | None = None
        self._scorer: SharedScorer | None = None

    @property
    def context_tokens(self) -> int:
        """See `base.Engine`."""
        return self._context

    @property
    def cache_tokens(self) -> int:
        """See `base.Engine`."""
        return self._cache_tokens

    @property
    def capabilities(self) -> Capabilities:
        """See `base.Engine`."""
        return Capabilities(schemas=self._masks is not None, top_logprobs=MAX_TOP_LOGPROBS)

    def load(self, folder: Path) -> None:
        """See `base.Engine`."""
        transformers_logging.disable_progress_bar()
        _quiet_batch_logger()
        torch.set_num_threads(self._limits.threads)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        generation = GenerationConfig.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=fastest_dtype(device), attn_implementation="sdpa", local_files_only=True
        ).to(device)  # type: ignore[arg-type]  # transformers wraps `to` unbound
        eos = generation.eos_token_id
        self._eos = frozenset(eos if isinstance(eos, list) else [] if eos is None else [eos])
        longest = model.config.get_text_config().max_position_embeddings
        self._context = min(longest, self._limits.max_context or longest)
        self._cache_tokens = -(-self._context // PAGE_TOKENS) * PAGE_TOKENS * CACHE_CONTEXTS
        self._masks = SchemaMasks(folder, model.config.get_text_config().vocab_size, sorted(self._eos))
        self._scorer = SharedScorer(model)  # before the model's layers and attention change
        if self._limits.max_adapters:
            self._adapters = LoraLayers(model)
        self._model = model
        self._manager = self._start()

    def _start(self) -> ContinuousBatchingManager:
        manager: ContinuousBatchingManager = self._model.init_continuous_batching(
            generation_config=GenerationConfig(do_sample=False, eos_token_id=sorted(self._eos) or -1),
            continuous_batching_config=ContinuousBatchingConfig(
                page_size=PAGE_TOKENS,
                num_blocks=self._cache_tokens // PAGE_TOKENS,
                max_batch_tokens=max(STEP_TOKENS, self._limits.max_running),
                max_requests_per_batch=self._limits.max_running,
                auto_switch_to_flash=self._model.device.type != "cpu",
                # Sampling draws on the host between forward passes: no graph, no second batch in flight.
                use_cuda_graph=False,
                use_async_batching=False,
                # A prefix is told by its tokens alone, but means something else under each adapter.
                allow_block_sharing=self._adapters is None,
            ),
        )
        processors = LogitsProcessorList([self._sampler])
        if self._adapters is None:
            manager.logit_processor = ContinuousBatchingLogitsProcessorList(processors)
        else:
            manager.logit_processor = RoutingProcessors(processors, self._adapters, _adapter_of)
        manager.logit_processor.tensors_required = 1
        manager.start()
        return manager

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[TokenEvent, None]:
        """See `base.Engine`."""
        matcher = None
        if request.schema is not None:
            if self._masks is None:
                raise UnsupportedSchemaError("the tokenizer's way of writing is not known")
            matcher = await asyncio.to_thread(self._masks.matcher, request.schema)
        sampler = RequestSampler(request.sampling, matcher, request.logprobs)
        sampler.adapter = request.adapter
        outputs: asyncio.Queue[GenerationOutput] = asyncio.Queue()
        async with self._changing:
            await self._revive()
            manager = self._running_manager()
            manager.register_result_handler(request.request_id, outputs.put_nowait)
            accepted = manager.add_request(
                request.prompt,
                request_id=request.request_id,
                max_new_tokens=request.max_tokens,
                streaming=True,
                sampler=sampler,  # handed on to `BatchSampler` under this keyword
            )
        finished = False
        try:
            if accepted is None:
                raise EngineError(self.fault() or "the engine takes no more requests")
            seen = 0
            while not finished:
                output = await self._next(outputs)
                if sampler.undefined:
                    raise EngineError("the model's logits are not numbers")
                if matcher is not None and matcher.fault:
                    raise UnsupportedSchemaError(matcher.fault)
                finished = output.is_finished()
                fresh = output.generated_tokens[seen:]
                logprobs = (
                    sampler.logprobs[seen : seen + len(fresh)] if sampler.top_logprobs is not None else None
                )
                seen += len(fresh)
                if fresh or finished:
                    yield self._event(fresh, logprobs, finished)
        finally:
            if not finished:
                manager.cancel_request(request.request_id)
            # transformers has no public way to take a handler back, and would keep one per request.
            with manager.output_router._lock:  # noqa: SLF001
                manager.output_router.result_handlers.pop(request.request_id, None)

    async def score(self, prompt: list[int], top: int) -> list[Logprob]:
        """See `base.Engine`."""
        if self._scorer is None:
            raise EngineError("the model is not loaded")
        return await asyncio.to_thread(self._scorer.score, prompt, top)

    async def _next(self, outputs: asyncio.Queue[GenerationOutput]) -> GenerationOutput:
        while True:
            try:
                # Not wait_for: before Python 3.12 it may swallow a cancellation that meets a result.
                async with asyncio.timeout(_ALIVE_CHECK_SECONDS):
                    output = await outputs.get()
            except TimeoutError:
                if reason := self._memory_error():
                    raise OutOfMemoryError(reason) from None
                if reason := self.fault():
                    raise EngineError(reason) from None
                continue
            if output.error is not None:
                if _is_memory(output.error):
                    raise OutOfMemoryError(output.error)
                raise EngineError(output.error)
            return output

    def _event(self, tokens: list[int], logprobs: list[Logprob] | None, finished: bool) -> TokenEvent:
        if not finished:
            return TokenEvent(tokens, None, logprobs)
        return TokenEvent(tokens, "stop" if tokens and tokens[-1] in self._eos else "length", logprobs)

    def _memory_error(self) -> str | None:
        """What ended the batch loop, where that was a lack of memory: a new loop can take its place."""
        error = self._manager.background_thread_status.fatal_error if self._manager else None
        return str(error) if error is not None and _is_memory(str(error)) else None

    async def _revive(self) -> None:
        """Start a new batch loop where memory ran out in the last one."""
        if self._memory_error():
            await asyncio.to_thread(self._replace)

    def _replace(self) -> None:
        """A new batch loop with an empty cache; the old one's memory goes back first."""
        self._stop()
        self._manager = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            self._manager = self._start()
        except Exception as error:  # whatever torch raises, there is no engine any more
            self._gone = f"the batch loop could not be started again: {error}"
            raise EngineError(self._gone) from error

    def _running_manager(self) -> ContinuousBatchingManager:
        if self._manager is None:
            raise EngineError("the engine is not loaded")
        if reason := self.fault():
            raise EngineError(reason)
        return self._manager

    def load_adapter(self, adapter: Adapter) -> None:
        """See `base.Engine`."""
        if self._adapters is None:
            raise IncompatibleAdapterError("adapters are turned off")
        self._adapters.add(adapter)

    def unload_adapter(self, key: str) -> None:
        """See `base.Engine`."""
        if self._adapters is not None:
            self._adapters.remove(key)

    def fault(self) -> str | None:
        """See `base.Engine`."""
        if self._gone:
            return self._gone
        if self._manager is None:
            return "the model is not loaded" if self._model is None else None  # it is being replaced
        if self._memory_error():
            return None
        if error := self._manager.background_thread_status.fatal_error:
            return f"the batch loop died: {error}"
        return None if self._manager.is_running() else "the batch loop has stopped"

    def stats(self) -> EngineStats:
        """See `base.Engine`."""
        processor = self._manager.batch_processor if self._manager else None
        if processor is None:
            return EngineStats(running=0, waiting=0, cache_use=0.0)
        scheduler = processor.scheduler
        return EngineStats(
            running=len(scheduler.active_requests),
            waiting=len(scheduler.waiting_requests),
            cache_use=min(1.0, max(0.0, 1.0 - processor.cache.compute_free_capacity())),
            steps=self._sampler.steps,
            batch=self._sampler.batch,
        )

    async def release(self) -> None:
        """See `base.Engine`."""
        async with self._changing:
            await asyncio.to_thread(self._replace)

    def close(self) -> None:
        """See `base.Engine`."""
        self._stop()

    def _stop(self) -> None:
        if self._manager is not None:
            self._manager.stop(block=True, timeout=_CLOSE_SECONDS, hard_stop=True)


def _is_memory(text: str) -> bool:
    """Whether memory was what was lacking; torch says so in words only."""
    return "out of memory" in text.lower() or "can't allocate memory" in text.lower()


def _adapter_of(state: Any) -> str | None:
    sampler = (state.logit_processor_kwargs or {}).get(KEYWORD)
    return sampler.adapter if isinstance(sampler, RequestSampler) else None


def _quiet_batch_logger() -> None:
    """Its lines join ours as JSON, from warnings upwards."""
    batch_logger = logging.getLogger("ContinuousBatchingLogger")
    batch_logger.handlers.clear()
    batch_logger.propagate = True
    batch_logger.setLevel(logging.WARNING)
