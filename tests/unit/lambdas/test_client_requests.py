"""What clients send is taken; beside each such request stands one that is refused by name and in words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from contracts.chat import ChatRequest
from contracts.embeddings import EmbeddingsRequest
from lambdas.runtime.errors import ApiError, to_api_error
from lambdas.runtime.http_event import route
from model_code.serving.errors import ServingError
from model_code.serving.protocol.parsing import parse
from tests.support.client_requests import CHATS, EMBEDDINGS, USER, Pair, call, tool, turns
from tests.support.front_door import MODEL, Door, chat, events
from tests.unit.lambdas.test_door_tools import CALL, stream


def refusal(door: Door, body: dict[str, Any]) -> dict[str, Any]:
    status, error = door.error(body)
    assert status == 400, error
    return error


def whole(fields: dict[str, Any]) -> dict[str, Any]:
    return {"model": MODEL, "messages": [USER], "max_tokens": 8, **fields}


@pytest.mark.parametrize("case", CHATS)
def test_what_clients_send_reaches_the_model(door: Door, case: str) -> None:
    reply, text = door.ask(whole(CHATS[case].taken))
    assert reply.status == 200, text
    sent = json.loads(door.sagemaker.calls[-1][1])
    assert ChatRequest.model_validate(sent).model_dump(exclude_unset=True) == sent, (
        "the container takes it too"
    )


@pytest.mark.parametrize("case", CHATS)
def test_the_neighbour_is_refused_in_words(door: Door, case: str) -> None:
    pair = CHATS[case]
    error = refusal(door, whole(pair.refused))
    assert (error["param"], error["code"]) == (pair.param, pair.code)
    assert pair.words in error["message"]
    assert door.sagemaker.calls == []


@pytest.mark.parametrize("case", CHATS)
def test_the_container_refuses_in_the_same_words(door: Door, case: str) -> None:
    body = whole(CHATS[case].refused)
    with pytest.raises(ServingError) as caught:
        parse(ChatRequest, json.dumps(body).encode())
    assert json.loads(caught.value.body)["error"] == refusal(door, body)


@pytest.mark.parametrize("case", EMBEDDINGS)
def test_embeddings_take_texts_and_say_so(case: str) -> None:
    pair = EMBEDDINGS[case]
    EmbeddingsRequest.model_validate_json(json.dumps({"model": MODEL, **pair.taken}))
    error = fault_of(pair)
    assert (error.param, error.code) == (pair.param, pair.code)
    assert pair.words in error.message


def fault_of(pair: Pair) -> ApiError:
    with pytest.raises(ValueError) as caught:
        EmbeddingsRequest.model_validate_json(json.dumps({"model": MODEL, **pair.refused}))
    return to_api_error(caught.value)


def test_what_is_ignored_goes_no_further(door: Door) -> None:
    door.ask(whole({**CHATS["parameters that change nothing"].taken, "reasoning_effort": "low"}))
    sent = json.loads(door.sagemaker.calls[-1][1])
    assert set(sent) == {"model", "messages", "max_tokens", "stream", "stream_options"}


def test_only_the_allowed_tools_are_offered(door: Door) -> None:
    door.ask(whole(CHATS["allowed tools"].taken))
    sent = json.loads(door.sagemaker.calls[-1][1])
    assert [each["function"]["name"] for each in sent["tools"]] == ["get_weather"]
    assert sent["tool_choice"] == "auto"


def test_a_call_of_the_older_form_reads_as_one_of_todays(door: Door) -> None:
    door.ask(whole(CHATS["a call and its result in the older form"].taken))
    sent = json.loads(door.sagemaker.calls[-1][1])
    _, asked, answered = sent["messages"]
    assert asked["tool_calls"][0]["id"] == answered["tool_call_id"]
    assert (answered["role"], answered["content"]) == ("tool", "1")
    assert [each["function"]["name"] for each in sent["tools"]] == ["f"]


OLDER: dict[str, Any] = {"functions": [tool(name="mail")["function"]], "function_call": {"name": "mail"}}


def test_who_asks_in_the_older_form_is_answered_in_it(door: Door) -> None:
    door.sagemaker.replies = stream(*CALL)
    _, body = door.ask(chat(**OLDER))
    choice = json.loads(body)["choices"][0]
    assert choice["message"]["function_call"] == {"name": "mail", "arguments": '{"to": "bob@y.org"}'}
    assert "tool_calls" not in choice["message"]
    assert choice["finish_reason"] == "function_call"


def test_a_stream_in_the_older_form_has_it_in_its_chunks(door: Door) -> None:
    door.sagemaker.replies = stream(*CALL)
    _, body = door.ask(chat(stream=True, **OLDER))
    choices = [chunk["choices"][0] for chunk in events(body)[:-1]]
    pieces = [choice["delta"]["function_call"] for choice in choices if "function_call" in choice["delta"]]
    assert pieces[0]["name"] == "mail"
    assert "".join(piece["arguments"] for piece in pieces) == '{"to": "bob@y.org"}'
    assert choices[-1]["finish_reason"] == "function_call"
    assert not any("tool_calls" in choice["delta"] for choice in choices)


def test_a_body_may_begin_with_a_byte_order_mark(door: Door) -> None:
    reply, _ = door.ask(b"\xef\xbb\xbf" + json.dumps(chat()).encode())
    assert reply.status == 200
    status, error = door.error(b"\xff\xfe" + json.dumps(chat()).encode("utf-16-le"))
    assert (status, error["code"]) == (400, "invalid_encoding")


def test_a_slash_at_the_end_of_a_path_is_none() -> None:
    assert route({"path": "/v1/chat/completions/"}) == "/v1/chat/completions"
    assert route({"path": "/iam/v1/chat/completions/"}) == "/v1/chat/completions"
    assert route({"path": "/"}) == "/"


def test_an_unknown_route_names_those_there_are(door: Door) -> None:
    reply, body = door.ask(chat(), route="/v1/chat/completion")
    assert reply.status == 404
    assert "/v1/chat/completions" in json.loads(body)["error"]["message"]


def test_an_echoed_call_keeps_its_arguments(door: Door) -> None:
    door.ask(whole(turns(USER, {"role": "assistant", "tool_calls": [call(index=0)]},
                         {"role": "tool", "tool_call_id": "call_1", "content": "12 C"})))  # fmt: skip
    sent = json.loads(door.sagemaker.calls[-1][1])["messages"][1]
    assert sent == {"role": "assistant", "tool_calls": [call()]}
