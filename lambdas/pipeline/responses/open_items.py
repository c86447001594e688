"""Items of an answer while they are being written: what each piece adds, as events without their numbers.

Source: the OpenAI API reference, "Streaming events".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from contracts.chat import TokenLogprob
from contracts.response_objects import (
    FunctionCallItem,
    ItemStatus,
    OutputMessage,
    OutputText,
    ReasoningItem,
    ReasoningText,
)

Event = dict[str, Any]


class OpenItem(ABC):
    """One item; `index` is its place in the output."""

    def __init__(self, id: str, index: int) -> None:
        self.id, self.index = id, index

    @abstractmethod
    def item(self, status: ItemStatus) -> OutputMessage | FunctionCallItem | ReasoningItem:
        """The item as far as it is written."""

    def begin(self) -> list[Event]:
        """Its first events."""
        empty = self.item("in_progress").model_dump(mode="json")
        return [{"type": "response.output_item.added", "output_index": self.index, "item": empty}]

    def end(self, status: ItemStatus) -> list[Event]:
        """Its last events."""
        whole = self.item(status).model_dump(mode="json")
        return [{"type": "response.output_item.done", "output_index": self.index, "item": whole}]

    def _event(self, type: str, **fields: Any) -> Event:
        return {"type": f"response.{type}", "item_id": self.id, "output_index": self.index, **fields}


class OpenMessage(OpenItem):
    """A message, of one text."""

    def __init__(self, id: str, index: int) -> None:
        super().__init__(id, index)
        self._pieces: list[str] = []
        self._logprobs: list[dict[str, Any]] = []
        self._is_begun = False

    def add(self, text: str, logprobs: list[dict[str, Any]]) -> list[Event]:
        """Take some more of the text."""
        told = [_told(each) for each in logprobs]
        self._pieces.append(text)
        self._logprobs += told
        return [self._event("output_text.delta", content_index=0, delta=text, logprobs=told)]

    def item(self, status: ItemStatus) -> OutputMessage:
        """See OpenItem. Before its first event the message has no part."""
        return OutputMessage(id=self.id, status=status, content=[self._part()] if self._is_begun else [])

    def begin(self) -> list[Event]:
        """See OpenItem."""
        added = super().begin()
        self._is_begun = True
        part = self._part().model_dump(mode="json")
        return [*added, self._event("content_part.added", content_index=0, part=part)]

    def end(self, status: ItemStatus) -> list[Event]:
        """See OpenItem."""
        part = self._part().model_dump(mode="json")
        text, logprobs = part["text"], part["logprobs"]
        return [
            self._event("output_text.done", content_index=0, text=text, logprobs=logprobs),
            self._event("content_part.done", content_index=0, part=part),
            *super().end(status),
        ]

    def _part(self) -> OutputText:
        logprobs = [TokenLogprob.model_validate(each) for each in self._logprobs]
        return OutputText(text="".join(self._pieces), logprobs=logprobs)


class OpenCall(OpenItem):
    """A call of a function."""

    def __init__(self, id: str, index: int, call_id: str, name: str) -> None:
        super().__init__(id, index)
        self._call_id, self._name = call_id, name
        self._pieces: list[str] = []

    def add(self, arguments: str) -> list[Event]:
        """Take some more of the arguments."""
        self._pieces.append(arguments)
        return [self._event("function_call_arguments.delta", delta=arguments)]

    def item(self, status: ItemStatus) -> FunctionCallItem:
        """See OpenItem."""
        return FunctionCallItem(
            id=self.id,
            status=status,
            call_id=self._call_id,
            name=self._name,
            arguments="".join(self._pieces),
        )

    def end(self, status: ItemStatus) -> list[Event]:
        """See OpenItem."""
        arguments = "".join(self._pieces)
        done = self._event("function_call_arguments.done", name=self._name, arguments=arguments)
        return [done, *super().end(status)]


class OpenReasoning(OpenItem):
    """What a reasoning model notes before its answer."""

    def __init__(self, id: str, index: int) -> None:
        super().__init__(id, index)
        self._pieces: list[str] = []
        self._is_begun = False

    def add(self, text: str) -> list[Event]:
        """Take some more of the notes."""
        self._pieces.append(text)
        return [self._event("reasoning_text.delta", content_index=0, delta=text)]

    def item(self, status: ItemStatus) -> ReasoningItem:
        """See OpenItem."""
        return ReasoningItem(id=self.id, status=status, content=[self._part()] if self._is_begun else [])

    def begin(self) -> list[Event]:
        """See OpenItem."""
        added = super().begin()
        self._is_begun = True
        part = self._part().model_dump(mode="json")
        return [*added, self._event("content_part.added", content_index=0, part=part)]

    def end(self, status: ItemStatus) -> list[Event]:
        """See OpenItem."""
        part = self._part().model_dump(mode="json")
        return [
            self._event("reasoning_text.done", content_index=0, text=part["text"]),
            self._event("content_part.done", content_index=0, part=part),
            *super().end(status),
        ]

    def _part(self) -> ReasoningText:
        return ReasoningText(text="".join(self._pieces))


def _told(logprob: dict[str, Any]) -> dict[str, Any]:
    """A token's log probability as this protocol writes it: with its bytes, and a list of the likeliest."""
    told = TokenLogprob.model_validate(logprob).model_dump()
    for each in (told, *told["top_logprobs"]):
        each["bytes"] = list(each["token"].encode()) if each["bytes"] is None else each["bytes"]
    return told
