"""The way to run a deployed function: every invocation of the laptop cloud goes through here.

The processes live on an event loop of their own, in a thread of their own: parts of the emulator invoke
functions synchronously, and a function calls the emulator back while it runs.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import secrets
import threading
import time
import uuid
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from local.cloud import ministack_adapter
from local.cloud.adapter_types import LambdaFunction
from local.cloud.config import CloudConfig
from local.cloud.lambda_service.function_pool import FunctionPool
from local.cloud.lambda_service.response_sinks import BufferedResponse, StreamRelay, take_prelude
from local.cloud.lambda_service.results import (
    InvokeResult,
    RequestTooLargeError,
    StreamError,
    StreamResult,
    TooManyRequestsError,
)
from local.cloud.lambda_service.worker import PAYLOAD_LIMIT, Invocation

__all__ = ["InvokeResult", "RequestTooLargeError", "StreamError", "StreamResult", "TooManyRequestsError"]

_REAP_EVERY_SECONDS = 10.0
_LOG_WAIT_SECONDS = 0.5
_STOP_SECONDS = 15.0
_DEFAULT_TIMEOUT = 3.0


def register(config: CloudConfig) -> None:
    """Start the pool and make the emulator use it."""
    runner = _PoolThread(config)
    _current.append(runner)
    ministack_adapter.set_function_executor(runner.execute)
    ministack_adapter.set_stream_invoker(_raw_stream)
    ministack_adapter.on_shutdown(runner.stop)


async def invoke(
    name_or_arn: str, event: Any, *, seconds: float | None = None, trace_id: str | None = None
) -> InvokeResult:
    """Run a function to its end. `seconds` shortens the function's own timeout.

    Raises KeyError for an unknown function, TooManyRequestsError, RequestTooLargeError.
    """
    function = _known(name_or_arn)
    running = _pool_thread().in_thread(_pool_thread().run(function, event, seconds, trace_id))
    return await asyncio.wrap_future(running)


async def invoke_stream(
    name_or_arn: str, event: Any, *, seconds: float | None = None, trace_id: str | None = None
) -> StreamResult:
    """Start a function and return as soon as its answer begins. A function that answers whole is given as a
    stream of one piece. Raises as `invoke` does, and StreamError when the function fails before its first
    byte."""
    function = _known(name_or_arn)
    relay = StreamRelay(asyncio.get_running_loop())
    invocation = _invocation(function, event, seconds, trace_id, relay)
    await asyncio.wrap_future(_pool_thread().in_thread(_pool_thread().submit(function, invocation)))
    content_type = await relay.started_content_type()
    prelude = await take_prelude(content_type, relay)
    return StreamResult(invocation.request_id, content_type, prelude, relay)


async def _raw_stream(function: LambdaFunction, event: bytes) -> AsyncIterator[bytes]:
    """The answer's bytes as the function writes them, prelude included; raises StreamError midway."""
    relay = StreamRelay(asyncio.get_running_loop())
    invocation = _invocation(function, event, None, None, relay)
    await asyncio.wrap_future(_pool_thread().in_thread(_pool_thread().submit(function, invocation)))
    return relay.from_beginning()


def _known(name_or_arn: str) -> LambdaFunction:
    function = ministack_adapter.deployed_function(name_or_arn)
    if function is None:
        raise KeyError(name_or_arn)
    return function


def _invocation(
    function: LambdaFunction, event: Any, seconds: float | None, trace_id: str | None, sink: Any
) -> Invocation:
    payload = event if isinstance(event, bytes) else json.dumps(event, separators=(",", ":")).encode()
    if len(payload) > PAYLOAD_LIMIT:
        raise RequestTooLargeError(f"{len(payload)} bytes exceed {PAYLOAD_LIMIT}")
    own = float(function.configuration.get("Timeout") or _DEFAULT_TIMEOUT)
    return Invocation(
        request_id=str(uuid.uuid4()),
        payload=payload,
        seconds=min(own, seconds) if seconds else own,
        trace_id=trace_id or _new_trace(),
        sink=sink,
    )


