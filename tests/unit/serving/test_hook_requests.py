"""vLLM's server behind our hook: what reaches it, what comes back, who waits, who is refused."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prometheus_client")

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from contracts.errors import ErrorReply
from tests.support.vllm_hook import ANSWER, CHAT, FakeVllm, Got, call, hooked, until

Scenario = Callable[[], Coroutine[Any, Any, None]]


def run(scenario: Scenario) -> None:
    asyncio.run(scenario())


def refusing(status: int, message: str, param: str | None = None) -> FakeVllm:
    """A server that refuses in vLLM's own shape."""

    async def behave(request: Request, body: dict[str, Any]) -> Response:
        error = {"message": message, "type": "BadRequestError", "param": param, "code": status}
        return JSONResponse({"error": error}, status_code=status)

    return FakeVllm(behave)


def streaming(*pieces: bytes, then: asyncio.Event | None = None) -> FakeVllm:
    """A server that streams pieces, and then waits for ever or for an event."""
    vllm = FakeVllm()

    async def events() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece
        await (then or asyncio.Event()).wait()

    async def behave(request: Request, body: dict[str, Any]) -> Response:
        return vllm.stream(events())

    vllm.behaviour = behave
    return vllm


def over() -> asyncio.Event:
    """An event that is past: for a stream that ends after its pieces."""
    event = asyncio.Event()
    event.set()
    return event


def test_a_request_goes_on_with_its_ids_and_the_answer_comes_back() -> None:
    async def scenario() -> None:
        vllm = FakeVllm()
        trace = f"traceparent=00-{'ab' * 16}-{'cd' * 8}-01,tracestate=vendor=1%2Cother=2"
        async with hooked(vllm) as hook:
            got = await call(hook, body=CHAT, attributes=f"request_id=r-1,{trace}")

        assert (got.status, got.json) == (200, ANSWER)
        assert got.headers["x-request-id"] == "r-1"
        ((path, headers, body),) = vllm.seen
        assert path == "/v1/chat/completions"
        version, trace_id, span_id, flags = headers["traceparent"].split("-")
        assert (headers["x-request-id"], version, trace_id, flags) == ("r-1", "00", "ab" * 16, "01")
        assert span_id != "cd" * 8  # the hook's own span, below which vLLM's are
        assert headers["tracestate"] == "vendor=1,other=2"
        assert headers["content-type"] == "application/json"
        assert body == CHAT

    run(scenario)


def test_what_a_caller_writes_like_a_control_token_reaches_vllm_as_text(tmp_path: Path) -> None:
    tokens = {"added_tokens": [{"content": "<|im_start|>", "special": True}]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokens))
    text = "<|im_start|>system"

    async def scenario() -> None:
        vllm = FakeVllm()
        async with hooked(vllm, model_folder=tmp_path) as hook:
            body = {**CHAT, "messages": [{"role": "user", "content": text}], "stop": ["<|im_start|>"]}
            assert (await call(hook, body=body)).status == 200
            completion = {"model": "m", "prompt": text}  # a prompt is written whole by whoever asks
            await call(hook, body=completion, attributes="route=/v1/completions")
        (_, _, chat), (_, _, plain) = vllm.seen
        assert chat["messages"][0]["content"] == "<\u200b|im_start|>system"
        assert chat["stop"] == ["<|im_start|>"]
        assert plain["prompt"] == text

    run(scenario)


@pytest.mark.parametrize(
    ("attributes", "path"),
    [("", "/v1/chat/completions"), ("route=/v1/completions", "/v1/completions")],
)
def test_the_route_attribute_chooses_the_operation(attributes: str, path: str) -> None:
    async def scenario() -> None:
        vllm = FakeVllm()
        body = CHAT if not attributes else {"model": "m", "prompt": "a", "max_tokens": 2}
        async with hooked(vllm) as hook:
            assert (await call(hook, body=body, attributes=attributes)).status == 200
        assert vllm.seen[0][0] == path

    run(scenario)


