"""The serving bench's arithmetic, its load generator against a small server, and its picture."""

from __future__ import annotations

import asyncio
import itertools
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from bench import serving_report as report
from bench.serving_load import (
    RequestTiming,
    ScheduledRequest,
    ServerTarget,
    closed_loop,
    open_loop,
    poisson,
    trace,
)
from bench.serving_plot import draw
from bench.serving_systems import LoadResult

OBJECTIVE = report.Objective(first_ms=100, per_token_ms=10)


def sample(system: str, clients: int, number: int, rate: float) -> report.Sample:
    """A turn of ten tokens at a rate."""
    return report.Sample(system, clients, number, LoadResult(10 / rate, [RequestTiming(0.05, 10 / rate, 10)]))


def test_ratios_are_taken_within_a_round() -> None:
    """Given a round in which the machine was busy, the ratio is what it was in the others."""
    samples = [sample("a", 4, 0, 100), sample("b", 4, 0, 50), sample("a", 4, 1, 10), sample("b", 4, 1, 5)]

    (row,) = report.ratios(samples, "a", "b")

    assert (row["median"], row["low"], row["high"], row["rounds"]) == (2.0, 2.0, 2.0, 2)


def test_a_level_that_the_peer_did_not_run_has_no_ratio() -> None:
    assert report.ratios([sample("a", 64, 0, 10), sample("b", 4, 0, 10)], "a", "b") == []


def test_goodput_counts_answers_within_both_bounds_and_no_failure() -> None:
    answers = [
        RequestTiming(0.05, 0.1, 10),
        RequestTiming(0.2, 0.25, 10),  # late to start
        RequestTiming(0.05, 1.0, 10),  # slow to go on
        RequestTiming(0.01, 0.01, 0, "OSError"),
    ]

    row = report.latencies(answers, OBJECTIVE, seconds=2.0)

    assert (row["goodput_share"], row["goodput_per_second"], row["failures"]) == (0.25, 0.5, 1)


def test_percentiles_are_values_that_occurred() -> None:
    assert report.percentiles(range(100)) == {"p50": 50, "p95": 95, "p99": 99}
    assert report.percentiles([]) == {}


def test_one_client_is_bound_by_memory_and_many_by_multiplication() -> None:
    rows = report.closed_figures([sample("a", 1, 0, 5.0), sample("a", 32, 0, 50.0)], OBJECTIVE)
    limits = {"read_gigabytes_per_second": 10.0, "gemm_float32": 100.0, "gemm_int8": 200.0}

    report.shares(rows, limits, parameters=10**9, weight_bytes={"a": 10**9})

    assert rows[0]["share_of_bandwidth"] == 0.5  # 10 tokens/s is all that 10 GB/s can read
    assert rows[1]["share_of_gemm"] == 0.5  # 100 tokens/s is all that 2·10¹¹ operations/s can multiply


def test_an_embedding_that_is_only_looked_up_is_not_multiplied(tmp_path: Path) -> None:
    def write(shapes: dict[str, list[int]]) -> None:
        header = json.dumps({name: {"shape": shape} for name, shape in shapes.items()}).encode()
        (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)

    write({"model.embed_tokens.weight": [10, 4], "layer": [4, 4]})
    assert report.model_size(tmp_path) == {"parameters": 56}
    write({"model.embed_tokens.weight": [10, 4], "layer": [4, 4], "lm_head.weight": [10, 4]})
    assert report.model_size(tmp_path) == {"parameters": 56}


def test_poisson_arrivals_keep_their_rate_and_repeat() -> None:
    asks = poisson(rate=50, seconds=20, tokens=8, seed=3)

    assert asks == poisson(rate=50, seconds=20, tokens=8, seed=3)
    assert abs(len(asks) - 1000) < 150
    assert all(first.due <= second.due for first, second in itertools.pairwise(asks))


def test_a_trace_is_stretched_to_the_rate_and_cut_to_the_machine(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    rows = [{"t": 10 + number, "prompt_tokens": 40_000, "output_tokens": 900} for number in range(40)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))

    asks = trace(file, tokens_per_second=2 * (512 + 96), seconds=10)

    assert len(asks) == 20
    assert (asks[0].due, asks[-1].due) == (0, 10)
    assert asks[0].tokens == 96
    assert len(asks[0].text) < 4000
    with pytest.raises(ValueError, match="too few"):
        trace(file, tokens_per_second=100 * (512 + 96), seconds=10)


STREAM = [
    b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n',
    b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n',
    b'data: {"choices":[{"delta":{"content":"b"}}]}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}\n\n',
    b"data: [DONE]\n\n",
]


async def serve(pieces: list[bytes], status: str = "200 OK") -> asyncio.Server:
    """A server that answers everything with these pieces, chunked, a moment apart."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        json.loads(await reader.readexactly(length))
        writer.write(f"HTTP/1.1 {status}\r\ntransfer-encoding: chunked\r\n\r\n".encode())
        for piece in pieces:
            writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            await writer.drain()
            await asyncio.sleep(0.02)
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        writer.close()

    return await asyncio.start_server(answer, "127.0.0.1", 0)


def measured(pieces: list[bytes], status: str = "200 OK") -> list[RequestTiming]:
    async def scenario() -> list[RequestTiming]:
        server = await serve(pieces, status)
        async with server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            _, answers = await closed_loop(ServerTarget(url, "/x", "m"), clients=2, tokens=2)
            return answers

    return asyncio.run(scenario())


def test_the_load_generator_times_the_first_text_and_believes_the_servers_count() -> None:
    for answer in measured(STREAM):
        assert answer.failure == ""
        assert answer.tokens == 2
        assert 0.015 < answer.first < answer.last  # the opening event holds no text


def test_without_a_count_the_events_are_counted() -> None:
    assert {answer.tokens for answer in measured([*STREAM[:3], STREAM[4]])} == {2}


def test_a_stream_that_breaks_off_is_a_failure() -> None:
    assert all("broke off" in answer.failure for answer in measured(STREAM[:2]))


def test_a_refusal_is_a_failure() -> None:
    assert all("503" in answer.failure for answer in measured([b'{"error": {}}'], "503 Service Unavailable"))


def test_latency_counts_from_when_a_request_was_due() -> None:
    async def scenario() -> tuple[float, list[RequestTiming]]:
        server = await serve(STREAM)
        async with server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            asks = [ScheduledRequest(0.0, "a", 2), ScheduledRequest(0.2, "b", 2)]
            return await open_loop(ServerTarget(url, "/x", "m"), asks)

    seconds, answers = asyncio.run(scenario())
    assert seconds > 0.2
    assert [answer.failure for answer in answers] == ["", ""]
    assert answers[1].last < seconds - 0.15


def test_the_picture_is_well_formed_and_names_every_system() -> None:
    samples = [sample(name, level, 0, 10.0 * level) for name in ("a & b", "c") for level in (1, 4, 16)]

    picture = draw(report.closed_figures(samples, OBJECTIVE), "Title <1>", "note")

    texts = [
        element.text for element in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")
    ]
    assert {"a & b", "c", "Title <1>"} <= set(texts)
