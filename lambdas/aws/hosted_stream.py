"""A provider's stream of events, made into what our own container would have sent.

Providers differ in what they add and what they leave out: chunks without choices, calls without an index,
finish reasons of their own, no usage, no `[DONE]`. What goes on holds the protocol's fields only: an answer's
text in a field of the provider's own would pass the guards unread.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from lambdas.aws import client as aws
from lambdas.aws import model_errors
from lambdas.aws.events import DONE, MAX_EVENT_BYTES, EventTooLargeError, payloads
from lambdas.aws.sagemaker import ModelBytes

_FINISH_REASONS = {"stop", "length", "content_filter", "tool_calls", "function_call"}
_OF_CHOICE = ("text", "logprobs")
_COUNTS = ("prompt_tokens", "completion_tokens")


class HostedStream:
    """The bytes of our own protocol out of a provider's reply."""

    variant: str | None = None

    def __init__(self, reply: aws.Reply) -> None:
        self._reply = reply

    def __iter__(self) -> Iterator[bytes]:
        """Raises ApiError when the stream breaks, falls silent, reports an error or is none."""
        chunks = _Chunks()
        events = payloads(ModelBytes(self._reply)) if self._is_stream else self._whole()
        done = False
        try:
            for payload in events:
                if done := payload == DONE:
                    break
                if (chunk := chunks.taken(payload)) is not None:
                    yield _event(json.dumps(chunk, ensure_ascii=False).encode())
        except EventTooLargeError:
            raise model_errors.garbage() from None
        if not (done or chunks.are_whole):
            raise model_errors.interrupted()
        yield _event(DONE)
        for _ in events:  # what is read to its end leaves a connection that can be used again
            pass

    @property
    def _is_stream(self) -> bool:
        return not (self._reply.header("content-type") or "").startswith("application/json")

    def _whole(self) -> Iterator[bytes]:
        """The one chunk that an answer is which came whole although a stream was asked for."""
        body = bytearray()
        for piece in ModelBytes(self._reply):
            body += piece
            if len(body) > MAX_EVENT_BYTES:
                raise EventTooLargeError
        try:
            answer = json.loads(body)
            for choice in answer["choices"]:
                if "message" in choice:
                    choice["delta"] = choice.pop("message")
        except (ValueError, RecursionError, TypeError, KeyError):
            raise model_errors.garbage() from None
        answer["object"] = str(answer.get("object", "")).replace("chat.completion", "chat.completion.chunk")
        yield json.dumps(answer).encode()

    def close(self) -> None:
        """Let go of the connection; the provider stops generating."""
        self._reply.close()


def _event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


class _Chunks:
    """The chunks of one answer, one after the other."""

    def __init__(self) -> None:
        self._open: set[int] = set()
        self._ended: set[int] = set()
        self._calls: dict[int, list[str]] = {}  # ids of each choice's tool calls, in order

    @property
    def are_whole(self) -> bool:
        """Whether each answer that has begun has ended."""
        return bool(self._ended) and not self._open

    def taken(self, payload: bytes) -> dict[str, Any] | None:
        """A chunk in our own form; None where nothing of it goes on. Raises ApiError."""
        try:
            chunk = json.loads(payload)
        except (ValueError, RecursionError):
            raise model_errors.garbage() from None
        if not isinstance(chunk, dict):
            raise model_errors.garbage()
        if chunk.get("error"):
            raise model_errors.unavailable("The model failed to answer.", model_errors.RETRY_AFTER_BUSY)
        choices = [self._choice(each) for each in chunk.get("choices") or [] if isinstance(each, dict)]
        usage = _usage(chunk.get("usage"))
        if not choices and usage is None:
            return None
        kept: dict[str, Any] = {name: chunk[name] for name in ("object", "created") if name in chunk}
        kept["choices"] = choices
        if usage is not None:
            kept["usage"] = usage
        return kept

    def _choice(self, given: dict[str, Any]) -> dict[str, Any]:
        index = given.get("index")
        index = index if isinstance(index, int) else 0
        choice: dict[str, Any] = {"index": index}
        choice |= {name: given[name] for name in _OF_CHOICE if name in given}
        if isinstance(delta := given.get("delta"), dict):
            choice["delta"] = self._delta(index, delta)
        elif "text" not in given:
            choice["delta"] = {}
        reason = given.get("finish_reason")
        if reason is not None:
            reason = reason if reason in _FINISH_REASONS else "stop"
            self._ended.add(index)
            self._open.discard(index)
        elif index not in self._ended:
            self._open.add(index)
        choice["finish_reason"] = reason
        return choice

    def _delta(self, index: int, given: dict[str, Any]) -> dict[str, Any]:
        delta: dict[str, Any] = {}
        if given.get("role") == "assistant":
            delta["role"] = "assistant"
        text = given.get("content") or given.get("refusal")
        if isinstance(text, str):
            delta["content"] = text
        calls = [each for each in given.get("tool_calls") or [] if isinstance(each, dict)]
        if calls:
            delta["tool_calls"] = [self._call(index, each) for each in calls]
        return delta

    def _call(self, index: int, given: dict[str, Any]) -> dict[str, Any]:
        """A call under a number of ours: in order of appearance, told apart by index, else by id."""
        known = self._calls.setdefault(index, [])
        mark = given.get("index")
        mark = f"#{mark}" if isinstance(mark, int) else str(given.get("id") or (known[-1] if known else ""))
        if mark not in known:
            known.append(mark)
        call: dict[str, Any] = {"index": known.index(mark)}
        if given.get("id"):
            call |= {"id": str(given["id"])[:128], "type": "function"}
        function = given.get("function")
        if isinstance(function, dict):
            call["function"] = {
                name: function[name]
                for name in ("name", "arguments")
                if isinstance(function.get(name), str) and function[name]
            }
        return call


def _usage(given: Any) -> dict[str, Any] | None:
    """The counts, where both are told."""
    if not isinstance(given, dict):
        return None
    prompt, completion = (given.get(name) for name in _COUNTS)
    if not isinstance(prompt, int) or not isinstance(completion, int):
        return None
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