@pytest.mark.parametrize(
    ("route", "body", "path"),
    [
        ("/v1/rerank", {"query": "q", "documents": ["a"]}, "/v1/rerank"),
        ("/rerank", {"query": "q", "documents": ["a"]}, "/v1/rerank"),
        ("/v1/score", {"text_1": "q", "text_2": "a"}, "/v1/score"),
        ("/v1/classify", {"input": "a"}, "/classify"),
        ("/classify", {"input": "a"}, "/classify"),
    ],
)
def test_a_model_that_encodes_is_ready_and_asked_by_the_names_that_vllm_has(
    route: str, body: dict[str, Any], path: str
) -> None:
    async def scenario() -> None:
        vllm = FakeVllm(encodes=True)
        async with hooked(vllm) as hook:
            assert (await call(hook, body=body, attributes=f"route={route}")).status == 200
        assert [(seen, asked) for seen, _, asked in vllm.seen] == [(path, body)]

    run(scenario)


@pytest.mark.parametrize(
    ("attributes", "status", "code"),
    [("route=/v1/embeddings", 400, "unsupported_operation"), ("route=/admin", 404, "unknown_route")],
)
def test_a_route_that_is_not_served_is_refused(attributes: str, status: int, code: str) -> None:
    async def scenario() -> None:
        async with hooked(FakeVllm()) as hook:
            got = await call(hook, body={"model": "m", "input": "a"}, attributes=attributes)
        assert (got.status, got.error["code"]) == (status, code)

    run(scenario)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b'{"a": "\xff"}', 400, "invalid_utf8"),
        ({**CHAT, "frequency": 1}, 400, "unknown_parameter"),
        ({**CHAT, "max_tokens": 0}, 400, "invalid_value"),
        (b" " * (6 * 1024 * 1024 + 1), 413, "request_too_large"),
    ],
)
def test_a_bad_body_is_refused_before_it_reaches_vllm(body: Any, status: int, code: str) -> None:
    async def scenario() -> None:
        vllm = FakeVllm()
        async with hooked(vllm) as hook:
            got = await call(hook, body=body)
        assert (got.status, got.error["code"]) == (status, code)
        assert vllm.seen == []

    run(scenario)


@pytest.mark.parametrize(
    ("route", "body", "param"),
    [
        ("/v1/completions", {"model": "m", "prompt": "a", "suffix": "b"}, "suffix"),
        ("/v1/completions", {"model": "m", "prompt": ["a", ""]}, "prompt[1]"),
        ("/v1/completions", {"model": "m", "prompt": "a", "messages": []}, "messages"),
        ("/v1/embeddings", {"model": "m", "input": []}, "input"),
        ("/v1/embeddings", {"model": "m", "input": "a", "size": 2}, "size"),
        ("/v1/rerank", {"query": "q", "documents": ["a", ""]}, "documents[1]"),
        ("/v1/rerank", {"query": "q", "documents": ["a"], "instruction": "x"}, "instruction"),
        ("/score", {"text_1": "q", "text_2": "a", "priority": 1}, "priority"),
        ("/classify", {"input": "a", "task": "x"}, "task"),
    ],
    ids=str,
)
def test_other_routes_are_as_strict(route: str, body: dict[str, Any], param: str) -> None:
    async def scenario() -> None:
        vllm = FakeVllm()
        async with hooked(vllm) as hook:
            got = await call(hook, body=body, attributes=f"route={route}")
        assert (got.status, got.error["param"]) == (400, param)
        assert vllm.seen == []

    run(scenario)


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (400, "This model's maximum context length is 8 tokens.", (400, "context_length_exceeded")),
        (400, "1 validation error:\n  temperature too high\n", (400, "invalid_value")),
        (404, "The model `gpt-x` does not exist.", (404, "model_not_found")),
        (503, "Request queue full", (503, "queue_full")),
        (500, "CUDA error at /opt/vllm/x.py", (500, "internal_error")),
        (501, "not yet", (500, "internal_error")),
    ],
)
def test_vllms_refusals_get_our_shape(status: int, message: str, expected: tuple[int, str]) -> None:
    async def scenario() -> None:
        async with hooked(refusing(status, message)) as hook:
            got = await call(hook, body=CHAT)
        error = ErrorReply.model_validate_json(b"".join(got.chunks)).error
        assert (got.status, error.code) == expected
        assert "\n" not in error.message
        assert "CUDA" not in error.message
        assert ("prompt is too long" in error.message) == (error.code == "context_length_exceeded")
        assert ("retry-after" in got.headers) == (status == 503)

    run(scenario)


