"""Spans of real requests through the pipeline, received over HTTP and read by OpenTelemetry's own schema."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.semconv import attributes as stable_attributes
from opentelemetry.semconv._incubating import attributes as new_attributes

from contracts import container, metrics
from contracts.guards import GuardSettings
from contracts.tracing import OtlpTracing, TracingTarget, XRayTracing
from lambdas.aws.otlp import MOST_WAITING, span_exporter
from lambdas.aws.secrets import SecretError
from lambdas.pipeline.environment import InferenceEnvironment
from tests.support import otlp_receiver
from tests.support.fake_model_endpoint import Reply, chat_events, cut
from tests.support.front_door import SETTINGS, Door, chat, emitted
from tests.support.otlp_receiver import Receiver, attributes

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "congo=t61rcWkgMzE,rojo=1"}
RESOURCE = {"service.name": "evergreen-test", "cloud.provider": "aws"}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with otlp_receiver.running() as running:
        yield running


@pytest.fixture
def traced(make_door: Callable[..., Door], receiver: Receiver) -> Callable[..., Door]:
    """A door whose spans go to the receiver."""

    def make(target: TracingTarget | None = None, **settings: Any) -> Door:
        found = target or OtlpTracing(kind="otlp", url=f"{receiver.url}/v1/traces", sample_ratio=1)
        changed = SETTINGS.model_copy(update={"tracing": found, **settings})
        return make_door(changed, exporter=span_exporter(found, RESOURCE))

    return make


def by_name(receiver: Receiver) -> dict[str, Span]:
    spans = receiver.spans()
    assert len({span.name for span in spans}) == len(spans), [span.name for span in spans]
    return {span.name: span for span in spans}


@pytest.mark.parametrize("stream", [True, False])
def test_one_request_is_a_tree_below_its_callers_span(
    traced: Callable[..., Door], receiver: Receiver, stream: bool
) -> None:
    door = traced(guards=GuardSettings(mask_pii=True))
    door.ask(chat("I am ann@example.com", stream=stream), headers=PARENT)
    spans = by_name(receiver)
    assert set(spans) == {
        "POST /v1/chat/completions", "guard prompt", "chat smollm2", "guard answer",
    }  # fmt: skip
    root = spans.pop("POST /v1/chat/completions")
    assert {span.trace_id.hex() for span in (root, *spans.values())} == {TRACE}
    assert {span.trace_state for span in (root, *spans.values())} == {PARENT["tracestate"]}
    assert root.parent_span_id.hex() == SPAN
    assert root.kind == Span.SPAN_KIND_SERVER
    for span in spans.values():
        assert span.parent_span_id == root.span_id
        assert root.start_time_unix_nano <= span.start_time_unix_nano
        assert span.start_time_unix_nano <= span.end_time_unix_nano <= root.end_time_unix_nano
    call = spans["chat smollm2"]
    assert call.kind == Span.SPAN_KIND_CLIENT
    said = attributes(call)
    first = said.pop("gen_ai.response.time_to_first_chunk")
    assert 0 < first <= (call.end_time_unix_nano - call.start_time_unix_nano) / 1e9
    assert said == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "aws.sagemaker",
        "gen_ai.request.model": "smollm2",
        **({"gen_ai.request.stream": True} if stream else {}),
        "gen_ai.response.id": "chatcmpl-req-1",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 3,
        "evergreen.variant": "champion",
        "evergreen.model_version": "v1",
    }
    assert attributes(root) == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "evergreen.request_id": "req-1",
        "evergreen.guard.findings": ["pii:email:mask"],
    }
    (request,) = receiver.requests()
    assert attributes(request.resource_spans[0].resource) == RESOURCE
    path, headers, body = receiver.calls[0]
    assert (path, headers["content-type"]) == ("/v1/traces", "application/json")
    assert b"ann@example.com" not in body
    assert b"Hel" not in body


def test_the_container_hears_of_the_call_as_its_parent(
    traced: Callable[..., Door], receiver: Receiver
) -> None:
    door = traced()
    door.ask(chat(), headers=PARENT)
    sent = container.decode_attributes(door.sagemaker.calls[0][0]["x-amzn-sagemaker-custom-attributes"])
    call = by_name(receiver)["chat smollm2"]
    assert sent["traceparent"] == f"00-{TRACE}-{call.span_id.hex()}-01"
    assert container.decode_value(sent["tracestate"]) == PARENT["tracestate"]


def test_a_repeated_call_has_a_span_of_its_own(traced: Callable[..., Door], receiver: Receiver) -> None:
    door = traced()
    door.sagemaker.replies = [
        Reply(status=500, error=("InternalFailure", {"message": "no"})),
        Reply(parts=cut(chat_events("Hel", "lo"), 50)),
    ]
    door.ask(chat())
    failed, answered = [span for span in receiver.spans() if span.kind == Span.SPAN_KIND_CLIENT]
    assert failed.status.code == Status.STATUS_CODE_ERROR
    assert attributes(failed)["error.type"] == "model_unavailable"
    assert "gen_ai.usage.output_tokens" not in attributes(failed)
    assert answered.status.code == Status.STATUS_CODE_UNSET
    assert failed.end_time_unix_nano <= answered.start_time_unix_nano


@pytest.mark.parametrize(
    ("ratio", "headers", "sent"),
    [
        (0.0, {}, False),
        (1.0, {}, True),
        (1.0, {"traceparent": f"00-{TRACE}-{SPAN}-00"}, False),
        (0.0, {"traceparent": f"00-{TRACE}-{SPAN}-01"}, True),
        (0.0, {"traceparent": f"00-{TRACE}-{SPAN}-01-no"}, False),
    ],
)
def test_what_is_not_sampled_sends_nothing(
    traced: Callable[..., Door], receiver: Receiver, ratio: float, headers: dict[str, str], sent: bool
) -> None:
    door = traced(OtlpTracing(kind="otlp", url=f"{receiver.url}/v1/traces", sample_ratio=ratio))
    reply, _ = door.ask(chat(), headers=headers)
    assert reply.status == 200
    assert bool(receiver.calls) == sent
    passed_on = container.decode_attributes(door.sagemaker.calls[0][0]["x-amzn-sagemaker-custom-attributes"])
    assert passed_on["traceparent"].endswith("-01" if sent else "-00")


@pytest.mark.parametrize(
    ("body", "name", "status", "is_error"),
    [
        ({"model": "nobody", "messages": []}, "POST /v1/chat/completions", 400, False),
        (chat(), "POST /v1/chat/completions", 503, True),
    ],
)
def test_a_refusal_is_an_error_where_it_is_ours(
    traced: Callable[..., Door],
    receiver: Receiver,
    body: dict[str, Any],
    name: str,
    status: int,
    is_error: bool,
) -> None:
    door = traced()
    door.sagemaker.replies = [Reply(status=503, error=("ServiceUnavailable", {"message": "no"}))]
    reply, _ = door.ask(body)
    root = next(span for span in receiver.spans() if span.kind == Span.SPAN_KIND_SERVER)
    assert (root.name, reply.status, attributes(root)["http.response.status_code"]) == (name, status, status)
    assert (root.status.code == Status.STATUS_CODE_ERROR) == is_error


def test_a_path_that_is_none_is_no_name(traced: Callable[..., Door], receiver: Receiver) -> None:
    traced().ask(chat(), route="/v1/secret-of-ann")
    assert b"secret-of-ann" not in receiver.calls[0][2]


def test_every_name_of_the_conventions_is_one(traced: Callable[..., Door], receiver: Receiver) -> None:
    door = traced(guards=GuardSettings(mask_pii=True))
    door.ask(chat("I am ann@example.com", stream=True))
    used = {name for span in receiver.spans() for name in attributes(span)}
    known = _registered("gen_ai", "http", "error")
    own = {name for name in used if name.startswith("evergreen.")}
    assert used - own - known == set()


def _registered(*groups: str) -> set[str]:
    """Names in OpenTelemetry's registry, as its package has them."""
    import importlib

    found: set[str] = set()
    for package in (stable_attributes, new_attributes):
        for group in groups:
            try:
                module = importlib.import_module(f"{package.__name__}.{group}_attributes")
            except ModuleNotFoundError:
                continue
            found |= {value for value in vars(module).values() if isinstance(value, str)}
    return found


