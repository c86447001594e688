"""Asks the model for text and turns its bytes into chunks. Always streams, whatever the caller asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator

from lambdas.aws import model_errors
from lambdas.pipeline import sse
from lambdas.pipeline.fallback import Calls
from lambdas.pipeline.model_calls import ModelStream
from lambdas.pipeline.pending_response import HEARTBEAT_SECONDS, Answer, PendingResponse
from lambdas.pipeline.request import Admission, Chunk, Response


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
        self._payloads = sse.payloads(stream)
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
        except sse.EventTooLargeError:
            raise model_errors.garbage() from None
        if payload is None:
            raise model_errors.interrupted()
        if payload == sse.DONE:
            self._done = True
            return None
        return _parse(payload)


def _parse(payload: bytes) -> Chunk:
    try:
        chunk = json.loads(payload)
    except (ValueError, RecursionError):
        raise model_errors.garbage() from None
    if isinstance(chunk, dict) and "error" in chunk:
        # An event has no status of its own: the error's type tells it.
        raise model_errors.from_container(0, payload.decode())
    if not isinstance(chunk, dict) or not _are_choices(chunk.get("choices")):
        raise model_errors.garbage()
    return chunk


def _are_choices(choices: object) -> bool:
    return isinstance(choices, list) and all(isinstance(choice, dict) for choice in choices)