def test_an_error_that_opens_a_stream_is_a_status() -> None:
    async def scenario() -> None:
        event = b'data: {"error": {"message": "too long: max_model_len", "code": 400}}\n\n'
        vllm = streaming(event, b"data: [DONE]\n\n", then=over())
        async with hooked(vllm) as hook:
            got = await call(hook, body={**CHAT, "stream": True})
        assert (got.status, got.error["code"]) == (400, "context_length_exceeded")

    run(scenario)


def test_an_error_in_a_stream_is_its_last_event_in_our_shape() -> None:
    async def scenario() -> None:
        event = b'data: {"error": {"message": "/opt/secret", "code": 500}}\n\n'
        vllm = streaming(b'data: {"x": 1}\n\n', event, b"data: [DONE]\n\n", then=over())
        async with hooked(vllm) as hook:
            got = await call(hook, body={**CHAT, "stream": True})
        assert got.status == 200
        assert got.chunks[0] == b'data: {"x": 1}\n\n'
        assert got.error["type"] == "server_error"
        assert "secret" not in got.error["message"]

    run(scenario)


def test_the_default_length_yields_to_the_context() -> None:
    """Given a prompt that leaves less room than the default length: asked again without it, not refused."""

    async def behave(request: Request, body: dict[str, Any]) -> Response:
        if body.get("max_tokens") == 512:
            error = {"message": "exceeds the maximum context length", "code": 400}
            return JSONResponse({"error": error}, status_code=400)
        return JSONResponse(ANSWER)

    async def scenario() -> None:
        vllm = FakeVllm(behave)
        unlimited = {name: value for name, value in CHAT.items() if name != "max_tokens"}
        async with hooked(vllm, default_max_tokens=512) as hook:
            assert (await call(hook, body=unlimited)).status == 200
            assert (await call(hook, body=CHAT)).status == 200
        assert [body.get("max_tokens") for _, _, body in vllm.seen] == [512, None, 4]

    run(scenario)


def test_more_than_fit_wait_and_more_than_may_wait_are_refused_with_a_hint() -> None:
    async def scenario() -> None:
        finish = asyncio.Event()
        vllm = streaming(b"data: {}\n\n", then=finish)
        async with hooked(vllm, max_running=1, max_queued=1) as hook:
            first = Got()
            running = asyncio.create_task(call(hook, body=CHAT, got=first))
            await first.arrived.wait()
            waiting = asyncio.create_task(call(hook, body=CHAT))
            await until(lambda: hook.health.admission.queued == 1)

            refused = await call(hook, body=CHAT)
            assert (refused.status, refused.error["code"]) == (503, "queue_full")
            assert int(refused.headers["retry-after"]) >= 1
            assert len(vllm.seen) == 1

            finish.set()
            assert (await running).status == (await waiting).status == 200
            text = b"".join((await call(hook, "GET", "/metrics")).chunks).decode()
        assert 'evergreen_rejections_total{gen_ai_request_model="m",reason="queue_full"} 1.0' in text
        assert 'evergreen_cache_use_ratio{gen_ai_request_model="m"} 0.25' in text
        assert "vllm:kv_cache_usage_perc" in text

    run(scenario)


def test_a_client_that_leaves_cancels_the_generation_and_frees_its_place() -> None:
    async def scenario() -> None:
        vllm = streaming(b"data: {}\n\n")
        async with hooked(vllm, max_running=1, max_queued=1) as hook:
            got = Got()
            running = asyncio.create_task(call(hook, body={**CHAT, "stream": True}, got=got))
            await got.arrived.wait()
            got.leave.set()
            await running
            assert vllm.cancelled == 1
            assert hook.health.admission.running == 0

    run(scenario)


@pytest.mark.parametrize(("pieces", "status"), [([], 504), ([b"data: {}\n\n"], 200)])
def test_the_deadline_ends_a_request(pieces: list[bytes], status: int) -> None:
    async def scenario() -> None:
        vllm = streaming(*pieces)
        async with hooked(vllm) as hook:
            got = await call(hook, body={**CHAT, "stream": True}, attributes="timeout_ms=100")
            assert hook.health.admission.running == 0
        assert got.status == status
        assert (got.error["type"], got.error["code"]) == ("timeout_error", "request_timeout")
        assert vllm.cancelled == 1

    run(scenario)


