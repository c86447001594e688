"""Asks the model for text and turns its bytes into chunks. Always streams, whatever the caller asked for.

A long queue or a long prompt can hold the first event back for longer than proxies and clients keep a silent
connection. So a streamed call runs in a thread of its own; while it lasts the stream carries heartbeats.
Source: WHATWG HTML, "Server-sent events"; OpenAI API reference, "Streaming".
"""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

from pydantic_core import from_json

from lambdas.aws import model_errors
from lambdas.aws.events import DONE, EventTooLargeError, payloads
from lambdas.pipeline.model_calls import Calls, ModelStream
from lambdas.pipeline.request import Admission, Chunk, Response

HEARTBEAT_SECONDS = 15.0
HEARTBEAT: Chunk = {"choices": []}
"""Stands for 'still waiting' among the chunks; told from a chunk by identity."""


class Answer(Protocol):
    """An answer that has begun."""

    def chunks(self) -> Iterator[Chunk]:
        """The chunks as they come."""

    def release(self) -> None:
        """Let go of the stream."""


class _Threads:
    """Threads for calls; one that is done waits for the next, since a start takes longer than a hand-over."""

    def __init__(self) -> None:
        self._idle: list[queue.SimpleQueue[Callable[[], None]]] = []

    def run(self, call: Callable[[], None]) -> None:
        """Run a call, which raises nothing, in a thread that is free."""
        try:
            calls = self._idle.pop()
        except IndexError:
            calls = queue.SimpleQueue()
            threading.Thread(target=self._serve, args=(calls,), daemon=True, name="model-call").start()
        calls.put(call)

    def _serve(self, calls: queue.SimpleQueue[Callable[[], None]]) -> None:
        while True:
            calls.get()()
            self._idle.append(calls)


_threads = _Threads()


class PendingResponse:
    """A call under way. Once `wait` has returned None the answer is only to be had through `chunks`."""

    def __init__(self, call: Callable[[], Answer]) -> None:
        self._call = call
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._abandoned = False
        self._answer: Answer | None = None
        self._error: Exception | None = None
        # Log lines of the call belong to the request: the thread has its context.
        context = contextvars.copy_context()
        _threads.run(lambda: context.run(self._run))

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
        except Exception as error:  # noqa: BLE001 - raised again in the waiting thread
            self._error = error
        else:
            with self._lock:
                self._answer = answer
                abandoned = self._abandoned
            if abandoned:
                answer.release()
        self._done.set()


class Invoke:
    """Admission → an answer that has begun, or one to be waited for with heartbeats."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def __call__(self, admission: Admission, response: Response) -> Answer:
        """Returns with the first event, so that a refusal keeps its status. Raises ApiError.

        A stream whose first event is long in coming begins with heartbeats; then a refusal is an event on it.
        """
        if not admission.request.streamed:
            return self._calls.open(admission, response, _Answer)
        pending = PendingResponse(lambda: self._calls.open(admission, response, _Answer))
        return pending.wait(HEARTBEAT_SECONDS) or pending


class _Answer:
    """An open stream whose first chunk has come."""

    def __init__(self, stream: ModelStream) -> None:
        self._stream = stream
        self._payloads = payloads(stream)
        self._done = False
        self._first = self._next()

    def chunks(self) -> Iterator[Chunk]:
        """The chunks up to `[DONE]`. Raises ApiError when the stream breaks or is not one."""
        chunk = self._first
        while chunk is not None:
            yield chunk
            chunk = self._next()

    def release(self) -> None:
        """Close the stream; one that has ended is read out first, which keeps its connection usable."""
        try:
            if self._done:
                next(self._payloads, None)
        finally:
            self._stream.close()

    def _next(self) -> Chunk | None:
        try:
            payload = next(self._payloads, None)
        except EventTooLargeError:
            raise model_errors.garbage() from None
        if payload is None:
            raise model_errors.interrupted()
        if payload == DONE:
            self._done = True
            return None
        return _parse(payload)


def _parse(payload: bytes) -> Chunk:
    try:
        chunk = from_json(payload)
    except ValueError:
        raise model_errors.garbage() from None
    if isinstance(chunk, dict) and "error" in chunk:
        # An event has no status of its own: the error's type tells it.
        raise model_errors.from_container(0, payload.decode())
    if not isinstance(chunk, dict) or not _are_choices(chunk.get("choices")):
        raise model_errors.garbage()
    return chunk


def _are_choices(choices: object) -> bool:
    return isinstance(choices, list) and all(isinstance(choice, dict) for choice in choices)
