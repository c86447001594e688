"""Good requests through the whole pipeline: what comes back, what is kept, what is counted."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from contracts import metrics
from contracts.chat import ChatChunk, ChatCompletion
from contracts.completions import Completion
from contracts.container import decode_attributes
from contracts.embeddings import EmbeddingList
from tests.support.fake_model_endpoint import Reply, chat_events, cut, payload_part
from tests.support.front_door import ENDPOINT, MODEL, Door, chat, emitted, events


def attributes_of(headers: dict[str, str]) -> dict[str, str]:
    return decode_attributes(headers["x-amzn-sagemaker-custom-attributes"])


def test_a_streamed_answer(door: Door) -> None:
    reply, body = door.ask(chat(stream=True))

    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.headers["cache-control"] == "no-cache"
    assert reply.headers["x-request-id"] == "req-1"
    assert reply.headers["x-evergreen-variant"] == "champion"
    *chunks, done = events(body)
    assert done == "[DONE]"
    parsed = [ChatChunk.model_validate(chunk) for chunk in chunks]
    assert {chunk.id for chunk in parsed} == {"chatcmpl-req-1"}
    assert {chunk.model for chunk in parsed} == {MODEL}
    assert "".join(c.choices[0].delta.content or "" for c in parsed) == "Hello"
    assert parsed[-1].choices[0].finish_reason == "stop"


def test_usage_comes_last_when_asked_for(door: Door) -> None:
    _, body = door.ask(chat(stream=True, stream_options={"include_usage": True}))
    *_, usage, done = events(body)
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    assert done == "[DONE]"


def test_usage_stays_away_when_not_asked_for(door: Door) -> None:
    _, body = door.ask(chat(stream=True))
    assert not any(chunk.get("usage") for chunk in events(body)[:-1])


def test_a_whole_answer(door: Door) -> None:
    reply, body = door.ask(chat())
    answer = ChatCompletion.model_validate_json(body)

    assert reply.headers["content-type"] == "application/json"
    assert answer.id == "chatcmpl-req-1"
    assert answer.model == MODEL
    assert answer.choices[0].message.content == "Hello"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 8


def test_the_model_is_asked_to_stream_with_usage_and_gets_only_what_the_caller_set(door: Door) -> None:
    door.ask(chat(temperature=0))
    headers, body = door.sagemaker.calls[0]
    assert json.loads(body) == {
        **chat(),
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert set(attributes_of(headers)) == {"request_id", "traceparent"}
    assert "x-amzn-sagemaker-target-variant" not in headers


def test_pieces_pass_while_the_model_still_works(door: Door) -> None:
    whole = chat_events("Hel", "lo")
    first_half = whole[: whole.index(b"lo") - 100]
    go_on = threading.Event()
    parts = [payload_part(first_half), payload_part(whole[len(first_half) :])]
    door.sagemaker.replies = [Reply(parts=parts, hold=go_on)]

    pieces = iter(door.start(chat(stream=True)).body)
    # The model has sent half and waits: a door that collects could not show it.
    assert b"assistant" in next(pieces)
    go_on.set()
    assert b"".join(pieces).endswith(b"data: [DONE]\n\n")


def test_one_connection_serves_many_requests(door: Door) -> None:
    for _ in range(3):
        door.ask(chat(stream=True))
    assert len(door.sagemaker.connections) == 1


def test_the_record_of_an_answer(door: Door) -> None:
    door.ask(chat(stream=True, user="u-7"))
    record = door.record()
    assert record is not None
    expected = {
        "tenant": "shop",
        "user": "u-7",
        "model": MODEL,
        "model_version": "v1",
        "variant": "champion",
        "streamed": True,
        "status": 200,
        "finish_reason": "stop",
        "prompt_tokens": 5,
        "completion_tokens": 3,
    }
    assert {name: record[name] for name in expected} == expected
    assert record["time_to_first_token_ms"] <= record["duration_ms"]
    assert record["expires_at"] > 1_700_000_000


def test_the_metrics_of_an_answer(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    door.ask(chat(stream=True))
    (line,) = emitted(capsys.readouterr().out, metrics.REQUESTS)
    assert line[metrics.REQUESTS] == 1
    assert line[metrics.ERRORS] == 0
    assert line[metrics.INPUT_TOKENS] == 5
    assert line[metrics.OUTPUT_TOKENS] == 3
    assert line[metrics.TIME_TO_FIRST_TOKEN] <= line[metrics.DURATION]
    assert (line["endpoint"], line["variant"], line["model_version"]) == (ENDPOINT, "champion", "v1")
    sets = [names for directive in line["_aws"]["CloudWatchMetrics"] for names in directive["Dimensions"]]
    assert ["endpoint", "variant", "model_version"] in sets


def test_a_record_that_cannot_be_stored_breaks_nothing(
    door: Door, capsys: pytest.CaptureFixture[str]
) -> None:
    door.tables.delete_table(TableName="records")
    reply, body = door.ask(chat())
    assert reply.status == 200
    assert json.loads(body)["choices"]
    (line,) = emitted(capsys.readouterr().out, metrics.RECORDS_LOST)
    assert line[metrics.RECORDS_LOST] == 1


TEXT_EVENTS = b"".join(
    b"data: " + json.dumps(chunk).encode() + b"\n\n"
    for chunk in [
        {
            "id": "x",
            "object": "text_completion",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "text": "Hel"}],
        },
        {"choices": [{"index": 0, "text": "lo", "finish_reason": "length"}]},
        {"choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4}},
    ]
)


@pytest.mark.parametrize("prompt", ["Say hello", ["Say hello"]])
def test_a_text_completion(door: Door, prompt: Any) -> None:
    """Some clients send a list even of one prompt."""
    door.sagemaker.replies = [Reply(parts=cut(TEXT_EVENTS + b"data: [DONE]\n\n", 30))]
    request = {"model": MODEL, "prompt": prompt, "max_tokens": 2}
    reply, body = door.ask(request, route="/v1/completions")
    answer = Completion.model_validate_json(body)
    assert (reply.status, answer.id) == (200, "cmpl-req-1")
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("Hello", "length")
    headers, sent = door.sagemaker.calls[0]
    assert attributes_of(headers)["route"] == "/v1/completions"
    assert json.loads(sent)["prompt"] == prompt
    record = door.record()
    assert record is not None
    assert (record["prompt_tokens"], record["completion_tokens"]) == (2, 2)


def test_a_streamed_text_completion(door: Door) -> None:
    door.sagemaker.replies = [Reply(parts=cut(TEXT_EVENTS + b"data: [DONE]\n\n", 30))]
    _, body = door.ask({"model": MODEL, "prompt": "x", "stream": True}, route="/v1/completions")
    *chunks, done = events(body)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "Hello"
    assert done == "[DONE]"


def embedding_reply(count: int) -> Reply:
    """What a container answers for that many texts."""
    body = {
        "object": "list",
        "model": "inner-name",
        "data": [{"object": "embedding", "index": i, "embedding": [0.5, -1.0]} for i in range(count)],
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    }
    return Reply(parts=cut(json.dumps(body).encode(), 20))


def test_embeddings(door: Door) -> None:
    door.sagemaker.replies = [embedding_reply(2)]
    reply, body = door.ask({"model": MODEL, "input": ["a", "b"]}, route="/v1/embeddings")
    answer = EmbeddingList.model_validate_json(body)
    assert (reply.status, answer.model) == (200, MODEL)
    assert [vector.embedding for vector in answer.data] == [[0.5, -1.0]] * 2
    record = door.record()
    assert record is not None
    assert (record["status"], record["prompt_tokens"], record["streamed"]) == (200, 3, False)


@pytest.mark.parametrize("reply", [embedding_reply(1), Reply(parts=[payload_part(b"{}")]), Reply()])
def test_embeddings_that_do_not_fit_their_texts_are_an_error(door: Door, reply: Reply) -> None:
    door.sagemaker.replies = [reply]
    got, body = door.ask({"model": MODEL, "input": ["a", "b"]}, route="/v1/embeddings")
    assert (got.status, json.loads(body)["error"]["code"]) == (500, "bad_model_answer")


@pytest.mark.parametrize(
    ("route", "body", "param"),
    [
        ("/v1/completions", {"model": MODEL, "prompt": ""}, "prompt"),
        ("/v1/completions", {"model": MODEL, "messages": []}, "prompt"),
        ("/v1/embeddings", {"model": MODEL, "input": []}, "input"),
        ("/v1/embeddings", {"model": MODEL, "input": ["a", 1]}, "input"),
    ],
)
def test_bad_requests_of_other_operations_are_refused_by_name(
    door: Door, route: str, body: dict[str, Any], param: str
) -> None:
    reply, text = door.ask(body, route=route)
    error = json.loads(text)["error"]
    assert reply.status == 400
    assert error["param"].startswith(param)


def test_an_unknown_route_is_an_error_object(door: Door) -> None:
    reply, text = door.ask(chat(), route="/v1/nothing")
    assert (reply.status, json.loads(text)["error"]["code"]) == (404, "unknown_route")
