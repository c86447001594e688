"""An answer's chunks as the events of a Responses stream, or as the object that they end with."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from typing import Any

from contracts.errors import ErrorObject
from contracts.response_objects import (
    IncompleteDetails,
    InputTokensDetails,
    ModelResponse,
    ResponseStatus,
    ResponseUsage,
)
from contracts.responses import ResponsesRequest
from lambdas.aws import model_errors
from lambdas.pipeline.delivery import COMMENT
from lambdas.pipeline.responses.open_items import Event, OpenCall, OpenItem, OpenMessage, OpenReasoning
from lambdas.pipeline.responses.recall import ID_PREFIX
from lambdas.runtime.errors import ApiError

_CUT_SHORT = {"length": "max_output_tokens", "content_filter": "content_filter"}
_ECHOED = (
    "instructions", "previous_response_id", "max_output_tokens", "temperature", "top_p", "top_logprobs",
    "parallel_tool_calls", "tools", "tool_choice", "text", "user", "metadata", "store",
)  # fmt: skip


def item_id(prefix: str, answer_id: str, index: int) -> str:
    """The id of an item of an answer: `msg_<request>_0`."""
    return f"{prefix}_{answer_id.removeprefix(ID_PREFIX)}_{index}"


class ResponseRendering:
    """See operations.Rendering. Items are written one after another, in the order in which the model begins
    them."""

    def __init__(
        self,
        answer_id: str,
        created: int,
        asked: ResponsesRequest,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._response = _begun(answer_id, created, asked)
        self._open: OpenItem | None = None
        self._calls: list[OpenCall] = []
        self._sequence = 0
        self._finish_reason: str | None = None
        self._is_empty = True

    @property
    def response(self) -> ModelResponse:
        """The answer as far as it has come."""
        return self._response

    # ---- as Rendering has it ----

    def events(self, chunk: dict[str, Any]) -> Iterable[bytes]:
        """See Rendering."""
        first = [self._snapshot("created"), self._snapshot("in_progress")] if self._sequence == 0 else []
        return self._numbered([*first, *self._taken(chunk)])

    def waiting(self) -> Iterable[bytes]:
        """See Rendering."""
        return (COMMENT,)

    def end(self) -> Iterable[bytes]:
        """See Rendering."""
        if self._is_empty:
            raise model_errors.garbage()
        return self._numbered(self._ended())

    def failure(self, error: ApiError) -> Iterable[bytes]:
        """See Rendering. The error is written as OpenAI documents it, and as it sends it."""
        told = ErrorObject(
            message=error.message, type=error.type, param=error.param, code=error.code or error.type
        )
        event = {"type": "error", **told.model_dump(exclude={"type"}), "error": told.model_dump()}
        self._close("incomplete")
        self._update(status="failed", error=told)
        return self._numbered([event, self._snapshot("failed")])

    def gather(self, chunk: dict[str, Any]) -> None:
        """See Rendering."""
        self._taken(chunk)

    def whole(self) -> bytes:
        """See Rendering."""
        if self._is_empty:
            raise model_errors.garbage()
        self._ended()
        return self._response.model_dump_json().encode()

    # ---- inside ----

    def _taken(self, chunk: dict[str, Any]) -> list[Event]:
        if usage := chunk.get("usage"):
            self._update(usage=_usage(usage))
        events: list[Event] = []
        for choice in chunk["choices"]:
            self._is_empty = False
            delta = choice.get("delta") or {}
            if notes := delta.get("reasoning_content") or delta.get("reasoning"):
                events += self._add_notes(notes)
            logprobs = (choice.get("logprobs") or {}).get("content") or []
            if delta.get("content") or logprobs:
                events += self._add_text(delta.get("content") or "", logprobs)
            for piece in delta.get("tool_calls") or []:
                events += self._add_call(piece)
            if choice.get("content_filter"):
                self._update(content_filter=choice["content_filter"])
            self._finish_reason = choice.get("finish_reason") or self._finish_reason
        return events

    def _add_notes(self, text: str) -> list[Event]:
        item, events = self._open, []
        if not isinstance(item, OpenReasoning):
            item = OpenReasoning(self._id("rs"), self._next_index())
            events = self._begin(item)
        return [*events, *item.add(text)]

    def _add_text(self, text: str, logprobs: list[dict[str, Any]]) -> list[Event]:
        item, events = self._open, []
        if not isinstance(item, OpenMessage):
            item = OpenMessage(self._id("msg"), self._next_index())
            events = self._begin(item)
        return [*events, *item.add(text, logprobs)]

    def _add_call(self, piece: dict[str, Any]) -> list[Event]:
        """Pieces of one call follow each other; one that comes back to an earlier call makes no sense."""
        function, place = piece.get("function") or {}, piece.get("index", 0)
        events: list[Event] = []
        if place >= len(self._calls):
            index = self._next_index()
            call = OpenCall(
                self._id("fc"), index, piece.get("id") or f"call_{index}", function.get("name") or ""
            )
            events = self._begin(call)
            self._calls.append(call)
        elif self._calls[place] is not self._open:
            raise model_errors.garbage()
        arguments = function.get("arguments") or ""
        return [*events, *(self._calls[-1].add(arguments) if arguments else [])]

    def _ended(self) -> list[Event]:
        """The last events; an answer without a word is an empty message."""
        reason = _CUT_SHORT.get(self._finish_reason or "")
        events: list[Event] = []
        if self._open is None and not self._response.output:
            events = self._begin(OpenMessage(self._id("msg"), 0))
        events += self._close("incomplete" if reason else "completed")
        status: ResponseStatus = "incomplete" if reason else "completed"
        details = IncompleteDetails.model_validate({"reason": reason}) if reason else None
        self._update(status=status, incomplete_details=details, completed_at=int(self._clock()))
        return [*events, self._snapshot(status)]

    def _begin(self, item: OpenItem) -> list[Event]:
        """Events of the item before, if one is open, and of the one that begins."""
        closing = self._close("completed")
        self._open = item
        return [*closing, *item.begin()]

    def _close(self, status: Any) -> list[Event]:
        if (item := self._open) is None:
            return []
        self._open = None
        self._response.output.append(item.item(status))
        return item.end(status)

    def _next_index(self) -> int:
        return len(self._response.output) + (self._open is not None)

    def _id(self, prefix: str) -> str:
        return item_id(prefix, self._response.id, self._next_index())

    def _update(self, **values: Any) -> None:
        self._response = self._response.model_copy(update=values)

    def _snapshot(self, name: str) -> Event:
        return {"type": f"response.{name}", "response": self._response.model_dump(mode="json")}

    def _numbered(self, events: list[Event]) -> list[bytes]:
        told = []
        for event in events:
            data = {**event, "sequence_number": self._sequence}
            text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
            told.append(f"event: {event['type']}\ndata: {text}\n\n".encode())
            self._sequence += 1
        return told


def _begun(answer_id: str, created: int, asked: ResponsesRequest) -> ModelResponse:
    """The answer before its first word: what was asked for is told back."""
    echoed = asked.model_dump(mode="json", include=set(_ECHOED), exclude_none=True, by_alias=True)
    form = echoed.pop("text", {}).get("format") or {"type": "text"}
    return ModelResponse(
        id=answer_id,
        created_at=created,
        status="in_progress",
        model=asked.model,
        output=[],
        text={"format": form},
        **echoed,
    )


def _usage(usage: dict[str, Any]) -> ResponseUsage:
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return ResponseUsage(
        input_tokens=usage.get("prompt_tokens", 0),
        input_tokens_details=InputTokensDetails(cached_tokens=cached),
        output_tokens=usage.get("completion_tokens", 0),
        total_tokens=usage.get("total_tokens", 0),
    )
