"""Drives the scenario with LangChain's OpenAI classes, which know neither lists of models nor feedback."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import openai
from langchain_core.messages import AIMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings

from tests.cloud.clients.driver import Seen, Step, go_through, refused

_OF_THE_CALL = ("user", "tools", "tool_choice", "response_format")
_ROLES = {"system": "system", "user": "human", "assistant": "ai"}


def _told(call: Callable[[Step], Seen]) -> Callable[[Step], Seen]:
    """The call, with the exceptions that LangChain hands on as what they say."""

    def told(step: Step) -> Seen:
        try:
            return call(step)
        except openai.APIStatusError as error:
            body = error.body if isinstance(error.body, dict) else {}
            return refused(error.status_code, body)

    return told


def _access(step: Step) -> dict[str, Any]:
    return {"base_url": os.environ["API_URL"], "api_key": step.key, "max_retries": 0, "timeout": 120}


def _turn(turn: Any) -> Any:
    if isinstance(turn, AIMessage):
        return turn
    if turn["role"] == "tool":
        return ToolMessage(turn["content"], tool_call_id=turn["tool_call_id"])
    return (_ROLES[turn["role"]], turn["content"])


def _chat(step: Step) -> Seen:
    given = dict(step.request)
    messages = [_turn(turn) for turn in given.pop("messages")]
    # What the class has no field for is passed on in the call, as its documentation has it.
    extra = {name: given.pop(name) for name in _OF_THE_CALL if name in given}
    model = ChatOpenAI(**_access(step), **given, stream_usage=True)
    if not step.stream:
        answer = model.invoke(messages, **extra)
        pieces = [answer.text]
    else:
        pieces, answer = [], None
        for chunk in model.stream(messages, **extra):
            answer = chunk if answer is None else answer + chunk
            pieces += [chunk.text] if chunk.text else []
        assert answer is not None
    usage = answer.usage_metadata
    return {
        "status": 200,
        "id": answer.response_metadata.get("id") or answer.id,
        "text": "".join(pieces),
        "pieces": len(pieces),
        "finish": answer.response_metadata["finish_reason"],
        "usage": usage and [usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]],
        "answer": answer,
        "calls": [[call["id"], call["name"], json.dumps(call["args"])] for call in answer.tool_calls],
    }


def _completion(step: Step) -> Seen:
    given = dict(step.request)
    prompt = given.pop("prompt")
    model = OpenAI(**_access(step), **given)
    if step.stream:
        # LangChain asks for usage itself where it is told to; its chunks of text carry none.
        pieces = [piece for piece in model.stream(prompt, stream_options={"include_usage": True}) if piece]
        return {"status": 200, "text": "".join(pieces), "pieces": len(pieces)}
    result = model.generate([prompt])
    (answer,) = result.generations[0]
    usage = (result.llm_output or {})["token_usage"]
    return {
        "status": 200,
        "text": answer.text,
        "pieces": 1,
        "finish": (answer.generation_info or {})["finish_reason"],
        "usage": [usage[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")],
    }


def _embeddings(step: Step) -> Seen:
    # Without the switch LangChain would send token ids of a tokenizer that it fetches from elsewhere.
    embeddings = OpenAIEmbeddings(
        **_access(step), model=step.request["model"], check_embedding_ctx_length=False
    )
    return {"status": 200, "vectors": len(embeddings.embed_documents([step.request["input"]]))}


if __name__ == "__main__":
    calls = {"chat": _chat, "completion": _completion, "embeddings": _embeddings}
    go_through({name: _told(call) for name, call in calls.items()})
