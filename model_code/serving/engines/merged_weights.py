"""Adapters for an engine that cannot mix them in a batch: each gets an engine of its own over merged weights.

Loading one so costs as much time and memory as the model itself, and running it costs nothing extra. The base
and every adapter compute side by side, and one that dies takes no other along. OpenVINO GenAI's own adapters
must be the same for all requests of a batch: bench/results/openvino_export.md.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

from safetensors.numpy import save_file

from model_code.serving.engines.base import (
    Capabilities,
    Engine,
    EngineStats,
    GenerationRequest,
    Logprob,
    TokenEvent,
)
from model_code.serving.engines.errors import (
    EngineError,
)
from model_code.serving.engines.lora import Adapter
from model_code.serving.engines.weights import INDEX_NAME, SINGLE_NAME, Weights

_MERGED_NAME = "merged.safetensors"


class MergedAdapters:
    """Implements `base.Engine` by one engine for the base and one more for every adapter."""

    def __init__(self, create: Callable[[], Engine]) -> None:
        self._create = create
        self._base = create()
        self._folder: Path | None = None
        self._adapted: dict[str, Engine] = {}
        self._folders: dict[str, tempfile.TemporaryDirectory[str]] = {}

    @property
    def name(self) -> str:
        """The base engine's."""
        return self._base.name

    @property
    def context_tokens(self) -> int:
        """See `base.Engine`."""
        return self._base.context_tokens

    @property
    def cache_tokens(self) -> int:
        """See `base.Engine`. Every adapter has a cache of its own of this size."""
        return self._base.cache_tokens

    @property
    def capabilities(self) -> Capabilities:
        """See `base.Engine`."""
        return self._base.capabilities

    def load(self, folder: Path) -> None:
        """See `base.Engine`."""
        self._folder = folder
        self._base.load(folder)

    def load_adapter(self, adapter: Adapter) -> None:
        """See `base.Engine`."""
        if self._folder is None:
            raise EngineError("the model is not loaded")
        engine = self._create()
        # Kept as long as the engine, which may read it again.
        folder = tempfile.TemporaryDirectory(prefix="evergreen-adapter-")
        try:
            write_merged(self._folder, adapter, Path(folder.name))
            engine.load(Path(folder.name))
        except BaseException:
            engine.close()
            folder.cleanup()
            raise
        self._folders[adapter.key] = folder
        self._adapted[adapter.key] = engine

    def unload_adapter(self, key: str) -> None:
        """See `base.Engine`."""
        if (engine := self._adapted.pop(key, None)) is not None:
            engine.close()
            self._folders.pop(key).cleanup()

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[TokenEvent, None]:
        """See `base.Engine`."""
        engine = self._base if request.adapter is None else self._adapted.get(request.adapter)
        if engine is None:
            raise EngineError(f"the adapter {request.adapter} is not loaded")
        async with aclosing(engine.generate(replace(request, adapter=None))) as events:
            async for event in events:
                yield event

    async def score(self, prompt: list[int], top: int) -> list[Logprob]:
        """See `base.Engine`."""
        return await self._base.score(prompt, top)

    def fault(self) -> str | None:
        """See `base.Engine`. A dead adapter fails its own requests; the base is well without it."""
        return self._base.fault()

    def stats(self) -> EngineStats:
        """See `base.Engine`; the cache use is the fullest one's."""
        parts = [engine.stats() for engine in (self._base, *self._adapted.values())]
        return replace(
            parts[0],
            running=sum(part.running for part in parts),
            waiting=sum(part.waiting for part in parts),
            cache_use=max(part.cache_use for part in parts),
        )

    async def release(self) -> None:
        """See `base.Engine`."""
        for engine in (self._base, *self._adapted.values()):
            await engine.release()

    def close(self) -> None:
        """See `base.Engine`."""
        self._base.close()
        for key in list(self._adapted):
            self.unload_adapter(key)


def write_merged(base: Path, adapter: Adapter, target: Path) -> None:
    """A model folder with the adapter added into the weights; what it leaves alone is linked, not copied.

    The sum is formed and kept in float32: a small change added in bfloat16 would be rounded away.
    """
    weights = Weights(base)
    index = base / INDEX_NAME
    places: dict[str, str] = (
        json.loads(index.read_text())["weight_map"]
        if index.is_file()
        else dict.fromkeys(weights.shapes, SINGLE_NAME)
    )
    merged = {}
    for module, layer in adapter.layers.items():
        name = f"{module}.weight"
        merged[name] = weights[name] + layer.product()
        places[name] = _MERGED_NAME
    save_file(merged, target / _MERGED_NAME)
    (target / INDEX_NAME).write_text(json.dumps({"weight_map": places}))
    for path in base.iterdir():  # folders apart: a converted copy of the base's weights is among them
        if path.is_file() and path.name != INDEX_NAME:
            (target / path.name).symlink_to(path.resolve())