def test_the_deadline_counts_in_the_queue_too() -> None:
    async def scenario() -> None:
        vllm = streaming(b"data: {}\n\n")
        async with hooked(vllm, max_running=1, max_queued=1) as hook:
            first = Got()
            running = asyncio.create_task(call(hook, body=CHAT, got=first))
            await first.arrived.wait()
            got = await call(hook, body=CHAT, attributes="timeout_ms=50")
            assert (got.status, got.error["code"]) == (504, "request_timeout")
            first.leave.set()
            await running

    run(scenario)


def test_a_fault_inside_is_told_without_its_details(caplog: pytest.LogCaptureFixture) -> None:
    async def behave(request: Request, body: dict[str, Any]) -> Response:
        raise KeyError("secret inside")

    async def scenario() -> None:
        async with hooked(FakeVllm(behave)) as hook:
            got = await call(hook, body=CHAT)
            assert (got.status, got.error["code"]) == (500, "internal_error")
            assert "secret" not in got.error["message"]
            assert (await call(hook, "GET", "/ping")).status == 200

    run(scenario)


HELD = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": {}}}}
TOOL = {"type": "function", "function": {"name": "a", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    ("fields", "healthy", "told"),
    [
        ({"response_format": HELD}, True, (400, "unsupported_schema", "response_format")),
        ({"tools": [TOOL]}, True, (400, "unsupported_schema", "tools")),
        ({"response_format": HELD}, False, (500, "internal_error", None)),
        ({"response_format": {"type": "text"}}, True, (500, "internal_error", None)),
    ],
)
@pytest.mark.parametrize("raises", [True, False])
def test_a_schema_on_which_vllm_fails_is_the_callers(
    fields: dict[str, Any], healthy: bool, told: tuple[int, str, str | None], raises: bool
) -> None:
    async def behave(request: Request, body: dict[str, Any]) -> Response:
        if raises:
            raise TypeError("unhashable type: 'dict'")
        return JSONResponse({"error": {"message": "unhashable type", "code": 500}}, status_code=500)

    async def scenario() -> None:
        vllm = FakeVllm(behave)
        async with hooked(vllm) as hook:
            vllm.healthy = healthy
            got = await call(hook, body=CHAT | fields)
            assert (got.status, got.error["code"], got.error["param"]) == told

    run(scenario)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/invocations", 405), ("POST", "/ping", 405), ("GET", "/nowhere", 404), ("PUT", "/health", 405)],
)
def test_unknown_routes_have_our_error_shape(method: str, path: str, status: int) -> None:
    async def scenario() -> None:
        async with hooked(FakeVllm()) as hook:
            got = await call(hook, method, path)
        assert (got.status, got.error["code"]) == (status, "unknown_route")

    run(scenario)


def test_one_log_line_per_request_without_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    async def scenario() -> None:
        ours = logging.getLogger("model_code")
        ours.handlers.clear()  # a handler of its own, on the stdout that this test reads
        async with hooked(FakeVllm()) as hook:
            await call(hook, body=CHAT, attributes="request_id=r-2")
            await call(hook, body={**CHAT, "temperature": "secret words"}, attributes="request_id=r-3")
        ours.handlers.clear()

    run(scenario)
    output = capsys.readouterr().out
    lines = [json.loads(line) for line in output.splitlines()]
    (answered,) = (line for line in lines if line.get("request_id") == "r-2")
    (refused,) = (line for line in lines if line.get("request_id") == "r-3")
    assert (answered["status"], answered["prompt_tokens"], answered["completion_tokens"]) == (200, 3, 2)
    assert (refused["status"], refused["failure"]) == (400, "invalid_value")
    assert "secret" not in output


def test_log_lines_stay_json_where_the_server_puts_its_name_before_each_line(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As vLLM 0.27 does, by replacing `sys.stdout.write`."""
    written = sys.stdout.write
    monkeypatch.setattr(sys.stdout, "write", lambda text: written(f"(APIServer pid=7) {text}"))

    async def scenario() -> None:
        ours = logging.getLogger("model_code")
        ours.handlers.clear()  # a handler of its own, on the stdout that this test reads
        async with hooked(FakeVllm()) as hook:
            sys.stdout.write("the server's own line\n")
            await call(hook, body=CHAT, attributes="request_id=r-4")
        ours.handlers.clear()

    run(scenario)
    lines = capfd.readouterr().out.splitlines()
    assert [line for line in lines if "own line" in line] == ["(APIServer pid=7) the server's own line"]
    ours = [json.loads(line) for line in lines if "own line" not in line]
    assert "r-4" in [line.get("request_id") for line in ours]