def _new_trace() -> str:
    root = f"1-{int(time.time()):08x}-{secrets.token_hex(12)}"
    return f"Root={root};Parent={secrets.token_hex(8)};Sampled=0"


class _PoolThread:
    """The pool's thread and its event loop."""

    def __init__(self, config: CloudConfig) -> None:
        self._config = config
        self._pools: dict[str, tuple[str, FunctionPool]] = {}
        self._retired: list[FunctionPool] = []
        self._tidying: asyncio.Future[None] | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="lambda-pool", daemon=True)
        self._thread.start()
        self._reaper = self.in_thread(self._reap())

    def in_thread(self, work: Coroutine[Any, Any, Any]) -> concurrent.futures.Future[Any]:
        """Run a coroutine on the pool's loop, from anywhere."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def submit(self, function: LambdaFunction, invocation: Invocation) -> None:
        """Hand an invocation to the function's processes; a changed function gets new ones."""
        version = _fingerprint(function)
        known, pool = self._pools.get(function.arn, (None, None))
        if pool is None or known != version:
            if pool is not None:
                self._retired.append(pool)
                self._tidying = asyncio.ensure_future(pool.retire())
            pool = FunctionPool(self._config, function)
            self._pools[function.arn] = (version, pool)
        await pool.submit(invocation)

    async def run(
        self,
        function: LambdaFunction,
        event: Any,
        seconds: float | None = None,
        trace_id: str | None = None,
        *,
        with_log: bool = False,
    ) -> InvokeResult:
        """Invoke and collect the whole answer; `with_log` waits a moment for the end of its log."""
        sink = BufferedResponse()
        invocation = _invocation(function, event, seconds, trace_id, sink)
        await self.submit(function, invocation)
        await sink.finished.wait()
        if with_log:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(invocation.completed.wait(), _LOG_WAIT_SECONDS)
        error = None if sink.error_type is None else "Unhandled"
        return InvokeResult(sink.payload(), error, invocation.request_id, invocation.log_tail)

    def execute(self, function: LambdaFunction, event: Any) -> dict[str, Any]:
        """What the emulator's own invocations come to; see `ministack_adapter.set_function_executor`."""
        running = self.in_thread(self.run(function, event, with_log=True))
        try:
            result = running.result()
        except TooManyRequestsError as error:
            return {
                "throttle": True,
                "error": True,
                "log": "",
                "body": {
                    "__type": "TooManyRequestsException",
                    "message": str(error),
                    "Reason": error.reason,
                    "retryAfterSeconds": "1",
                },
            }
        return {
            "body": _emulator_body(result),
            "error": result.function_error is not None,
            "function_error": result.function_error,
            "log": result.log_tail.decode("utf-8", "replace"),
        }

    async def stop(self) -> None:
        """End every process and the thread; called on the server's loop."""
        await asyncio.wait_for(asyncio.wrap_future(self.in_thread(self._stop_all())), _STOP_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _stop_all(self) -> None:
        pools = [pool for _version, pool in self._pools.values()] + self._retired
        await asyncio.gather(*(pool.stop() for pool in pools))

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(_REAP_EVERY_SECONDS)
            for _version, pool in list(self._pools.values()):
                await pool.reap()
            for pool in list(self._retired):
                await pool.retire()
            self._retired = [pool for pool in self._retired if not pool.empty]


_current: list[_PoolThread] = []


def _pool_thread() -> _PoolThread:
    if not _current:
        raise RuntimeError("the pool is not registered")
    return _current[-1]


def _fingerprint(function: LambdaFunction) -> str:
    """Changes whenever a process started earlier would no longer be right."""
    configuration = function.configuration
    names = ("CodeSha256", "Handler", "Runtime", "Role", "MemorySize", "Timeout", "Environment", "Layers")
    parts = {name: configuration.get(name) for name in names}
    return json.dumps([parts, function.reserved_concurrency], sort_keys=True, default=str)


def _emulator_body(result: InvokeResult) -> Any:
    """The emulator wants the decoded payload; what is not JSON it passes on as text."""
    try:
        return json.loads(result.payload)
    except ValueError:
        return result.payload
