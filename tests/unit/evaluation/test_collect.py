"""Asking an API: against a small server that answers, refuses, stalls and breaks off."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from evaluation.cli import main
from evaluation.predictions import read_predictions
from tests.support.evaluation_data import write_lines


class Api(BaseHTTPRequestHandler):
    """Behaves as the prompt says; remembers what it was asked."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, self.headers["Authorization"], body))
        prompt = body["messages"][-1]["content"]
        if prompt == "busy" and sum(asked[2] == body for asked in self.server.asked) == 1:
            return self.reply(429, b'{"error": {"message": "slow down"}}', {"Retry-After": "0"})
        if prompt == "forbidden":
            return self.reply(403, b'{"error": {"message": "no"}}', {})
        self.send_response(200)
        self.end_headers()
        if prompt == "stall":
            self.server.release.wait(30)
            return None
        self.event({"choices": [{"index": 0, "delta": {"role": "assistant"}}]})
        for piece in ("Hel", "lo"):
            self.event({"choices": [{"index": 0, "delta": {"content": piece}}]})
        if prompt == "break":
            return None
        end = "length" if prompt == "long" else "stop"
        self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": end}]})
        if prompt == "fault":
            return self.event({"error": {"message": "out of memory", "type": "server_error"}}, bare=True)
        self.event({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}})
        self.wfile.write(b"data: [DONE]\n\n")
        return None

    def event(self, body, bare=False):
        shared = {} if bare else {"id": "x", "created": 1, "model": "m"}
        self.wfile.write(b"data: " + json.dumps({**shared, **body}).encode() + b"\n\n")

    def reply(self, status, body, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def api():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    server.daemon_threads = True
    server.asked, server.release = [], threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()


def ask(api, tmp_path, prompts, *options):
    rows = [{"id": prompt, "prompt": prompt, "references": ["Hello"]} for prompt in prompts]
    dataset = write_lines(tmp_path / "set.jsonl", rows)
    out = tmp_path / "answers.jsonl"
    url = f"http://127.0.0.1:{api.server_port}/v1"
    code = main(
        [
            "collect",
            str(dataset),
            "--api-url",
            url,
            "--api-key",
            "k",
            "--model",
            "m",
            "--out",
            str(out),
            *options,
        ]
    )
    assert code == 0
    return {one.id: one for one in read_predictions(out, "m").predictions}


def test_answers_come_with_times_and_tokens(api, tmp_path):
    answers = ask(api, tmp_path, ["one", "two", "busy"], "--system-prompt", "Be brief.")

    assert {one.prediction for one in answers.values()} == {"Hello"}
    for one in answers.values():
        assert 0 < one.ttft_ms <= one.duration_ms
        assert one.completion_tokens == 2
        assert one.references == ["Hello"]
    path, key, body = api.asked[0]
    assert (path, key) == ("/v1/chat/completions", "Bearer k")
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert body["stream_options"] == {"include_usage": True}


def test_an_answer_says_whether_it_was_cut_and_the_endpoint_sets_the_length(api, tmp_path):
    answers = ask(api, tmp_path, ["short", "long"])

    assert {one.id: one.finish_reason for one in answers.values()} == {"short": "stop", "long": "length"}
    assert all("max_tokens" not in body for _, _, body in api.asked)

    ask(api, tmp_path, ["short"], "--max-tokens", "9")
    assert api.asked[-1][2]["max_tokens"] == 9


def test_failures_become_items_with_a_reason(api, tmp_path):
    started = time.monotonic()

    answers = ask(api, tmp_path, ["forbidden", "stall", "break", "fault", "fine"], "--timeout", "2")

    assert time.monotonic() - started < 60
    assert answers["forbidden"].error.startswith("HTTP 403")
    assert answers["stall"].error == "no answer within 2 s"
    assert "without [DONE]" in answers["break"].error
    assert answers["fault"].error == "error on the stream: out of memory"
    assert answers["fine"].error is None
    assert {one.prediction for one in answers.values() if one.error} == {""}


def test_a_server_that_is_not_there(api, tmp_path):
    api.shutdown()
    api.server_close()

    assert ask(api, tmp_path, ["x"])["x"].error.startswith("connection failed")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--api-url", "ftp://x/v1", "--api-key", "k"], "must be an http or https URL"),
        (["--api-url", "http://x/v1"], "no API key: set EVERGREEN_API_KEY"),
    ],
)
def test_bad_options_are_named(tmp_path, capsys, monkeypatch, options, message):
    monkeypatch.delenv("EVERGREEN_API_KEY", raising=False)
    dataset = write_lines(tmp_path / "set.jsonl", [{"id": "1", "prompt": "p"}])

    assert main(["collect", str(dataset), "--model", "m", *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("row", [{"id": "1"}, {"id": "1", "prompt": ""}, [1]])
def test_a_set_without_prompts_is_refused(tmp_path, capsys, row):
    dataset = write_lines(tmp_path / "set.jsonl", [json.dumps(row)])

    code = main(
        ["collect", str(dataset), "--model", "m", "--api-url", "http://127.0.0.1:1/v1", "--api-key", "k"]
    )

    assert code == 2
    assert "set.jsonl:1: an evaluation set needs a prompt on every line" in capsys.readouterr().err
