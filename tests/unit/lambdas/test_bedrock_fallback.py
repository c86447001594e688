"""A model in Bedrock as a stand-in: its OpenAI-compatible route over HTTP, as the service answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from contracts.fallback import BedrockTarget, FallbackTarget
from tests.support.fake_model_endpoint import Reply, chat_events
from tests.support.front_door import ENDPOINT, SETTINGS, Door, chat, events

MODEL_ID = "openai.gpt-oss-20b-1:0"
FULL = Reply(
    status=424, error=("ModelError", {"Message": "", "OriginalStatusCode": 503, "OriginalMessage": ""})
)


@dataclass
class FakeBedrock:
    """Answers each call alike. `calls`: path, headers in lower case, body."""

    status: int = 200
    body: bytes = b""
    break_off: bool = False
    calls: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)


@pytest.fixture
def bedrock(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBedrock]:
    fake = FakeBedrock(body=chat_events("Hel", "lo", usage=(7, 2)))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            fake.calls.append((self.path, {k.lower(): v for k, v in self.headers.items()}, sent))
            self.send_response(fake.status)
            self.send_header(
                "Content-Type", "text/event-stream" if fake.status == 200 else "application/json"
            )
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for start in range(0, len(fake.body), 61):
                piece = fake.body[start : start + 61]
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            if fake.break_off:
                self.close_connection = True
            else:
                self.wfile.write(b"0\r\n\r\n")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", f"http://127.0.0.1:{server.server_port}")
    yield fake
    server.shutdown()
    server.server_close()


@pytest.fixture
def chained(make_door: Callable[..., Door], bedrock: FakeBedrock) -> Door:
    """The endpoint is full; Bedrock in another region comes next."""
    targets = [BedrockTarget(kind="bedrock", model_id=MODEL_ID, region="us-west-2")]
    door = make_door(SETTINGS.model_copy(update={"fallbacks": targets}))
    door.sagemaker.replies_of = {ENDPOINT: FULL}
    return door


@pytest.mark.parametrize("stream", [True, False])
def test_bedrock_answers_while_the_endpoint_cannot(chained: Door, bedrock: FakeBedrock, stream: bool) -> None:
    reply, body = chained.ask(chat(stream=stream, user="u-7", temperature=0.5))
    assert (reply.status, reply.headers["x-evergreen-variant"]) == (200, "fallback")
    if stream:
        text = "".join(c["delta"].get("content") or "" for e in events(body)[:-1] for c in e["choices"])
        assert {event["model"] for event in events(body)[:-1]} == {SETTINGS.model_name}
    else:
        text = json.loads(body)["choices"][0]["message"]["content"]
    assert text == "Hello"
    path, headers, sent = bedrock.calls[0]
    assert path == "/openai/v1/chat/completions"
    assert "/us-west-2/bedrock/aws4_request" in headers["authorization"]
    assert (sent["model"], sent["stream"], sent["temperature"]) == (MODEL_ID, True, 0.5)
    assert headers["traceparent"].startswith("00-")
    # Who asks is nobody's business there.
    assert "user" not in sent
    record = chained.record()
    assert record is not None
    assert (record["model_version"], record["prompt_tokens"]) == (f"bedrock/{MODEL_ID}", 7)


def test_what_the_model_refuses_is_told(chained: Door, bedrock: FakeBedrock) -> None:
    bedrock.status = 400
    bedrock.body = json.dumps({"error": {"message": "too long", "type": "invalid_request_error"}}).encode()
    status, error = chained.error(chat())
    assert (status, error["message"]) == (400, "too long")


@pytest.mark.parametrize("status", [403, 404, 429, 500, 503])
def test_what_is_wrong_with_the_stand_in_is_not_the_callers_affair(
    chained: Door, bedrock: FakeBedrock, status: int
) -> None:
    bedrock.status, bedrock.body = status, b'{"message": "not authorized to perform bedrock:InvokeModel"}'
    code, error = chained.error(chat())
    assert (code, error["type"]) == (503, "overloaded_error")
    assert "bedrock" not in error["message"]
    assert len(bedrock.calls) == (2 if status >= 500 else 1)


def test_an_answer_that_breaks_off_is_an_error_on_the_stream(chained: Door, bedrock: FakeBedrock) -> None:
    bedrock.body, bedrock.break_off = chat_events("Hel", done=False), True
    _, body = chained.ask(chat(stream=True))
    assert events(body)[-1]["error"]["code"] == "stream_interrupted"


def test_it_stands_in_for_chat_only(chained: Door, bedrock: FakeBedrock) -> None:
    reply, _ = chained.ask({"model": SETTINGS.model_name, "input": "x"}, route="/v1/embeddings")
    assert (reply.status, bedrock.calls) == (503, [])


def test_settings_tell_the_two_kinds_apart() -> None:
    from lambdas.pipeline.environment import InferenceEnvironment

    targets = [
        {"endpoint_name": "second", "model_version": "v0"},
        {"kind": "endpoint", "endpoint_name": "third", "model_version": "v0"},
        {"kind": "bedrock", "model_id": MODEL_ID},
    ]
    fields = {
        **SETTINGS.model_dump(exclude={"guards", "cors_origins", "models"}),
        "fallbacks": json.dumps(targets),
    }
    kinds = [type(target) for target in InferenceEnvironment.model_validate(fields).fallbacks]
    assert kinds == [FallbackTarget, FallbackTarget, BedrockTarget]
