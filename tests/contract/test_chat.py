"""Answers: whole and streamed, and the promises behind each request field."""

from __future__ import annotations

import concurrent.futures
import json

import httpx
import pytest

from contracts.chat import ChatChunk, ChatCompletion
from tests.support.model_server import CONTEXT_TOKENS, ServerProcess, chat, events, streamed_text

GREEDY = {"temperature": 0}
pytestmark = pytest.mark.usefixtures("known_prompt")  # answers are compared


def ask(client: httpx.Client, **fields: object) -> ChatCompletion:
    reply = client.post("/invocations", json=chat(**fields))
    assert reply.status_code == 200, reply.text
    return ChatCompletion.model_validate(reply.json())


def stream(client: httpx.Client, **fields: object) -> list[dict]:
    with client.stream("POST", "/invocations", json=chat(stream=True, **fields)) as reply:
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("text/event-stream")
        return events(reply)


def test_a_whole_answer_has_text_usage_and_a_reason(client: httpx.Client) -> None:
    answer = ask(client, max_tokens=8)

    assert answer.model == "tiny"
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 8


def test_a_request_without_a_model_is_answered_by_the_one_there_is(client: httpx.Client) -> None:
    body = {name: value for name, value in chat(max_tokens=4).items() if name != "model"}
    reply = client.post("/invocations", json=body)
    assert ChatCompletion.model_validate(reply.json()).model == "tiny"


def test_a_stream_opens_with_the_role_and_ends_with_reason_and_usage(client: httpx.Client) -> None:
    chunks = stream(client, stream_options={"include_usage": True})

    assert [ChatChunk.model_validate(chunk) for chunk in chunks]
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[-2]["choices"][0]["finish_reason"] == "length"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 8
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_a_stream_has_no_usage_unless_asked(client: httpx.Client) -> None:
    assert not [chunk for chunk in stream(client) if chunk.get("usage")]


def test_streamed_and_whole_answers_are_the_same(client: httpx.Client) -> None:
    whole = ask(client, max_tokens=24, **GREEDY)
    streamed = stream(client, max_tokens=24, **GREEDY)

    assert streamed_text(streamed) == whole.choices[0].message.content


def test_chunks_arrive_over_time(server: ServerProcess, client: httpx.Client) -> None:
    with client.stream("POST", "/invocations", json=chat(stream=True, max_tokens=900)) as reply:
        lines = reply.iter_lines()
        first = next(lines)
        still_running = server.metric("evergreen_running_requests")
        rest = [line for line in lines if line]

    assert first.startswith("data: {")
    assert still_running == 1  # the first piece came before the last was made
    assert len(rest) > 32


def test_the_request_id_travels_through(server: ServerProcess, client: httpx.Client) -> None:
    parent = f"00-{'ab' * 16}-{'cd' * 8}-01"
    attributes = {"X-Amzn-SageMaker-Custom-Attributes": f"request_id=r-17,traceparent={parent}"}
    reply = client.post("/invocations", json=chat(), headers=attributes)

    assert reply.json()["id"] == "chatcmpl-r-17"
    assert reply.headers["x-request-id"] == "r-17"
    line = server.line(request_id="r-17", message="request")
    assert (line["trace_id"], line["parent_span_id"]) == ("ab" * 16, "cd" * 8)
    assert line["span_id"] not in ("", "cd" * 8)
    assert line["completion_tokens"] == 8
    parts = [line["queue_ms"], line["prefill_ms"], line["decode_ms"]]
    assert min(parts) >= 0
    assert sum(parts) == pytest.approx(line["duration_ms"], abs=0.2)  # each is rounded


def test_no_prompt_text_in_the_logs(server: ServerProcess, client: httpx.Client) -> None:
    secret = "xyzzy-plugh-4711"
    ask(client, messages=[{"role": "user", "content": secret}])
    client.post("/invocations", json=chat(messages=[{"role": secret, "content": secret}]))
    client.post("/invocations", content=f'{{"model": "tiny", "messages": "{secret}"'.encode())

    assert secret not in server.output


def test_temperature_zero_is_repeatable(client: httpx.Client) -> None:
    texts = {ask(client, max_tokens=16, **GREEDY).choices[0].message.content for _ in range(3)}
    assert len(texts) == 1