def test_a_collector_that_fails_costs_no_request_and_gets_the_spans_later(
    traced: Callable[..., Door], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.statuses = [503, 200]
    target = OtlpTracing(kind="otlp", url=f"{receiver.url}/v1/traces", sample_ratio=1)
    now = [0.0]
    exporter = span_exporter(target, RESOURCE)
    exporter._clock = lambda: now[0]
    door = traced(target)
    door.service._stages.export_spans._exporter = exporter
    for _ in range(2):
        assert door.ask(chat())[0].status == 200
    assert len(receiver.calls) == 1  # the second request leaves the collector alone
    now[0] = 11.0
    door.ask(chat())
    assert len(receiver.requests()[1].resource_spans[0].scope_spans[0].spans) == 6


@pytest.mark.parametrize(
    ("statuses", "answer", "lost"),
    [
        ([400], {}, 2),
        ([200], {"partialSuccess": {"rejectedSpans": "1"}}, 1),
        ([200], {"partialSuccess": {}}, 0),
        ([503], {}, 0),
    ],
)
def test_what_is_lost_is_counted(
    traced: Callable[..., Door],
    receiver: Receiver,
    capsys: pytest.CaptureFixture[str],
    statuses: list[int],
    answer: dict[str, Any],
    lost: int,
) -> None:
    receiver.statuses, receiver.answer = statuses, answer
    assert traced().ask(chat())[0].status == 200
    lines = emitted(capsys.readouterr().out, metrics.SPANS_LOST)
    assert [line[metrics.SPANS_LOST] for line in lines] == ([lost] if lost else [])


def test_what_waits_is_bounded_and_the_oldest_goes(
    traced: Callable[..., Door], capsys: pytest.CaptureFixture[str]
) -> None:
    door = traced(OtlpTracing(kind="otlp", url="http://127.0.0.1:1/v1/traces", sample_ratio=1))
    requests = MOST_WAITING // 2 + 3
    for _ in range(requests):
        assert door.ask(chat())[0].status == 200
    lost = sum(line[metrics.SPANS_LOST] for line in emitted(capsys.readouterr().out, metrics.SPANS_LOST))
    assert lost == 2 * requests - MOST_WAITING


def test_xray_is_asked_with_a_signature(
    traced: Callable[..., Door], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_XRAY", receiver.url)
    traced(XRayTracing(kind="xray", sample_ratio=1)).ask(chat())
    path, headers, _ = receiver.calls[0]
    assert path == "/v1/traces"
    assert "/us-east-1/xray/aws4_request, SignedHeaders=content-type;host;" in headers["authorization"]


class Secrets:
    """A source that tells one secret after the other."""

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)

    def read(self, name: str) -> str:
        assert name == "evergreen/test/tracing"
        if not self.texts:
            raise SecretError("AccessDeniedException")
        return self.texts.pop(0)


@pytest.mark.parametrize(
    ("secrets", "statuses", "sent"),
    [
        (["k1"], [200], ["k1"]),
        (["k1", "k2"], [401, 200], ["k1"]),  # not read again at once: a wrong key costs no calls
        ([], [200], []),
    ],
)
def test_a_collectors_secret_stands_in_its_header_and_costs_no_request(
    make_door: Callable[..., Door],
    receiver: Receiver,
    secrets: list[str],
    statuses: list[int],
    sent: list[str],
) -> None:
    receiver.statuses = statuses
    target = OtlpTracing(
        kind="otlp",
        url=f"{receiver.url}/v1/traces",
        sample_ratio=1,
        secret="evergreen/test/tracing",
        secret_header="x-team-key",
    )
    exporter = span_exporter(target, RESOURCE, Secrets(*secrets))
    door = make_door(SETTINGS.model_copy(update={"tracing": target}), exporter=exporter)
    assert door.ask(chat())[0].status == 200
    assert [headers["x-team-key"] for _, headers, _ in receiver.calls] == sent


@pytest.mark.parametrize(
    ("url", "fits"),
    [
        ("https://collector.example.com/v1/traces", True),
        ("http://127.0.0.1:4318/v1/traces", True),
        ("http://collector.example.com/v1/traces", False),
        ("https://collector.example.com", False),
        ("https://ann:pw@collector.example.com/v1/traces", False),
        ("https://collector.example.com/v1/traces?key=1", False),
    ],
)
def test_a_collectors_address_is_checked(url: str, fits: bool) -> None:
    text = json.dumps({"kind": "otlp", "url": url})
    variables = {
        **SETTINGS.model_dump(exclude={"tracing", "guards", "fallbacks", "cors_origins"}),
        "tracing": text,
    }
    named = {name.upper(): str(value) for name, value in variables.items() if value is not None}
    if fits:
        assert InferenceEnvironment.model_validate(named).tracing == OtlpTracing(kind="otlp", url=url)
    else:
        with pytest.raises(ValueError, match="https"):
            InferenceEnvironment.model_validate(named)
