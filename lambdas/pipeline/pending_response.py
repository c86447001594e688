"""Waits for an answer to begin without keeping its caller in the dark.

A long queue or a long prompt can hold the first event back for longer than proxies and clients keep a silent
connection. The call runs in a thread of its own; while it lasts the stream carries heartbeats.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

from lambdas.pipeline.request import Chunk

HEARTBEAT_SECONDS = 15.0
HEARTBEAT: Chunk = {"choices": []}
"""Stands for 'still waiting' among the chunks; told from a chunk by identity."""


class Answer(Protocol):
    """An answer that has begun."""

    def chunks(self) -> Iterator[Chunk]:
        """The chunks as they come."""

    def release(self) -> None:
        """Let go of the stream."""


class PendingResponse:
    """A call under way. Once `wait` has returned None the answer is only to be had through `chunks`."""

    def __init__(self, call: Callable[[], Answer]) -> None:
        self._call = call
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._abandoned = False
        self._answer: Answer | None = None
        self._error: Exception | None = None
        # Log lines of the call belong to the request: the thread inherits its context.
        run = contextvars.copy_context().run
        threading.Thread(target=run, args=(self._run,), daemon=True, name="model-call").start()

    def wait(self, seconds: float) -> Answer | None:
        """The answer if it begins in time, else None. Raises what the call raises."""
        return self._result() if self._done.wait(seconds) else None

    def chunks(self) -> Iterator[Chunk]:
        """A heartbeat at once and each time HEARTBEAT_SECONDS have gone by, then the answer's chunks."""
        yield HEARTBEAT
        while not self._done.wait(HEARTBEAT_SECONDS):
            yield HEARTBEAT
        yield from self._result().chunks()

    def release(self) -> None:
        """Let go of the answer, now or as soon as it begins."""
        with self._lock:
            self._abandoned = True
            answer = self._answer
        if answer is not None:
            answer.release()

    def _result(self) -> Answer:
        if self._error is not None:
            raise self._error
        assert self._answer is not None
        return self._answer

    def _run(self) -> None:
        try:
            answer = self._call()
        except Exception as error:
            self._error = error
        else:
            with self._lock:
                self._answer = answer
                abandoned = self._abandoned
            if abandoned:
                answer.release()
        self._done.set()