def test_a_seed_is_repeatable_and_seeds_differ(client: httpx.Client) -> None:
    def text(seed: int) -> str | None:
        return ask(client, max_tokens=16, seed=seed, temperature=1.0, top_p=0.9).choices[0].message.content

    assert text(1) == text(1)
    assert text(1) != text(2)


def test_no_seed_means_different_answers(client: httpx.Client) -> None:
    texts = {ask(client, max_tokens=16).choices[0].message.content for _ in range(3)}
    assert len(texts) == 3


@pytest.mark.parametrize("fields", [{"top_p": 1e-6}, {"top_p": 5e-324}, {"temperature": 5e-324}], ids=str)
def test_the_smallest_values_are_greedy(client: httpx.Client, fields: dict[str, float]) -> None:
    greedy = ask(client, max_tokens=16, **GREEDY).choices[0].message.content
    assert ask(client, max_tokens=16, **fields).choices[0].message.content == greedy


@pytest.mark.parametrize("penalty", ["presence_penalty", "frequency_penalty"])
def test_a_penalty_keeps_the_answer_from_repeating(client: httpx.Client, penalty: str) -> None:
    def pieces(**fields: float) -> list[str]:
        chunks = stream(client, max_tokens=24, **GREEDY, **fields)
        return [text for chunk in chunks if (text := streamed_text([chunk]))]

    plain, penalised = pieces(), pieces(**{penalty: 2.0})
    assert len(set(plain)) < len(plain)  # greedy, the tiny model says the same over and over
    assert len(set(penalised)) > len(set(plain))


@pytest.mark.parametrize("streamed", [False, True])
def test_a_stop_string_ends_the_answer_before_it(client: httpx.Client, streamed: bool) -> None:
    whole = ask(client, max_tokens=32, seed=11).choices[0].message.content or ""
    stop = whole[len(whole) // 2 : len(whole) // 2 + 6]  # crosses token borders: tokens are shorter
    expected = whole[: whole.index(stop)]

    if streamed:
        chunks = stream(client, max_tokens=32, seed=11, stop=[stop, "never to be seen"])
        text, reason = streamed_text(chunks), chunks[-1]["choices"][0]["finish_reason"]
    else:
        answer = ask(client, max_tokens=32, seed=11, stop=stop)
        text, reason = answer.choices[0].message.content, answer.choices[0].finish_reason

    assert text == expected
    assert reason == "stop"


def test_characters_are_never_cut(client: httpx.Client) -> None:
    """Given random tokens, many of them parts of characters: what is streamed adds up to the whole."""
    for seed in range(4):
        whole = ask(client, max_tokens=96, seed=seed, temperature=2.0).choices[0].message.content
        chunks = stream(client, max_tokens=96, seed=seed, temperature=2.0)
        assert streamed_text(chunks) == whole


def test_without_max_tokens_the_context_is_the_bound(client: httpx.Client) -> None:
    answer = ask(client, max_tokens=None, **GREEDY)

    assert answer.usage is not None
    if answer.choices[0].finish_reason == "length":
        assert answer.usage.total_tokens == CONTEXT_TOKENS


def test_every_role_and_part_is_understood(client: httpx.Client) -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "One "}, {"type": "text", "text": "two"}]},
        {"role": "assistant", "content": "three"},
        {"role": "user", "content": "four", "name": "ann"},
    ]
    assert ask(client, messages=messages, metadata={"a": "b"}, user="u-1").choices[0].message.content


def test_many_clients_are_all_answered(client: httpx.Client) -> None:
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda seed: ask(client, max_tokens=12, seed=seed), range(64)))

    assert {answer.usage.completion_tokens for answer in answers if answer.usage} <= set(range(1, 13))


def test_metrics_follow_the_open_telemetry_names(client: httpx.Client) -> None:
    ask(client)
    text = client.get("/metrics").text

    for name in (
        "gen_ai_server_request_duration_seconds_count",
        "gen_ai_server_time_to_first_token_seconds_count",
        "gen_ai_server_time_per_output_token_seconds_count",
        "gen_ai_client_token_usage_count",
        "evergreen_queued_requests",
        "evergreen_running_requests",
    ):
        assert name in text, name


def test_ping_says_ready(client: httpx.Client) -> None:
    reply = client.get("/ping")
    assert reply.status_code == 200
    assert json.loads(reply.text) == {"status": "ready"}
