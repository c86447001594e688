"""What clients send is taken; beside each such request stands one that is refused by name and in words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from contracts.chat import ChatRequest
from contracts.classification import ClassificationRequest
from contracts.completions import Completion, CompletionRequest
from contracts.container import decode_attributes
from contracts.embeddings import EmbeddingsRequest
from contracts.guards import GuardSettings
from contracts.moderation import ModerationRequest
from contracts.scoring import RerankRequest, ScoreRequest
from lambdas.pipeline.operations import TEXT_COMPLETION
from lambdas.runtime.errors import to_api_error
from lambdas.runtime.http_event import route
from model_code.serving.errors import ServingError
from model_code.serving.protocol.parsing import parse, refuse_images
from tests.support import client_requests
from tests.support.client_requests import CHATS, USER, Pair, call, tool, turns
from tests.support.fake_model_endpoint import Reply, cut
from tests.support.front_door import MODEL, SETTINGS, Door, chat, events
from tests.unit.lambdas.test_door_tools import CALL, stream

OTHERS: list[tuple[type[BaseModel], dict[str, Pair]]] = [
    (EmbeddingsRequest, client_requests.EMBEDDINGS),
    (CompletionRequest, client_requests.COMPLETIONS),
    (RerankRequest, client_requests.RERANKS),
    (ScoreRequest, client_requests.SCORES),
    (ClassificationRequest, client_requests.CLASSIFICATIONS),
    (ModerationRequest, client_requests.MODERATIONS),
]


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
def test_the_counterpart_is_refused_in_words(door: Door, case: str) -> None:
    pair = CHATS[case]
    error = refusal(door, whole(pair.refused))
    assert (error["param"], error["code"]) == (pair.param, pair.code)
    assert pair.words in error["message"]
    assert door.sagemaker.calls == []


@pytest.mark.parametrize("case", CHATS)
def test_the_container_refuses_in_the_same_words(door: Door, case: str) -> None:
    body = whole(CHATS[case].refused)
    with pytest.raises(ServingError) as caught:
        refuse_images(parse(ChatRequest, json.dumps(body).encode()))
    assert json.loads(caught.value.body)["error"] == refusal(door, body)


@pytest.mark.parametrize(
    ("request_model", "pair"),
    [(model, pair) for model, pairs in OTHERS for pair in pairs.values()],
    ids=[f"{model.__name__}: {name}" for model, pairs in OTHERS for name in pairs],
)
def test_the_other_routes_take_and_refuse_alike(request_model: type[BaseModel], pair: Pair) -> None:
    request_model.model_validate_json(json.dumps({"model": MODEL, **pair.taken}))
    with pytest.raises(ValueError) as caught:
        request_model.model_validate_json(json.dumps({"model": MODEL, **pair.refused}))
    error = to_api_error(caught.value)
    assert (error.param, error.code) == (pair.param, pair.code)
    assert pair.words in error.message


SCORES = {
    "tokens": ["Once", " upon"],
    "token_logprobs": [None, -1.5],
    "top_logprobs": [None, {" upon": -1.5}],
    "text_offset": [0, 4],
}


def completion_events(*choices: dict[str, Any]) -> list[Reply]:
    base = {"id": "x", "object": "text_completion", "created": 7, "model": "m"}
    lines = [f"data: {json.dumps({**base, 'choices': [choice]})}\n\n" for choice in choices]
    return [Reply(parts=cut("".join([*lines, "data: [DONE]\n\n"]).encode(), 40))]


def test_several_prompts_have_an_answer_each(door: Door) -> None:
    door.sagemaker.replies = completion_events(
        {"index": 1, "text": "b", "finish_reason": "length"},
        {"index": 0, "text": "a", "finish_reason": "stop"},
    )
    body = {"model": MODEL, "prompt": ["Once", "Two"], "max_tokens": 1}
    _, text = door.ask(body, route=TEXT_COMPLETION.route)
    choices = json.loads(text)["choices"]
    assert [(each["index"], each["text"]) for each in choices] == [(0, "a"), (1, "b")]
    assert json.loads(door.sagemaker.calls[-1][1])["prompt"] == ["Once", "Two"]


def test_log_probabilities_of_a_prompt_come_side_by_side(door: Door) -> None:
    further = {"tokens": ["!"], "token_logprobs": [-2.0], "top_logprobs": [{}], "text_offset": [9]}
    door.sagemaker.replies = completion_events(
        {"index": 0, "text": "Once upon", "logprobs": SCORES},
        {"index": 0, "text": "!", "logprobs": further, "finish_reason": "length"},
    )
    body = {"model": MODEL, "prompt": [[1, 2]], "max_tokens": 1, "echo": True, "logprobs": 1}
    _, text = door.ask(body, route=TEXT_COMPLETION.route)
    choice = Completion.model_validate_json(text).choices[0]
    assert choice.logprobs is not None
    assert choice.logprobs.token_logprobs == [None, -1.5, -2.0]
    assert choice.logprobs.text_offset == [0, 4, 9]


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"prompt": [1, 2]}, "prompt"), ({"prompt": "a", "logprobs": 0}, "logprobs")],
    ids=str,
)
def test_what_guards_cannot_read_is_refused(
    make_door: Callable[..., Door], fields: dict[str, Any], param: str
) -> None:
    door = make_door(SETTINGS.model_copy(update={"guards": GuardSettings(mask_pii=True)}))
    reply, text = door.ask({"model": MODEL, **fields}, route=TEXT_COMPLETION.route)
    error = json.loads(text)["error"]
    assert (reply.status, error["param"], error["code"]) == (400, param, "unsupported_with_guards")
    assert door.sagemaker.calls == []


def test_each_prompt_of_several_is_guarded(make_door: Callable[..., Door]) -> None:
    door = make_door(SETTINGS.model_copy(update={"guards": GuardSettings(mask_pii=True)}))
    door.sagemaker.replies = completion_events({"index": 0, "text": "a", "finish_reason": "stop"})
    door.ask({"model": MODEL, "prompt": ["I am ann@x.org", "b"]}, route=TEXT_COMPLETION.route)
    assert json.loads(door.sagemaker.calls[-1][1])["prompt"] == ["I am [EMAIL_1]", "b"]


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


def test_the_container_learns_whose_schemas_they_are_and_no_name(door: Door) -> None:
    def caller(**fields: Any) -> str | None:
        door.ask(chat(**fields))
        attributes = door.sagemaker.calls[-1][0]["x-amzn-sagemaker-custom-attributes"]
        return decode_attributes(attributes).get("caller")

    first = caller(tools=[tool()])
    assert first is not None
    assert re.fullmatch("[0-9a-f]{16}", first)
    assert caller(response_format={"type": "json_object"}) == first
    assert caller() is None
    door.ask(chat(tools=[tool()]), tenant="shop", key_name="another", scopes="inference")
    attributes = door.sagemaker.calls[-1][0]["x-amzn-sagemaker-custom-attributes"]
    assert decode_attributes(attributes)["caller"] != first
