"""A call of the tool that stands for the answer, as the answer again: whole replies and streams."""

from __future__ import annotations

import json
from typing import Any

_EVENT, _END = b"data: ", b"\n\n"


class AnswerTool:
    """Follows one reply of vLLM's; `name` is the tool's whose arguments are the caller's answer."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._stream: bool | None = None
        self._held = b""
        self._answers: dict[int, bool] = {}
        """Which choices of a stream are answers, by their index; not in here before their call has a name."""

    def feed(self, body: bytes, *, more: bool) -> bytes:
        """What the caller gets for a piece of the reply."""
        if self._stream is None and body:
            self._stream = body.startswith((_EVENT, b":"))
        self._held += body
        if not self._stream:
            whole, self._held = (b"", self._held) if more else (self._held, b"")
            return self._whole(whole) if whole else b""
        *events, self._held = self._held.split(_END)
        if not more and self._held:
            events, self._held = [*events, self._held], b""
        return b"".join(self._event(event) + _END for event in events)

    def _whole(self, body: bytes) -> bytes:
        reply = json.loads(body)
        for choice in reply["choices"]:
            message = choice["message"]
            calls = message.get("tool_calls") or []
            if calls and calls[0]["function"]["name"] == self._name:
                message["content"] = calls[0]["function"]["arguments"]
                message["tool_calls"] = []
                _ends_as_text(choice)
            else:
                message["tool_calls"] = [call for call in calls if call["function"]["name"] != self._name]
        return json.dumps(reply).encode()

    def _event(self, event: bytes) -> bytes:
        data = event.removeprefix(_EVENT)
        if not event.startswith(_EVENT) or not data.startswith(b"{"):
            return event
        chunk = json.loads(data)
        for choice in chunk.get("choices", []):
            self._delta(choice)
        return _EVENT + json.dumps(chunk).encode()

    def _delta(self, choice: dict[str, Any]) -> None:
        index, delta = choice["index"], choice["delta"]
        calls = delta.get("tool_calls") or []
        for call in calls:
            if name := (call.get("function") or {}).get("name"):
                self._answers.setdefault(index, name == self._name)
        if not self._answers.get(index):
            return
        if calls:
            del delta["tool_calls"]
            texts = [(call.get("function") or {}).get("arguments") or "" for call in calls]
            delta["content"] = "".join(texts)
        _ends_as_text(choice)


def _ends_as_text(choice: dict[str, Any]) -> None:
    if choice.get("finish_reason") == "tool_calls":
        choice["finish_reason"] = "stop"
