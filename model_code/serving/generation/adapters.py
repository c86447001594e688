"""Which LoRA adapters are loaded, who uses them, and how many there may be. Without HTTP.

An adapter that is unloaded takes no new request at once and leaves the engine with its last one. Those in a
folder of the container's own are loaded when a request names them, in the place of the one among them that
has been idle for longest; those that were registered stay. For one event loop.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from contracts.adapters import AdapterListing, AdapterRegistration
from model_code.serving.engines.base import Engine
from model_code.serving.engines.errors import EngineError, IncompatibleAdapterError
from model_code.serving.errors import ServingError, invalid, overloaded
from model_code.serving.logs import event

STATUS_NO_ROOM = 507
"""What SageMaker's contract has a container say when it cannot hold another model."""

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Loaded:
    """An adapter in the engine. `key` is new with every load: a name may come back while its last holder's
    requests still run."""

    name: str
    key: str
    source: str
    bytes: int
    users: int = 0
    leaving: bool = False
    on_demand: bool = False
    asked_at: int = 0  # a count of requests, not a time


class Adapters:
    """The adapters of one engine. `max_bytes` bounds what they measure on disk, all together.

    `on_demand` holds a folder for each adapter that a request may name unregistered.
    """

    def __init__(
        self,
        engine: Engine,
        folder: Path,
        digest: str,
        base_name: str,
        max_count: int,
        max_bytes: int,
        on_demand: Path | None = None,
    ) -> None:
        self._engine = engine
        self._folder = folder
        self._digest = digest
        self._base_name = base_name
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._sources = _sources(on_demand) if on_demand is not None and max_count else {}
        self._by_name: dict[str, _Loaded] = {}
        self._resident: set[_Loaded] = set()  # in the engine, those that are leaving among them
        self._numbers = itertools.count()
        self._load_lock = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()

    def __contains__(self, name: str) -> bool:
        """Whether requests may name this adapter."""
        return name in self._by_name or name in self._sources

    @property
    def names(self) -> list[str]:
        """The adapters that requests may name."""
        return sorted(self._by_name.keys() | self._sources.keys())

    def listing(self) -> list[AdapterListing]:
        """The loaded adapters by name."""
        return [
            AdapterListing(name=one.name, src=one.source, bytes=one.bytes, running=one.users)
            for _, one in sorted(self._by_name.items())
        ]

    async def load(self, wanted: AdapterRegistration) -> None:
        """Load an adapter while requests run. Raises ServingError: off, known, no room, does not fit."""
        if self._max_count == 0:
            raise invalid(
                "Adapters are turned off here: set EVERGREEN_MAX_ADAPTERS to how many may be loaded.",
                code="adapters_off",
            )
        if not wanted.preload:
            raise invalid(
                "Adapters are loaded at once or not at all: leave preload out.",
                param="preload",
                code="invalid_value",
            )
        async with self._load_lock:
            await self._load(wanted.name, wanted.src)

    async def demand(self, name: str) -> None:
        """Have an adapter loaded that a request names. Raises ServingError: unknown, does not fit, no room.

        Whoever holds it at once, without waiting for anything between, finds it there.
        """
        if name not in self._by_name:
            async with self._load_lock:
                await self._load_on_demand(name)
        self._by_name[name].asked_at = next(self._numbers)

    async def _load_on_demand(self, name: str) -> None:
        if name in self._by_name:  # another request has had it loaded meanwhile
            return
        source = self._sources.get(name)
        if source is None:
            raise not_found(name, self.names)
        while True:
            try:
                await self._load(name, str(source))
            except ServingError as error:
                if error.code != "adapter_limit":
                    raise
                idle = [one for one in self._by_name.values() if one.on_demand and one.users == 0]
                if not idle:
                    text = f"The adapter '{name}' has to wait for another one's place."
                    raise overloaded(text, code="adapter_limit") from None
                await self.unload(min(idle, key=lambda one: one.asked_at).name)
            else:
                self._by_name[name].on_demand = True
                return

    async def _load(self, name: str, source: str) -> None:
        if name == self._base_name:
            raise invalid(f"'{name}' is the base model's name.", param="name", code="adapter_exists")
        if name in self._by_name:
            raise invalid(
                f"The adapter '{name}' is loaded already: delete it first, or choose another name.",
                param="name",
                code="adapter_exists",
            )
        # numpy takes a tenth of a second to import: whoever loads no adapter starts without it.
        from model_code.serving.engines.lora import adapter_bytes, read_adapter
        from model_code.serving.engines.weights import Weights

        try:
            size = await asyncio.to_thread(adapter_bytes, Path(source))
            self._check_capacity(size)
            key = f"{name}#{next(self._numbers)}"
            shapes = await asyncio.to_thread(lambda: Weights(self._folder).shapes)
            adapter = await asyncio.to_thread(read_adapter, key, Path(source), shapes, self._digest)
            await asyncio.to_thread(self._engine.load_adapter, adapter)
        except IncompatibleAdapterError as error:
            raise invalid(
                f"The adapter '{name}' was not loaded: {error}.", param="src", code="adapter_refused"
            ) from None
        except EngineError as error:
            event(logger, f"adapter not loaded: {error}", level=logging.ERROR, adapter=name)
            text = f"The engine could not load the adapter '{name}'."
            raise ServingError("server_error", text, code="adapter_failed") from None
        loaded = _Loaded(name, key, source, size)
        self._resident.add(loaded)
        self._by_name[name] = loaded
        event(logger, "adapter loaded", adapter=name, bytes=size, layers=len(adapter.layers))

    def _check_capacity(self, size: int) -> None:
        total = sum(one.bytes for one in self._resident)
        if len(self._resident) >= self._max_count:
            text = f"{len(self._resident)} adapters are held, which is the most this container takes"
        elif total + size > self._max_bytes:
            text = f"The adapter's {size} bytes exceed what is left of {self._max_bytes} ({total} are held)"
        else:
            return
        raise invalid(f"{text}. Delete one first.", code="adapter_limit", status=STATUS_NO_ROOM)

    async def unload(self, name: str) -> None:
        """Take no new request for an adapter. One that nobody uses has left the engine and made room when
        this returns, any other leaves with its last request. Raises ServingError."""
        loaded = self._by_name.pop(name, None)
        if loaded is None:
            raise not_found(name, self.names)
        loaded.leaving = True
        if loaded.users == 0:
            await asyncio.shield(self._start_unload(loaded))

    @contextmanager
    def hold(self, name: str) -> Iterator[str]:
        """The engine's key of an adapter, which stays as long as it is held. Raises ServingError."""
        loaded = self._by_name.get(name)
        if loaded is None:
            raise not_found(name, self.names)
        loaded.users += 1
        try:
            yield loaded.key
        finally:
            loaded.users -= 1
            if loaded.leaving and loaded.users == 0:
                self._start_unload(loaded)

    def _start_unload(self, loaded: _Loaded) -> asyncio.Task[None]:
        task = asyncio.create_task(self._drop(loaded))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
        return task

    async def _drop(self, loaded: _Loaded) -> None:
        await asyncio.to_thread(self._engine.unload_adapter, loaded.key)
        self._resident.discard(loaded)
        event(logger, "adapter unloaded", adapter=loaded.name)


def _sources(folder: Path) -> dict[str, Path]:
    """The adapters in a folder by name; what lies elsewhere, behind a link, is none of them."""
    if not folder.is_dir():
        return {}
    inside = [each for each in folder.iterdir() if each.is_dir() and not each.is_symlink()]
    return {each.name: each for each in inside}


def not_found(name: str, known: list[str]) -> ServingError:
    """The refusal of a request for an adapter that is not loaded."""
    there = f"loaded are {', '.join(known)}" if known else "none is loaded"
    return ServingError(
        "not_found_error", f"The adapter '{name}' was not found: {there}.", code="adapter_not_found"
    )
