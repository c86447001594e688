"""The fast engine on CPU: OpenVINO GenAI's continuous batching over int8 weights, in a process of its own.

This side hands requests to the worker and its tokens to the event loop. It imports neither torch nor
transformers, so that a server is up in seconds.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import queue
import threading
from collections import deque
from collections.abc import AsyncGenerator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from model_code.serving.engines.base import (
    Abilities,
    AdapterRefused,
    EngineError,
    EngineLimits,
    EngineStats,
    GenerationRequest,
    Logprob,
    OutOfMemory,
    SchemaRefused,
    TokenEvent,
)
from model_code.serving.engines.openvino_messages import (
    Add,
    Cancel,
    Failed,
    Ready,
    Refused,
    Release,
    Step,
    hear,
    start_worker,
)
from model_code.serving.engines.openvino_probe import SchemaProbe

if TYPE_CHECKING:
    from model_code.serving.engines.lora import Adapter

_CLOSE_SECONDS = 5.0
_Failure = EngineError | SchemaRefused
_FAILURES: dict[str, type[_Failure]] = {
    "failed": EngineError,
    "schema": SchemaRefused,
    "memory": OutOfMemory,
}


class _Events:
    """What comes for one request. One reader, no bound, no locks: asyncio's queue costs a step more time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._events: deque[TokenEvent | _Failure] = deque()
        self._more: asyncio.Future[None] | None = None

    def put(self, event: TokenEvent | _Failure) -> None:
        """Add one at the end."""
        self._events.append(event)
        if self._more is not None and not self._more.done():
            self._more.set_result(None)

    async def get(self) -> TokenEvent | _Failure:
        """The next one, once it is there."""
        while not self._events:
            self._more = self._loop.create_future()
            await self._more
        return self._events.popleft()


class OpenVinoEngine:
    """Implements `base.Engine`."""

    name = "openvino"

    def __init__(self, limits: EngineLimits) -> None:
        self._limits = limits
        self._ready = Ready(0, 0, schemas=False)
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._outgoing: queue.SimpleQueue[Add | Cancel | Release | None] = queue.SimpleQueue()
        self._running: dict[int, _Events] = {}  # touched in the event loop's thread only
        self._numbers = itertools.count()
        self._stats = EngineStats(running=0, waiting=0, cache_use=0.0)
        self._fault: str | None = "the model is not loaded"
        self._probe: SchemaProbe | None = None
        self._sender: threading.Thread | None = None

    @property
    def context_tokens(self) -> int:
        """See `base.Engine`."""
        return self._ready.context_tokens

    @property
    def cache_tokens(self) -> int:
        """See `base.Engine`."""
        return self._ready.cache_tokens

    @property
    def abilities(self) -> Abilities:
        """See `base.Engine`. The pipeline tells the chosen token's log probability, no others."""
        return Abilities(schemas=self._ready.schemas, top_logprobs=0)

    def load(self, folder: Path) -> None:
        """See `base.Engine`."""
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=start_worker, args=(theirs, folder, self._limits), name="openvino", daemon=True
        )
        self._process.start()
        theirs.close()  # or its end would not show here
        try:
            first = hear(self._connection)
        except EOFError:
            first = Failed("the engine's process ended while loading")
        if not isinstance(first, Ready):
            raise EngineError(first.reason if isinstance(first, Failed) else "the engine's process is out of step")
        self._ready = first
        self._fault = None
        self._probe = SchemaProbe(folder)
        self._sender = threading.Thread(target=self._send, name="openvino-send", daemon=True)
        self._sender.start()

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[TokenEvent, None]:
        """See `base.Engine`."""
        if reason := self.fault():
            raise EngineError(reason)
        if request.schema is not None and self._probe is not None:
            await self._probe.check(request.schema)
        loop = asyncio.get_running_loop()
        self._listen(loop)
        number, events = next(self._numbers), _Events(loop)
        self._running[number] = events
        self._outgoing.put(Add(number, request))
        ended = False
        try:
            while not ended:
                event = await events.get()
                if isinstance(event, EngineError | SchemaRefused):
                    ended = True
                    raise event
                ended = event.stop_reason is not None
                yield event
        finally:
            self._running.pop(number, None)
            if not ended:
                self._outgoing.put(Cancel(number))

    def _send(self) -> None:
        """A thread's work: the pipe may be full while the worker computes; the event loop must not wait."""
        connection = self._live()
        while (message := self._outgoing.get()) is not None:
            try:
                connection.send(message)
            except OSError:  # the worker is gone; `_readable` says so
                return

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the loop itself read the pipe: a thread in between costs each step two more wake-ups."""
        if loop is not self._loop:
            self._loop = loop
            loop.add_reader(self._live().fileno(), self._readable, loop)

    def _readable(self, loop: asyncio.AbstractEventLoop) -> None:
        """The loop's work: one message, which the worker has written whole or is just writing."""
        connection = self._live()
        try:
            message = hear(connection)
        except (EOFError, OSError):
            message = None
        if isinstance(message, Step | Refused):
            self._hand_out(message)
            return
        loop.remove_reader(connection.fileno())
        failed = isinstance(message, Failed)
        self._fault = f"the engine failed: {message.reason}" if failed else "the engine's process ended"
        for events in self._running.values():
            events.put(EngineError(self._fault))

    def _hand_out(self, message: Step | Refused) -> None:
        if isinstance(message, Refused):
            if (events := self._running.get(message.number)) is not None:
                events.put(_FAILURES[message.kind](message.reason))
            return
        steps = self._stats.steps + 1
        self._stats = EngineStats(message.running, 0, message.cache_use, steps, message.batch)
        for number, tokens, reason, values in message.tokens:
            if (events := self._running.get(number)) is not None:
                logprobs = None if values is None else [Logprob(value, []) for value in values]
                events.put(TokenEvent(tokens, reason, logprobs))

    def _live(self) -> Connection:
        if self._connection is None:
            raise EngineError("the model is not loaded")
        return self._connection

    def load_adapter(self, adapter: Adapter) -> None:
        """GenAI applies adapters to whole batches, and those of its start alone: `merged` does better."""
        raise AdapterRefused("adapters are turned off")

    def unload_adapter(self, key: str) -> None:
        """See `base.Engine`; there is never one."""

    def fault(self) -> str | None:
        """See `base.Engine`."""
        return self._fault

    def stats(self) -> EngineStats:
        """See `base.Engine`."""
        return self._stats

    async def release(self) -> None:
        """See `base.Engine`."""
        self._outgoing.put(Release())
        if self._probe is not None:
            await asyncio.to_thread(self._probe.close)

    def close(self) -> None:
        """See `base.Engine`."""
        self._outgoing.put(None)
        if self._probe is not None:
            self._probe.close()
        if self._process is not None:
            self._process.kill()  # it holds nothing that needs an orderly end
            self._process.join(_CLOSE_SECONDS)
        if self._sender is not None:  # a thread that outlives the server can bring the whole exit down
            self._sender.join(_CLOSE_SECONDS)
