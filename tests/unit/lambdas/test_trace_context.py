"""Contexts of traces as headers carry them, held against OpenTelemetry's own reading where it has one."""

from __future__ import annotations

import json
import random

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from contracts import container
from contracts.trace_context import TraceContext, read_headers, read_state, read_xray
from lambdas.runtime import logs
from lambdas.runtime.tracing import Sampling

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01"

PARENTS = [
    (GOOD, TraceContext(TRACE, SPAN, True)),
    (f" {GOOD} ", TraceContext(TRACE, SPAN, True)),
    (f"00-{TRACE}-{SPAN}-00", TraceContext(TRACE, SPAN, False)),
    (f"00-{TRACE}-{SPAN}-03", TraceContext(TRACE, SPAN, True)),  # with the flag of a random id
    (f"01-{TRACE}-{SPAN}-01-what-comes", TraceContext(TRACE, SPAN, True)),
    (f"cc-{TRACE}-{SPAN}-01", TraceContext(TRACE, SPAN, True)),
    (f"00-{TRACE}-{SPAN}-01-more", None),
    (f"01-{TRACE}-{SPAN}-01more", None),
    (f"ff-{TRACE}-{SPAN}-01", None),
    (f"00-{'0' * 32}-{SPAN}-01", None),
    (f"00-{TRACE}-{'0' * 16}-01", None),
    (f"00-{TRACE.upper()}-{SPAN}-01", None),
    (f"00-{TRACE[:-1]}-{SPAN}-01", None),
    (f"00-{TRACE}-{SPAN}-1", None),
    (f"00-{TRACE}-{SPAN}", None),
    (f"{GOOD}\n", None),
    ("", None),
    (None, None),
]


@pytest.mark.parametrize(("header", "expected"), PARENTS)
def test_a_valid_parent_is_taken_and_any_other_begins_a_new_trace(
    header: str | None, expected: TraceContext | None
) -> None:
    assert read_headers(header) == expected


@pytest.mark.parametrize(
    ("header", "expected"), [case for case in PARENTS if case[0] and "\n" not in case[0]]
)
def test_opentelemetry_reads_parents_alike(header: str, expected: TraceContext | None) -> None:
    context = TraceContextTextMapPropagator().extract({"traceparent": header})
    found = trace.get_current_span(context).get_span_context()
    if header.startswith("01-") and expected is None:
        return  # it does not look at what follows the flags of a later version
    assert found.is_valid == (expected is not None)
    if expected is not None:
        assert (f"{found.trace_id:032x}", f"{found.span_id:016x}") == (TRACE, SPAN)
        assert found.trace_flags.sampled == expected.is_sampled


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("congo=t61rcWkgMzE,rojo=00f067aa0ba902b7", "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"),
        (" a=1 ,\tb=2,, ", "a=1,b=2"),
        ("fw529a3039@dt=FfAAAAA", "fw529a3039@dt=FfAAAAA"),
        (",".join(f"k{n}=v" for n in range(32)), ",".join(f"k{n}=v" for n in range(32))),
        (",".join(f"k{n}=v" for n in range(33)), ""),
        ("a=1,a=2", ""),
        ("A=1", ""),
        ("a=", ""),
        ("a=b=c", ""),
        ("a=ü", ""),
        ("a", ""),
        ("a=" + "x" * 600, ""),
        ("", ""),
        (None, ""),
    ],
)
def test_a_state_is_taken_whole_or_not_at_all(header: str | None, expected: str) -> None:
    assert read_state(header) == expected
    assert read_headers(GOOD, header) == TraceContext(TRACE, SPAN, True, expected)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (f"Root=1-{TRACE[:8]}-{TRACE[8:]};Parent={SPAN};Sampled=1", TraceContext(TRACE, SPAN, True)),
        (f"Root=1-{TRACE[:8]}-{TRACE[8:]};Parent={SPAN};Sampled=0", TraceContext(TRACE, SPAN, False)),
        (f"Sampled=1; Root=1-{TRACE[:8]}-{TRACE[8:]};Lineage=a:0", TraceContext(TRACE, "", True)),
        (f"Root=1-{TRACE[:8]}-{TRACE[8:]};Parent=nothing", TraceContext(TRACE, "", False)),
        (f"Root=1-{TRACE[:8]},{TRACE[9:]};Parent={SPAN}", None),
        ("Root", None),
        (None, None),
    ],
)
def test_xrays_header_says_the_same_in_another_form(
    header: str | None, expected: TraceContext | None
) -> None:
    assert read_xray(header) == expected


def test_a_state_survives_the_way_through_custom_attributes() -> None:
    state = "congo=t61rcWkgMzE,rojo=a b:c;d"
    text = container.encode_attributes({"tracestate": container.encode_value(state), "request_id": "r"})
    attributes = container.decode_attributes(text)
    assert container.decode_value(attributes["tracestate"]) == state
    assert container.trace_headers({**attributes, "traceparent": GOOD}) == {
        "traceparent": GOOD,
        "tracestate": state,
    }


CALLERS = TraceContext(TRACE, SPAN, True)
XRAYS = TraceContext("5" * 32, "6" * 16, True)
UNSAMPLED = TraceContext(TRACE, SPAN, False)


@pytest.mark.parametrize(
    ("sampling", "callers", "xrays", "sampled"),
    [
        (Sampling(0.0), CALLERS, None, True),
        (Sampling(1.0), UNSAMPLED, XRAYS, False),
        (Sampling(0.0, parent_based=False), CALLERS, None, False),
        (Sampling(1.0, parent_based=False), UNSAMPLED, None, True),
        (Sampling(0.0, follows_xray=True), None, XRAYS, True),
        (Sampling(0.0), None, XRAYS, False),
        (Sampling(1.0), None, None, True),
        (Sampling(0.0), None, None, False),
    ],
)
def test_who_decides_what_is_sampled(
    sampling: Sampling, callers: TraceContext | None, xrays: TraceContext | None, sampled: bool
) -> None:
    decided = sampling.decide(callers, xrays)
    assert decided.is_sampled == sampled
    known = callers or xrays
    if known is not None:
        assert (decided.trace_id, decided.span_id) == (known.trace_id, known.span_id)


def test_the_share_is_what_it_says_and_as_opentelemetry_counts_it() -> None:
    drawn = random.Random(4)
    ids = [f"{drawn.getrandbits(128):032x}" for _ in range(4_000)]

    def sampled(ratio: float) -> set[str]:
        return {
            each for each in ids if Sampling(ratio).decide(None, TraceContext(each, "", False)).is_sampled
        }

    assert len(sampled(0.1)) / len(ids) == pytest.approx(0.1, abs=0.02)
    assert sampled(0.1) < sampled(0.5)  # whoever samples more has all that others have
    theirs = TraceIdRatioBased(0.1)
    counted = sum(theirs.should_sample(None, int(each, 16), "x").decision.is_sampled() for each in ids)
    assert counted / len(ids) == pytest.approx(len(sampled(0.1)) / len(ids), abs=0.03)


def test_log_lines_have_one_form_of_the_trace_id(capsys: pytest.CaptureFixture[str]) -> None:
    for given in (f"Root=1-{TRACE[:8]}-{TRACE[8:]};Parent={SPAN};Sampled=1", TRACE):
        logs.correlate("r-1", given)
        logs.Logger("test").info("told")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["request_id"], line["trace_id"]) for line in lines] == [("r-1", TRACE)] * 2
