"""Answers in the form of Anthropic's Messages protocol, whole or as events, and its errors.

Source: Anthropic's API reference, "Messages", "Streaming messages" and "Errors".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from contracts.messages_replies import (
    MessageError,
    MessageErrorReply,
    MessageRefusal,
    MessageReply,
    MessageTextReply,
    MessageToolUse,
    MessageUsage,
    StopReason,
    error_type,
)
from lambdas.aws import model_errors
from lambdas.runtime.errors import ApiError

_STOP_REASONS: dict[str, StopReason] = {
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
_TOO_LONG = "prompt is too long: "
"""How this protocol's clients know a prompt that does not fit."""


def error_body(error: ApiError, request_id: str) -> str:
    """The JSON text of an error."""
    message = error.message
    if error.code == "context_length_exceeded":
        message = _TOO_LONG + message
    inside = MessageError(type=error_type(error.type, error.status), message=message)
    return MessageErrorReply(error=inside, request_id=request_id).model_dump_json()


def error_event(error: ApiError, request_id: str) -> bytes:
    """The error as the last event of a stream."""
    return _framed("error", error_body(error, request_id))


class MessageRendering:
    """One answer as a message; see `lambdas.pipeline.operations.Rendering`.

    A block is a text or a call of a tool. They follow one another: what begins another one ends the open one.
    """

    def __init__(self, id: str, model: str, request_id: str) -> None:
        self._request_id = request_id
        self._message = MessageReply(id=id, model=model)
        self._begun = False
        self._open: str | int | None = None  # "text", or the number of the call whose block is open
        self._blocks = 0
        self._texts: list[str] = []  # of an answer that is not streamed
        self._calls: dict[int, dict[str, Any]] = {}
        self._finish: str | None = None
        self._stop_text: str | None = None
        self._filter: str | None = None

    def waiting(self) -> Iterable[bytes]:
        """A client waits for the message's beginning, then takes any number of pings."""
        yield from self._beginning()
        yield _event("ping")

    def events(self, chunk: dict[str, Any]) -> Iterable[bytes]:
        """See Rendering."""
        yield from self._beginning()
        for choice in chunk["choices"]:
            delta = choice.get("delta") or {}
            if text := delta.get("content"):
                yield from self._within("text", {"type": "text", "text": ""})
                yield self._delta({"type": "text_delta", "text": text})
            for piece in delta.get("tool_calls") or []:
                yield from self._call(piece)
        self._note(chunk)

    def end(self) -> Iterable[bytes]:
        """See Rendering."""
        yield from self._beginning()
        yield from self._closing()
        self._conclude()
        fields = self._message.model_dump(include={"stop_reason", "stop_sequence", "stop_details"})
        yield _event("message_delta", delta=fields, usage=self._message.usage.model_dump())
        yield _event("message_stop")

    def failure(self, error: ApiError) -> Iterable[bytes]:
        """See Rendering."""
        return (error_event(error, self._request_id),)

    def gather(self, chunk: dict[str, Any]) -> None:
        """See Rendering."""
        for choice in chunk["choices"]:
            self._begun = True
            delta = choice.get("delta") or {}
            self._texts.append(delta.get("content") or "")
            for piece in delta.get("tool_calls") or []:
                self._add(piece)
        self._note(chunk)

    def whole(self) -> bytes:
        """See Rendering."""
        if not self._begun:
            raise model_errors.garbage()
        message = self._message
        if text := "".join(self._texts):
            message.content.append(MessageTextReply(text=text))
        for call in self._calls.values():
            used = MessageToolUse(id=call["id"], name=call["name"], input=self._input(call["arguments"]))
            message.content.append(used)
        self._conclude()
        return message.model_dump_json().encode()

    def _beginning(self) -> Iterator[bytes]:
        if not self._begun:
            self._begun = True
            yield _event("message_start", message=self._message.model_dump())

    def _within(self, block: str | int, opening: dict[str, Any]) -> Iterator[bytes]:
        """What makes a block the open one."""
        if self._open == block:
            return
        yield from self._closing()
        self._open = block
        yield _event("content_block_start", index=self._blocks, content_block=opening)

    def _closing(self) -> Iterator[bytes]:
        if self._open is not None:
            yield _event("content_block_stop", index=self._blocks)
            self._open, self._blocks = None, self._blocks + 1

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", index=self._blocks, delta=delta)

    def _call(self, piece: dict[str, Any]) -> Iterator[bytes]:
        """A call's piece; the calls of an answer follow one another. Raises ApiError where they do not."""
        number, known = piece.get("index", 0), len(self._calls)
        call = self._add(piece)
        if self._open != number and len(self._calls) == known:
            raise model_errors.garbage()
        opening = {"type": "tool_use", "id": call["id"], "name": call["name"], "input": {}}
        yield from self._within(number, opening)
        if arguments := (piece.get("function") or {}).get("arguments"):
            yield self._delta({"type": "input_json_delta", "partial_json": arguments})

    def _add(self, piece: dict[str, Any]) -> dict[str, Any]:
        function = piece.get("function") or {}
        opened = {"id": piece.get("id") or "", "name": function.get("name") or "", "arguments": ""}
        call = self._calls.setdefault(piece.get("index", 0), opened)
        call["arguments"] += function.get("arguments") or ""
        return call

    def _input(self, arguments: str) -> dict[str, Any]:
        """What a tool is called with. An answer that was cut is known by its `stop_reason`: nobody calls."""
        try:
            given = json.loads(arguments or "{}")
        except ValueError:
            given = None
        if isinstance(given, dict):
            return given
        if self._finish == "length":
            return {}
        raise model_errors.garbage()

    def _note(self, chunk: dict[str, Any]) -> None:
        """Take why the answer ended, and what it used."""
        for choice in chunk["choices"]:
            self._finish = choice.get("finish_reason") or self._finish
            self._filter = choice.get("content_filter") or self._filter
            if isinstance(reached := choice.get("stop_reason"), str):  # a number is a token's
                self._stop_text = reached
        if usage := chunk.get("usage"):
            counts = (usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0)
            self._message.usage = MessageUsage(input_tokens=counts[0], output_tokens=counts[1])

    def _conclude(self) -> None:
        message, finish = self._message, self._finish or "stop"
        message.stop_reason = _STOP_REASONS.get(finish, "end_turn")
        if finish == "stop" and self._calls:  # an engine says so of a call that had to come
            message.stop_reason = "tool_use"
        elif finish == "stop" and self._stop_text is not None:
            message.stop_reason, message.stop_sequence = "stop_sequence", self._stop_text
        if finish == "content_filter" and self._filter:
            message.stop_details = MessageRefusal(explanation=f"Refused by a guard ({self._filter}).")


def _event(name: str, **fields: Any) -> bytes:
    return _framed(name, json.dumps({"type": name, **fields}, ensure_ascii=False, separators=(",", ":")))


def _framed(name: str, data: str) -> bytes:
    return f"event: {name}\ndata: {data}\n\n".encode()
