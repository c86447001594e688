"""Drives the scenario with `curl`, as a person at a shell would."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

from tests.cloud.clients.driver import Seen, Step, go_through, refused

_PATHS = {
    "models": "/models",
    "chat": "/chat/completions",
    "completion": "/completions",
    "embeddings": "/embeddings",
    "feedback": "/feedback",
}


def _ask(step: Step) -> Seen:
    status, text = _curl(step)
    if status >= 400:
        return refused(status, json.loads(text)["error"])
    if step.stream:
        return _streamed(status, text)
    reply = json.loads(text)
    if step.call == "models":
        return {"status": status, "models": [model["id"] for model in reply["data"]]}
    if step.call == "embeddings":
        return {"status": status, "vectors": len(reply["data"])}
    if step.call == "feedback":
        return {"status": status, "id": reply.get("id")}
    choice = reply["choices"][0]
    answered = _answered(status, reply["id"], [_text(choice)], choice["finish_reason"], reply["usage"])
    return answered | _called(choice.get("message"))


def _curl(step: Step) -> tuple[int, str]:
    """Status and body."""
    words = [
        "curl",
        "-sS",
        "-N",
        "--max-time",
        "120",
        "-w",
        "\n%{http_code}",
        os.environ["API_URL"] + _PATHS[step.call],
    ]
    words += ["-H", f"Authorization: Bearer {step.key}"]
    body = None
    if step.call != "models":
        usage = {"stream": True, "stream_options": {"include_usage": True}} if step.stream else {}
        body = json.dumps(step.request | usage)
        words += ["-H", "Content-Type: application/json", "--data-binary", "@-"]
    done = subprocess.run(words, input=body, capture_output=True, text=True, check=True, timeout=150)
    text, _, status = done.stdout.rpartition("\n")
    return int(status), text


def _called(message: dict[str, Any] | None) -> Seen:
    calls = (message or {}).get("tool_calls") or []
    functions = [(call["id"], call["function"]) for call in calls]
    return {
        "answer": message,
        "calls": [[call_id, function["name"], function["arguments"]] for call_id, function in functions],
    }


def _streamed(status: int, text: str) -> Seen:
    events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]", events[-1]
    chunks = [json.loads(event) for event in events[:-1]]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    pieces = [text for choice in choices if (text := _text(choice))]
    finish = next((choice["finish_reason"] for choice in choices if choice.get("finish_reason")), None)
    return _answered(status, chunks[-1]["id"], pieces, finish, chunks[-1].get("usage"))


def _text(choice: dict[str, Any]) -> str:
    inside = choice.get("message") or choice.get("delta") or {}
    return choice.get("text") or inside.get("content") or ""


def _answered(
    status: int, answer_id: str, pieces: list[str], finish: str | None, usage: dict[str, int] | None
) -> Seen:
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    return {
        "status": status,
        "id": answer_id,
        "text": "".join(pieces),
        "pieces": len(pieces),
        "finish": finish,
        "usage": usage and [usage[name] for name in names],
    }


if __name__ == "__main__":
    go_through(dict.fromkeys(_PATHS, _ask))
