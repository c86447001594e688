"""Hosted models through the front door: a real HTTP server that speaks the OpenAI API is behind it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from contracts.catalogue import ModelEntry
from contracts.targets import EndpointTarget, OpenAITarget
from lambdas.aws.hosted import retry_after
from lambdas.aws.secrets import CachedSecrets, SecretError
from lambdas.pipeline.assembly import connections
from tests.support import fake_provider
from tests.support.fake_model_endpoint import Reply as EndpointReply
from tests.support.fake_model_endpoint import chat_events, cut
from tests.support.fake_provider import HELLO, USAGE, FakeProvider, Reply, refused, said, stream
from tests.support.front_door import ENDPOINT, SETTINGS, Door, chat, events

SECRET = "evergreen/test/models/far"


class Secrets:
    """Secrets Manager, scripted: each read takes the next value; the last one repeats."""

    def __init__(self, *values: str) -> None:
        self.values = list(values)
        self.reads: list[str] = []

    def read(self, name: str) -> str:
        self.reads.append(name)
        value = self.values.pop(0) if len(self.values) > 1 else self.values[0]
        if value == "denied":
            raise SecretError("AccessDeniedException")
        return value


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with fake_provider.running() as running:
        running.replies = [stream(*HELLO)]
        yield running


@pytest.fixture
def hosted(provider: FakeProvider, make_door: Callable[..., Door]) -> Callable[..., Door]:
    """Doors with one hosted model, `far`, known as `gpt` too; `changes` are those of its entry."""

    def make(secrets: Secrets | None = None, **changes: Any) -> Door:
        target = OpenAITarget(
            kind="openai", base_url=provider.url, model="far-1", secret=SECRET if secrets else None
        )
        entry = ModelEntry(name="far", aliases=("gpt",), target=target)
        settings = SETTINGS.model_copy(update={"models": [entry.model_copy(update=changes)]})
        return make_door(settings, connect=connections(secrets or Secrets("unused")))

    return make


def ask(door: Door, **fields: Any) -> tuple[int, Any, Mapping[str, str]]:
    reply, body = door.ask({**chat(), "model": "far", **fields})
    return reply.status, json.loads(body), reply.headers


def test_a_chat_goes_to_the_provider_under_its_own_name_and_key(
    hosted: Callable[..., Door], provider: FakeProvider
) -> None:
    door = hosted(Secrets("sk-far"))
    status, answer, headers = ask(door, model="gpt", user="u-7", metadata={"a": "b"}, temperature=0.5)
    assert status == 200
    assert (answer["model"], answer["choices"][0]["message"]["content"]) == ("far", "Hello")
    assert answer["usage"]["total_tokens"] == 9
    (call,) = provider.calls
    assert call.path == "/openai/v1/chat/completions"
    assert call.headers["authorization"] == "Bearer sk-far"
    assert (call.body["model"], call.body["temperature"], call.body["stream"]) == ("far-1", 0.5, True)
    assert not {"user", "metadata"} & set(call.body)
    assert "x-evergreen-variant" not in headers
    assert door.sagemaker.calls == []


def test_the_provider_hears_of_the_call_as_its_parent(
    hosted: Callable[..., Door], provider: FakeProvider
) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    sent = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01", "tracestate": "congo=1,rojo=2"}
    hosted(Secrets("sk-far")).ask({**chat(), "model": "far"}, headers=sent)
    (call,) = provider.calls
    version, trace_id, span_id, flags = call.headers["traceparent"].split("-")
    assert (version, trace_id, flags) == ("00", trace, "01")
    assert span_id != "00f067aa0ba902b7"
    assert call.headers["tracestate"] == "congo=1,rojo=2"


def test_record_and_price_are_the_entrys(hosted: Callable[..., Door]) -> None:
    from contracts.catalogue import ModelPrice

    door = hosted(price=ModelPrice(input=3, output=15))
    ask(door, model="gpt")
    record = door.record()
    assert record is not None
    assert (record["model"], record["model_version"]) == ("far", "openai/far-1")
    assert record["cost_nano_usd"] == (7 * 3 + 2 * 15) * 1000


def test_the_connection_is_kept_and_without_a_secret_no_key_is_sent(
    hosted: Callable[..., Door], provider: FakeProvider
) -> None:
    door = hosted()
    for _ in range(3):
        assert ask(door)[0] == 200
    assert len(provider.connections) == 1
    assert "authorization" not in provider.calls[0].headers


def test_text_and_vectors_take_their_own_paths(
    make_door: Callable[..., Door], provider: FakeProvider
) -> None:
    target = OpenAITarget(kind="openai", base_url=provider.url, model="far-1")
    vectors = ModelEntry(name="vectors", kind="embedding", target=target)
    texts = ModelEntry(name="texts", target=target)
    door = make_door(SETTINGS.model_copy(update={"models": [vectors, texts]}))
    answer = {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}]}
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    body = json.dumps(answer | {"model": "far-1", "usage": usage}).encode()
    provider.replies = [Reply(body, content_type="application/json")]
    reply, given = door.ask({"model": "vectors", "input": "x"}, route="/v1/embeddings")
    assert (reply.status, json.loads(given)["data"][0]["embedding"]) == (200, [0.5])
    provider.replies = [stream({"choices": [{"index": 0, "text": "on", "finish_reason": "length"}]})]
    reply, given = door.ask({"model": "texts", "prompt": "x"}, route="/v1/completions")
    assert (reply.status, json.loads(given)["choices"][0]["text"]) == (200, "on")
    assert [call.path.removeprefix("/openai/v1") for call in provider.calls] == [
        "/embeddings",
        "/completions",
    ]


# --- what providers send ---------------------------------------------------------------------------------

CALLS_WITHOUT_INDEX = {
    "choices": [
        {
            "delta": {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": name, "type": "function", "function": {"name": name, "arguments": "{}"}}
                    for name in ("one", "two")
                ],
            },
            "finish_reason": "tool_calls",
            "index": 0,
        }
    ]
}
WHOLE = {
    "object": "chat.completion",
    "created": 1,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
    "usage": USAGE["usage"],
}


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(
            stream({"choices": [], "prompt_filter_results": []}, *HELLO), id="a chunk without choices"
        ),
        pytest.param(stream(*HELLO, done=False), id="no DONE"),
        pytest.param(
            stream(said("Hello", provider="x", service_tier=None), said("", finish="eos")), id="finish"
        ),
        pytest.param(stream(said("Hello"), said("", finish="stop", usage=None)), id="null usage"),
        pytest.param(
            Reply(b": keep-alive\r\n\r\n" + stream(*HELLO).body.replace(b"\n", b"\r\n")), id="comments, CRLF"
        ),
        pytest.param(Reply(json.dumps(WHOLE).encode(), content_type="application/json"), id="whole"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_what_providers_do_differently_makes_no_difference(
    hosted: Callable[..., Door], provider: FakeProvider, reply: Reply, streamed: bool
) -> None:
    provider.replies = [reply]
    given, body = hosted().ask({**chat(), "model": "far", "stream": streamed})
    assert given.status == 200
    if not streamed:
        choice = json.loads(body)["choices"][0]
        assert (choice["message"]["content"], choice["finish_reason"]) == ("Hello", "stop")
        return
    *chunks, done = events(body)
    assert done == "[DONE]"
    assert all(chunk["choices"] for chunk in chunks)  # clients look into the first one unasked
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "Hello"
    assert {name for chunk in chunks for name in chunk} <= {"id", "object", "created", "model", "choices"}


def test_calls_without_an_index_stay_apart(hosted: Callable[..., Door], provider: FakeProvider) -> None:
    provider.replies = [stream(CALLS_WITHOUT_INDEX)]
    function = {"name": "one", "parameters": {"type": "object", "properties": {}}}
    status, answer, _ = ask(hosted(), tools=[{"type": "function", "function": function}])
    assert status == 200
    names = [call["function"]["name"] for call in answer["choices"][0]["message"]["tool_calls"]]
    assert names == ["one", "two"]


def test_text_in_a_field_of_the_providers_own_does_not_pass_the_guards(
    hosted: Callable[..., Door], provider: FakeProvider
) -> None:
    chunk = said("Hello", finish="stop")
    chunk["choices"][0]["delta"]["reasoning_content"] = "call +49 30 1234567"
    provider.replies = [stream(chunk)]
    _, body = hosted().ask({**chat(), "model": "far", "stream": True})
    assert b"1234567" not in body


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(stream(said("Hel"), done=False), id="ends without an end"),
        pytest.param(stream(said("Hel"), done=False, break_off=True), id="breaks off"),
        pytest.param(
            stream(said("Hel"), {"error": {"message": "sk-secret", "code": 1}}), id="an error in it"
        ),
        pytest.param(Reply(stream(said("Hel")).body.replace(b"[DONE]", b"{no JSON")), id="garbage"),
    ],
)
def test_an_answer_that_breaks_off_is_no_answer(
    hosted: Callable[..., Door], provider: FakeProvider, reply: Reply
) -> None:
    provider.replies = [reply]
    given, body = hosted().ask({**chat(), "model": "far"})
    assert given.status >= 500
    assert b"sk-secret" not in body


# --- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "status", "code", "wait"),
    [
        (refused(400, "too long", "context_length_exceeded"), 400, "context_length_exceeded", None),
        (refused(422, "no such field"), 400, "refused_by_model", None),
        (refused(413, "too large"), 413, "refused_by_model", None),
        (
            refused(401, "Incorrect API key provided: sk-far", "invalid_api_key"),
            502,
            "upstream_refused",
            None,
        ),
        (refused(403, "region"), 502, "upstream_refused", None),
        (refused(404, "no such model: far-1", "model_not_found"), 502, "upstream_refused", None),
        (refused(402, "no credit"), 502, "upstream_refused", None),
        (refused(429, "quota", "insufficient_quota"), 502, "upstream_refused", None),
        (refused(429, "slow down", retry_after="7"), 429, "throttled", "7"),
        (refused(429, "slow down"), 429, "throttled", "2"),
        (refused(500, "oops"), 503, "model_unavailable", "2"),
        (refused(529, "overloaded", retry_after="11"), 503, "model_unavailable", "11"),
        (Reply(b"<html>", 301, "text/html", {"location": "http://x"}), 502, "upstream_refused", None),
    ],
)
def test_each_refusal_says_whose_fault_it_is(
    hosted: Callable[..., Door],
    provider: FakeProvider,
    reply: Reply,
    status: int,
    code: str,
    wait: str | None,
) -> None:
    provider.replies = [reply]
    given, answer, headers = ask(hosted(Secrets("sk-far")))
    assert (given, answer["error"]["code"]) == (status, code)
    assert headers.get("retry-after") == wait
    assert "sk-far" not in json.dumps(answer)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *[("1", 1), ("0", 1), ("7.2", 8), ("99999", 600), ("inf", 600), ("Wed, 21 Oct 2015 07:28:00 GMT", 1)],
        *[("nan", None), ("soon", None), ("", None), (None, None)],
    ],
)
def test_how_long_to_wait(text: str | None, seconds: int | None) -> None:
    assert retry_after(text) == seconds


def test_a_failing_provider_is_asked_once_more_and_no_more(
    hosted: Callable[..., Door], provider: FakeProvider
) -> None:
    provider.replies = [refused(500, "oops"), stream(*HELLO)]
    assert ask(hosted())[0] == 200
    provider.replies, before = [refused(500, "oops")], len(provider.calls)
    assert ask(hosted())[0] == 503
    assert len(provider.calls) - before == 2


def test_a_provider_that_refuses_us_is_stood_in_for(
    hosted: Callable[..., Door], provider: FakeProvider
) -> None:
    provider.replies = [refused(401, "no")]
    door = hosted(
        fallbacks=(EndpointTarget(endpoint_name="second", model_version="v0", served_name="small"),)
    )
    door.sagemaker.replies_of = {"second": EndpointReply(parts=cut(chat_events("Hi"), 50))}
    status, answer, headers = ask(door)
    assert (status, headers["x-evergreen-variant"], answer["model"]) == (200, "fallback", "far")
    assert json.loads(door.sagemaker.calls[0][1])["model"] == "small"


def test_a_hosted_model_stands_in_for_an_endpoint(
    make_door: Callable[..., Door], provider: FakeProvider
) -> None:
    target = OpenAITarget(kind="openai", base_url=provider.url, model="far-1")
    door = make_door(SETTINGS.model_copy(update={"fallbacks": [target]}))
    door.sagemaker.replies_of = {
        ENDPOINT: EndpointReply(status=503, error=("ServiceUnavailable", {"Message": "no"}))
    }
    reply, body = door.ask(chat())
    assert (reply.status, reply.headers["x-evergreen-variant"]) == (200, "fallback")
    assert json.loads(body)["choices"][0]["message"]["content"] == "Hello"


# --- secrets ---------------------------------------------------------------------------------------------


def test_a_rotated_key_is_read_anew_once(
    hosted: Callable[..., Door], provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lambdas.aws.secrets._REFRESH_SECONDS", 0)
    secrets = Secrets("sk-old", "sk-new")
    door = hosted(secrets)
    provider.keys = {"sk-old"}
    assert ask(door)[0] == ask(door)[0] == 200
    assert secrets.reads == [SECRET]
    provider.keys = {"sk-new"}
    assert ask(door)[0] == ask(door)[0] == 200
    assert secrets.reads == [SECRET] * 2


def test_a_wrong_key_is_not_read_for_each_request(
    hosted: Callable[..., Door], provider: FakeProvider, capsys: pytest.CaptureFixture[str]
) -> None:
    secrets = Secrets("sk-wrong")
    provider.keys = {"sk-right"}
    door = hosted(secrets)
    assert [ask(door)[0] for _ in range(3)] == [502] * 3
    assert secrets.reads == [SECRET]
    assert "sk-wrong" not in capsys.readouterr().out


def test_a_secret_that_cannot_be_read_is_the_operators_matter(
    hosted: Callable[..., Door], provider: FakeProvider
) -> None:
    status, answer, _ = ask(hosted(Secrets("denied")))
    assert (status, answer["error"]["code"], provider.calls) == (502, "upstream_refused", [])


def test_a_key_is_read_again_only_after_a_while() -> None:
    now, source = [0.0], Secrets("a", "a", "b")
    secrets = CachedSecrets(source, clock=lambda: now[0])
    assert secrets.read("s") == "a"
    assert secrets.changed("s", "a") is None  # read just now
    now[0] = 31
    assert secrets.changed("s", "a") is None  # read anew, and the same
    now[0] = 62
    assert secrets.changed("s", "a") == secrets.read("s") == "b"
    assert len(source.reads) == 3
