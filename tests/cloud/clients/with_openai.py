"""Drives the scenario with the official Python client, given an address and a key and nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import openai

from tests.cloud.clients.driver import Seen, Step, go_through, refused


def _client(step: Step) -> openai.OpenAI:
    return openai.OpenAI(base_url=os.environ["API_URL"], api_key=step.key, max_retries=0, timeout=120)


def _told(call: Callable[[Step], Seen]) -> Callable[[Step], Seen]:
    """The call, with the client's exceptions as what they say."""

    def told(step: Step) -> Seen:
        try:
            return call(step)
        except openai.APIStatusError as error:
            body = error.body if isinstance(error.body, dict) else {}
            return refused(error.status_code, body)

    return told


def _models(step: Step) -> Seen:
    return {"status": 200, "models": [model.id for model in _client(step).models.list()]}


def _chat(step: Step) -> Seen:
    return _generate(step, _client(step).chat.completions.create, _of_message, _of_delta)


def _completion(step: Step) -> Seen:
    return _generate(step, _client(step).completions.create, _of_text, _of_text)


def _embeddings(step: Step) -> Seen:
    reply = _client(step).embeddings.create(**step.request)
    return {"status": 200, "vectors": len(reply.data)}


def _feedback(step: Step) -> Seen:
    """Not one of OpenAI's calls: the client's door to any path."""
    reply = _client(step).post("/feedback", cast_to=object, body=step.request)
    assert isinstance(reply, dict)
    return {"status": 201, "id": reply["id"]}


def _generate(
    step: Step, create: Any, of_whole: Callable[[Any], str], of_piece: Callable[[Any], str]
) -> Seen:
    if not step.stream:
        whole = create(**step.request)
        choice = whole.choices[0]
        answered = _answered(whole.id, [of_whole(choice)], choice.finish_reason, whole.usage)
        return answered | _called(choice)
    pieces: list[str] = []
    answer_id, finish, usage = "", None, None
    for chunk in create(**step.request, stream=True, stream_options={"include_usage": True}):
        answer_id, usage = chunk.id, chunk.usage or usage
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
            pieces += [text] if (text := of_piece(choice)) else []
    return _answered(answer_id, pieces, finish, usage)


def _called(choice: Any) -> Seen:
    message = getattr(choice, "message", None)
    calls = (message and message.tool_calls) or []
    return {
        "answer": message,
        "calls": [[call.id, call.function.name, call.function.arguments] for call in calls],
    }


def _answered(answer_id: str, pieces: list[str], finish: str | None, usage: Any) -> Seen:
    return {
        "status": 200,
        "id": answer_id,
        "text": "".join(pieces),
        "pieces": len(pieces),
        "finish": finish,
        "usage": usage and [usage.prompt_tokens, usage.completion_tokens, usage.total_tokens],
    }


def _of_message(choice: Any) -> str:
    return choice.message.content or ""


def _of_delta(choice: Any) -> str:
    return choice.delta.content or ""


def _of_text(choice: Any) -> str:
    return choice.text or ""


if __name__ == "__main__":
    calls = {
        "models": _models,
        "chat": _chat,
        "completion": _completion,
        "embeddings": _embeddings,
        "feedback": _feedback,
    }
    go_through({name: _told(call) for name, call in calls.items()})
