"""The server's heart for models that encode: embeddings, scores, classes. Without HTTP, like `service`.

One instance per process, used from one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np

from contracts.artefact import verify
from contracts.classification import ClassificationRequest, PipelineRequest
from contracts.scoring import PairsRequest
from model_code.serving import engines
from model_code.serving.admission import Admission, QueueFullError
from model_code.serving.encoders.batcher import Batcher
from model_code.serving.encoders.tokenisation import Cuts, Place, Tokenisation
from model_code.serving.engines.base import EngineStats
from model_code.serving.engines.encoder import Encoder, Normalisation, Numbers, Tokens
from model_code.serving.engines.errors import EngineError
from model_code.serving.errors import ServingError, invalid, overloaded
from model_code.serving.logs import event
from model_code.serving.metrics import Metrics
from model_code.serving.model_tasks import ModelTask
from model_code.serving.settings import ServerSettings
from model_code.serving.watchdog import Watchdog

BATCH_TOKENS = 4096
"""Most tokens, padding included, of one forward pass."""
_LARGE_TEXT = 16_384  # characters; more are tokenised off the event loop

logger = logging.getLogger(__name__)


class EmbeddingService:
    """A model that encodes, being served."""

    def __init__(self, settings: ServerSettings, task: ModelTask) -> None:
        self.settings = settings
        self.task = task
        self.metrics = Metrics(settings.model_name)
        self._encoder: Encoder | None = None
        self._tokenisation: Tokenisation | None = None
        self._batcher: Batcher | None = None
        # Tokens bound generation's cache; here a batch bounds itself.
        self._admission = Admission(
            max_running=settings.max_running, max_queued=settings.max_queued, max_tokens=0
        )
        self._size = 0  # numbers per text
        self._watchdog = Watchdog(settings.stall)
        self._watching: asyncio.Task[None] | None = None
        self._not_ready = "the model is loading"
        self.cut_off = asyncio.Event()
        """Set when draining has run out of time: whatever still runs must end now."""

    async def start(self) -> None:
        """Verify the artefact, load the model, encode once. Raises ArtefactError, EngineError, OSError."""
        began = time.perf_counter()
        settings = self.settings
        _, encoder = await asyncio.gather(
            asyncio.to_thread(verify, settings.model_folder, settings.model_digest),
            asyncio.to_thread(engines.create_encoder, settings, self.task),
        )
        await asyncio.to_thread(encoder.load, settings.model_folder)
        self._tokenisation = await asyncio.to_thread(
            Tokenisation, settings.model_folder, encoder.context_tokens
        )
        rows = settings.max_running if encoder.pads else 1
        self._batcher = Batcher(
            encoder.encode, max_rows=rows, max_tokens=BATCH_TOKENS, note_progress=self._watchdog.alive
        )
        self._encoder = encoder
        hello = await self._tokenise(["Hello"], _listed("input"))
        warm_up = _finite(await self._batcher.run(hello))
        self._size = warm_up.shape[1]
        self._not_ready = ""
        batcher = self._batcher
        watching = self._watchdog.watch(lambda: self._admission.running, lambda: _encodes(batcher, hello))
        self._watching = asyncio.create_task(watching)
        event(
            logger,
            "ready",
            engine=encoder.name,
            task=self.task,
            context_tokens=encoder.context_tokens,
            start_seconds=round(time.perf_counter() - began, 3),
        )

    def unready_reason(self) -> str | None:
        """Why no request can be served now, or None when ready."""
        return self._not_ready or self._watchdog.reason(self._admission.running)

    def engine_fault(self) -> str | None:
        """An encoder has no loop of its own that could die."""
        return None

    async def embed(self, model: str, texts: Sequence[str], dimensions: int | None) -> tuple[Numbers, int]:
        """Vectors [texts, dimensions] and how many tokens the texts hold. Raises ServingError.

        Fewer dimensions are the leading ones, brought to unit length again (Kusupati et al. 2022).
        """
        self._check(model)
        if dimensions is not None and dimensions > self._size:
            raise invalid(
                f"The model '{model}' has {self._size} dimensions, not {dimensions}.",
                param="dimensions",
                code="invalid_value",
            )
        tokens = await self._tokenise(texts, _listed("input"))
        vectors = await self._encode(tokens)
        if dimensions is not None and dimensions < self._size:
            vectors = _unit(vectors[:, :dimensions])
        return vectors, sum(map(len, tokens))

    async def classify(self, request: ClassificationRequest | PipelineRequest) -> tuple[Numbers, int]:
        """Scores [texts, labels] and how many tokens the texts hold. Raises ServingError."""
        if isinstance(request, PipelineRequest):
            encoder, cuts, place = self._check(None), Cuts(), _listed("inputs")
            how = request.parameters.function_to_apply or encoder.normalisation
        else:
            encoder, cuts = self._check(request.model), Cuts(request.truncate_prompt_tokens)
            place, how = _listed("input"), _activation(encoder, request.use_activation)
        tokens = await self._tokenise(request.texts, place, cuts)
        return normalised(await self._encode(tokens), how), sum(map(len, tokens))

    async def score(self, request: PairsRequest) -> tuple[Numbers, int]:
        """Scores [pairs] and how many tokens were read for them. Raises ServingError.

        A cross-encoder reads each pair; vectors of single texts are compared by their cosine.
        """
        encoder = self._check(request.model)
        pairs, texts = request.pairs, request.texts
        firsts = len(texts) - len(pairs)
        cuts = Cuts(request.truncate_prompt_tokens, request.max_tokens_per_doc)
        if self.task == "embedding":
            whole = await self._tokenise(texts[:firsts], request.place, Cuts(cuts.whole))
            whole += await self._tokenise(texts[firsts:], lambda index: request.place(firsts + index), cuts)
            vectors = _unit(await self._encode(whole))
            scores: Numbers = (vectors[:firsts] * vectors[firsts:]).sum(axis=1)
            return scores, sum(map(len, whole))
        tokenisation = self._tokens()
        tokens = await self._off_the_loop(
            texts, lambda: tokenisation.pairs(pairs, lambda index: request.place(firsts + index), cuts)
        )
        raw = await self._encode(tokens)
        return normalised(raw, _activation(encoder, request.use_activation))[:, 0], sum(map(len, tokens))

    @property
    def labels(self) -> tuple[str, ...]:
        """The classifier's labels, in the order of its scores."""
        return self._loaded().labels

    def _check(self, model: str | None) -> Encoder:
        if reason := self.unready_reason():
            raise overloaded(f"The model cannot serve now: {reason}.", code="not_ready")
        if model not in (None, self.settings.model_name):
            raise ServingError(
                "not_found_error",
                f"The model '{model}' does not exist here; this endpoint serves "
                f"'{self.settings.model_name}'.",
                param="model",
                code="model_not_found",
            )
        return self._loaded()

    async def _tokenise(self, texts: Sequence[str], place: Place, cuts: Cuts | None = None) -> list[Tokens]:
        tokenisation = self._tokens()
        return await self._off_the_loop(texts, lambda: tokenisation.texts(texts, place, cuts or Cuts()))

    async def _off_the_loop(self, texts: Sequence[str], work: Callable[[], list[Tokens]]) -> list[Tokens]:
        """Short texts are done at once: a thread takes longer than they do."""
        return await asyncio.to_thread(work) if sum(map(len, texts)) > _LARGE_TEXT else work()

    def _tokens(self) -> Tokenisation:
        if self._tokenisation is None:
            raise overloaded("The model is loading.", code="not_ready")
        return self._tokenisation

    async def _encode(self, tokens: list[Tokens]) -> Numbers:
        if self._batcher is None:
            raise overloaded("The model is loading.", code="not_ready")
        try:
            async with self._admission.slot(0):
                if self._admission.running == 1:
                    self._watchdog.begin()
                return _finite(await self._batcher.run(tokens))
        except QueueFullError:
            self.metrics.count_rejection("queue_full")
            raise overloaded("Too many requests are waiting.", code="queue_full") from None

    def _loaded(self) -> Encoder:
        if self._encoder is None:
            raise overloaded("The model is loading.", code="not_ready")
        return self._encoder

    def render_metrics(self) -> bytes:
        """The text of `/metrics`; an encoder keeps no cache."""
        return self.metrics.render(
            EngineStats(running=self._admission.running, waiting=0, cache_use=0.0),
            queued=self._admission.queued,
            queued_tokens=self._admission.queued_tokens,
            running=self._admission.running,
            slots=self._admission.max_running,
        )

    async def drain(self, seconds: float) -> None:
        """Refuse new work, let running requests finish for so long, then tell the rest to end."""
        self._not_ready = "the server is shutting down"
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._admission.idle.wait()
        event(logger, "drained", left=self._admission.running)
        self.cut_off.set()

    async def close(self) -> None:
        """Let go of the model."""
        if self._watching is not None:
            self._watching.cancel()
        if self._batcher is not None:
            self._batcher.close()
        if self._encoder is not None:
            self._encoder.close()


def _listed(name: str) -> Place:
    return lambda index: f"{name}[{index}]"


def _activation(encoder: Encoder, wanted: bool | None) -> Normalisation:
    return "none" if wanted is False else encoder.normalisation


async def _encodes(batcher: Batcher, tokens: list[Tokens]) -> bool:
    """Whether a batch ends. One that fails has ended too: that is for the requests to tell."""
    with suppress(Exception):
        await batcher.run(tokens)
    return True


def _finite(rows: Numbers) -> Numbers:
    """The rows; raises EngineError for a request whose results are not numbers."""
    if not np.isfinite(rows).all():
        raise EngineError("the model's results are not numbers")
    return rows


def _unit(vectors: Numbers) -> Numbers:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Numbers = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return unit


def normalised(scores: Numbers, how: Normalisation) -> Numbers:
    """Raw scores [texts, labels] as probabilities that add up to one, or each by itself, or as they are."""
    if how == "none":
        return scores
    if how == "sigmoid":
        return (1 / (1 + np.exp(-np.clip(scores, -80, 80)))).astype(np.float32)
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: Numbers = powers / powers.sum(axis=1, keepdims=True)
    return shares
