"""What the hook asks vLLM for where it cannot do what was asked as it stands, and what callers get."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

pytest.importorskip("prometheus_client")

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.support.client_requests import form, properties, tool
from tests.support.vllm_hook import CHAT, FakeVllm, Got, call, hooked

WANTED = form({"type": "object", "properties": {"yes": {"type": "boolean"}}}, strict=True)
BESIDE = {**CHAT, "tools": [tool(strict=True)], "response_format": WANTED}
LOOSE: dict[str, Any] = {
    **CHAT,
    "tools": [tool(properties(url={"type": "string", "format": "uri"}))],
    "tool_choice": "required",
}


def calling(name: str, arguments: str) -> dict[str, Any]:
    """A whole reply with one call, as vLLM writes it."""
    made = {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}
    message = {"role": "assistant", "content": None, "tool_calls": [made]}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }


def asked(reply: dict[str, Any] | list[bytes], body: dict[str, Any]) -> tuple[Got, dict[str, Any]]:
    """What a caller gets where vLLM replies so, whole or in pieces, and the body that vLLM got."""
    vllm = FakeVllm()

    async def pieces() -> AsyncIterator[bytes]:
        for piece in reply:
            yield piece if isinstance(piece, bytes) else b""

    async def behave(request: Request, seen: dict[str, Any]) -> Response:
        return vllm.stream(pieces()) if isinstance(reply, list) else JSONResponse(reply)

    async def scenario() -> Got:
        vllm.behaviour = behave
        async with hooked(vllm) as hook:
            return await call(hook, body=body)

    got = asyncio.run(scenario())
    return got, vllm.seen[0][2]


def test_beside_tools_the_answer_is_a_tool_that_must_be_called() -> None:
    _, seen = asked(calling("final_answer", "{}"), BESIDE)
    assert "response_format" not in seen
    assert (seen["tool_choice"], seen["parallel_tool_calls"]) == ("required", False)
    assert [each["function"]["name"] for each in seen["tools"]] == ["get_weather", "final_answer"]
    assert seen["tools"][1]["function"]["parameters"] == WANTED["json_schema"]["schema"]


def test_its_call_is_the_answer() -> None:
    got, _ = asked(calling("final_answer", '{"yes": true}'), BESIDE)
    (choice,) = got.json["choices"]
    assert choice["message"]["content"] == '{"yes": true}'
    assert not choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "stop"
    assert got.json["usage"]["total_tokens"] == 5


def test_a_call_of_another_tool_stays_one() -> None:
    got, _ = asked(calling("get_weather", '{"city": "Paris"}'), BESIDE)
    assert got.json == calling("get_weather", '{"city": "Paris"}')


def test_an_answer_that_is_cut_says_so() -> None:
    reply = calling("final_answer", '{"yes": t')
    reply["choices"][0]["finish_reason"] = "length"
    got, _ = asked(reply, BESIDE)
    assert got.json["choices"][0]["finish_reason"] == "length"


def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
    """An event of a stream, as vLLM writes it."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "chatcmpl-1", "choices": [choice]}).encode() + b"\n\n"


def call_pieces(name: str) -> list[bytes]:
    """A streamed call: role, name, arguments in two pieces, end."""
    first = {"index": 0, "id": "c1", "type": "function", "function": {"name": name, "arguments": ""}}
    texts = ['{"yes": ', "true}"]
    return [
        event({"role": "assistant", "content": ""}),
        event({"tool_calls": [first]}),
        *(event({"tool_calls": [{"index": 0, "function": {"arguments": text}}]}) for text in texts),
        event({}, "tool_calls"),
        b"data: [DONE]\n\n",
    ]


def streamed(got: Got) -> tuple[str, list[dict[str, Any]], str]:
    """The text, the pieces of calls, and the reason of the end of a stream."""
    lines = b"".join(got.chunks).split(b"\n\n")
    assert lines[-2:] == [b"data: [DONE]", b""]
    choices = [json.loads(line.removeprefix(b"data: "))["choices"][0] for line in lines[:-2]]
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    calls = [each for choice in choices for each in choice["delta"].get("tool_calls", [])]
    return text, calls, choices[-1]["finish_reason"]


@pytest.mark.parametrize("size", [None, 7], ids=["an event at a time", "cut anywhere"])
def test_a_streamed_call_of_it_is_the_answer(size: int | None) -> None:
    pieces = call_pieces("final_answer")
    if size:
        joined = b"".join(pieces)
        pieces = [joined[start : start + size] for start in range(0, len(joined), size)]
    got, _ = asked(pieces, {**BESIDE, "stream": True})
    assert streamed(got) == ('{"yes": true}', [], "stop")


def test_a_streamed_call_of_another_tool_stays_one() -> None:
    got, _ = asked(call_pieces("get_weather"), {**BESIDE, "stream": True})
    assert b"".join(got.chunks).count(b"tool_calls") == 4
    text, calls, reason = streamed(got)
    assert (text, calls[0]["function"]["name"], reason) == ("", "get_weather", "tool_calls")


def test_its_name_is_nobody_elses() -> None:
    named = {**BESIDE, "tools": [tool(name="final_answer", strict=True)]}
    got, seen = asked(calling("final_answer", "{}"), named)
    assert [each["function"]["name"] for each in seen["tools"]] == ["final_answer", "final_answer_"]
    assert got.json["choices"][0]["message"]["tool_calls"]


@pytest.mark.parametrize(
    "changed",
    [
        {"tool_choice": "none"},
        {"tool_choice": "required"},
        {"response_format": {"type": "text"}},
        {"tools": None},
        {"response_format": None},
    ],
)
def test_what_vllm_can_do_is_asked_as_it_is(changed: dict[str, Any]) -> None:
    body = BESIDE | changed
    got, seen = asked(calling("final_answer", "{}"), body)
    assert seen == body
    assert got.json == calling("final_answer", "{}")


def refusing(times: int) -> tuple[FakeVllm, list[Any]]:
    """A vLLM that refuses the schemas of its first requests, and what it was asked for."""
    tried: list[Any] = []

    async def behave(request: Request, body: dict[str, Any]) -> Response:
        tried.append(body["tools"][0]["function"]["parameters"])
        if len(tried) <= times:
            error = {"message": "The grammar is not supported.", "type": "BadRequestError", "code": 400}
            return JSONResponse({"error": error}, status_code=400)
        return JSONResponse(calling("get_weather", "{}"))

    return FakeVllm(behave), tried


@pytest.mark.parametrize("times", [0, 1, 2, 3])
def test_a_schema_that_vllm_refuses_is_loosened_step_by_step(times: int) -> None:
    vllm, tried = refusing(times)

    async def scenario() -> Got:
        async with hooked(vllm) as hook:
            return await call(hook, body=LOOSE)

    got = asyncio.run(scenario())
    assert got.status == (200 if times < 3 else 400)
    assert len(tried) == min(times + 1, 3)
    assert tried[0] == LOOSE["tools"][0]["function"]["parameters"]
    if times:
        assert "format" not in json.dumps(tried[1])
        assert "url" in tried[1]["properties"]
    if times > 1:
        assert tried[2] == {"type": "object"}
    if times == 3:
        assert (got.error["code"], got.error["message"]) == ("invalid_value", "The grammar is not supported.")


def test_a_strict_schema_is_refused_at_once() -> None:
    vllm, tried = refusing(9)
    body = {**CHAT, "tools": [tool(strict=True)], "tool_choice": "required"}

    async def scenario() -> Got:
        async with hooked(vllm) as hook:
            return await call(hook, body=body)

    assert asyncio.run(scenario()).status == 400
    assert len(tried) == 1
