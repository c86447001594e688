"""The fast engine on CPU: OpenVINO GenAI's continuous batching over int8 weights, in a process of its own.

This side hands requests to the worker and its tokens to the event loop. It imports neither torch nor
transformers, so that a server is up in seconds.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import socket
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, cast

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
from model_code.serving.engines.openvino_messages import (
    Add,
    Cancel,
    Command,
    Failed,
    Ready,
    Refused,
    Release,
    Report,
    Step,
    frame_command,
    parse_report,
    split_messages,
)
from model_code.serving.engines.openvino_probe import SchemaProbe
from model_code.serving.engines.openvino_process import run_worker
from model_code.serving.engines.openvino_scorer import PromptScorer
from model_code.serving.engines.schema_grammar import schema_grammar

if TYPE_CHECKING:
    from model_code.serving.engines.lora import Adapter

_CLOSE_SECONDS = 5.0
_Failure = EngineError | UnsupportedSchemaError
_FAILURES: dict[str, type[_Failure]] = {
    "failed": EngineError,
    "schema": UnsupportedSchemaError,
    "memory": OutOfMemoryError,
}


class _EventQueue:
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


class _WorkerConnection(asyncio.Protocol):
    """The way to the worker on an event loop, which neither waits for it nor needs a thread for it."""

    def __init__(self, heard: Callable[[Report], None], lost: Callable[[_WorkerConnection], None]) -> None:
        self._on_report, self._on_lost = heard, lost
        self._buffer = bytearray()
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._buffer += data
        for content in split_messages(self._buffer):
            self._on_report(parse_report(content))

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._on_lost(self)

    def send(self, order: Command) -> None:
        """Send an order; to a worker that is gone it is lost."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame_command(order))


class OpenVinoEngine:
    """Implements `base.Engine`."""

    name = "openvino"

    def __init__(self, limits: EngineLimits) -> None:
        self._limits = limits
        self._ready = Ready(0, 0, schemas=False)
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker_connection: _WorkerConnection | None = None
        self._opening: asyncio.Task[None] | None = None
        self._running: dict[int, _EventQueue] = {}  # touched in the event loop's thread only
        self._numbers = itertools.count()
        self._stats = EngineStats(running=0, waiting=0, cache_use=0.0)
        self._fault: str | None = "the model is not loaded"
        self._probe: SchemaProbe | None = None
        self._scorer: PromptScorer | None = None

    @property
    def context_tokens(self) -> int:
        """See `base.Engine`."""
        return self._ready.context_tokens

    @property
    def cache_tokens(self) -> int:
        """See `base.Engine`."""
        return self._ready.cache_tokens

    @property
    def capabilities(self) -> Capabilities:
        """See `base.Engine`. The pipeline tells the chosen token's log probability, no others."""
        return Capabilities(schemas=self._ready.schemas, top_logprobs=0)

    def load(self, folder: Path) -> None:
        """See `base.Engine`."""
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=run_worker, args=(theirs, folder, self._limits), name="openvino", daemon=True
        )
        self._process.start()
        theirs.close()  # or its end would not show here
        try:
            first = parse_report(self._connection.recv_bytes())
        except EOFError:
            first = Failed("the engine's process ended while loading")
        if not isinstance(first, Ready):
            raise EngineError(
                first.reason if isinstance(first, Failed) else "the engine's process is out of step"
            )
        self._ready = first
        self._fault = None
        self._probe = SchemaProbe(folder)
        self._scorer = PromptScorer(folder, self._limits.threads)

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[TokenEvent, None]:
        """See `base.Engine`."""
        self._check()
        if request.schema is not None and self._probe is not None:
            grammar = await asyncio.to_thread(schema_grammar, request.schema)
            await self._probe.check(grammar)
            request = replace(request, schema=grammar)
        line = await self._connected()
        self._check()  # again: a worker that ended meanwhile has told those it knew, and nobody else
        number, events = next(self._numbers), _EventQueue(asyncio.get_running_loop())
        self._running[number] = events
        line.send(Add(number, request))
        ended = False
        try:
            while not ended:
                event = await events.get()
                if isinstance(event, EngineError | UnsupportedSchemaError):
                    ended = True
                    raise event
                ended = event.stop_reason is not None
                yield event
        finally:
            self._running.pop(number, None)
            if not ended:
                line.send(Cancel(number))

    async def score(self, prompt: list[int], top: int) -> list[Logprob]:
        """See `base.Engine`."""
        self._check()
        assert self._scorer is not None
        return await self._scorer.score(prompt, top)

    def _check(self) -> None:
        if reason := self.fault():
            raise EngineError(reason)

    async def _connected(self) -> _WorkerConnection:
        """The line to the worker on the running loop."""
        loop = asyncio.get_running_loop()
        if self._worker_connection is None or loop is not self._loop:
            self._loop, self._worker_connection = (
                loop,
                _WorkerConnection(self._on_report, self._on_connection_lost),
            )
            self._opening = loop.create_task(self._connect(loop, self._worker_connection))
        line = self._worker_connection
        if self._opening is not None and not self._opening.done():
            await asyncio.shield(self._opening)
        return line

    async def _connect(self, loop: asyncio.AbstractEventLoop, line: _WorkerConnection) -> None:
        """Of the connection a copy, since a loop that ends takes its own along."""
        own = socket.socket(fileno=os.dup(self._open_connection().fileno()))
        await loop.create_unix_connection(lambda: line, sock=own)

    def _on_report(self, report: Report) -> None:
        if isinstance(report, Step | Refused):
            self._dispatch(report)
        elif isinstance(report, Failed):
            self._fail(f"the engine failed: {report.reason}")

    def _on_connection_lost(self, line: _WorkerConnection) -> None:
        if line is self._worker_connection and self._fault is None:
            self._fail("the engine's process ended")

    def _fail(self, reason: str) -> None:
        self._fault = reason
        for events in self._running.values():
            events.put(EngineError(reason))

    def _dispatch(self, message: Step | Refused) -> None:
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

    def _open_connection(self) -> Connection:
        if self._connection is None:
            raise EngineError("the model is not loaded")
        return self._connection

    def load_adapter(self, adapter: Adapter) -> None:
        """GenAI applies adapters to whole batches, and those of its start alone: `merged` does better."""
        raise IncompatibleAdapterError("adapters are turned off")

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
        (await self._connected()).send(Release())
        for process in (self._probe, self._scorer):
            if process is not None:
                await asyncio.to_thread(process.close)

    def close(self) -> None:
        """See `base.Engine`."""
        for process in (self._probe, self._scorer):
            if process is not None:
                process.close()
        if self._process is not None:
            self._process.kill()  # it holds nothing that needs an orderly end
            self._process.join(_CLOSE_SECONDS)
