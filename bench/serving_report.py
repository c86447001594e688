"""From turns to figures: medians over rounds, ratios within a round, shares of the machine's limit.

Knows nothing of how turns are made. Latencies in milliseconds, rates per second.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.common import spread
from bench.serving_load import RequestTiming
from bench.serving_systems import LoadResult


@dataclass(frozen=True)
class Sample:
    """A turn in its place: which system, how many clients, which round."""

    system: str
    clients: int
    round: int
    turn: LoadResult


@dataclass(frozen=True)
class Objective:
    """What a user is content with."""

    first_ms: float
    per_token_ms: float

    def met_by(self, answer: RequestTiming) -> bool:
        """Whether this answer was fast enough; a failed one never is."""
        return (
            not answer.failure
            and 1000 * answer.first <= self.first_ms
            and 1000 * answer.per_token <= self.per_token_ms
        )


def percentiles(values: Iterable[float]) -> dict[str, float]:
    """p50, p95 and p99: the nearest value at or above."""
    ordered = sorted(values)
    if not ordered:
        return {}
    place = {name: min(len(ordered) - 1, int(share * len(ordered))) for name, share in _SHARES.items()}
    return {name: round(ordered[index], 2) for name, index in place.items()}


_SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def latencies(answers: Sequence[RequestTiming], objective: Objective, seconds: float) -> dict[str, Any]:
    """TTFT, TPOT and whole latency of the answered, and goodput of all."""
    answered = [answer for answer in answers if not answer.failure]
    content = sum(objective.met_by(answer) for answer in answers)
    failures = [answer.failure for answer in answers if answer.failure]
    return {
        "requests": len(answers),
        "failures": len(failures),
        "first_failure": failures[0] if failures else "",
        "ttft_ms": percentiles(1000 * answer.first for answer in answered),
        "tpot_ms": percentiles(1000 * answer.per_token for answer in answered if answer.tokens > 1),
        "latency_ms": percentiles(1000 * answer.last for answer in answered),
        "goodput_share": round(content / len(answers), 4) if answers else 0.0,
        "goodput_per_second": round(content / seconds, 3),
    }


def closed_figures(samples: Sequence[Sample], objective: Objective) -> list[dict[str, Any]]:
    """One row per system and level."""
    rows = []
    for system, clients in dict.fromkeys((sample.system, sample.clients) for sample in samples):
        own = [sample.turn for sample in samples if (sample.system, sample.clients) == (system, clients)]
        answers = [answer for turn in own for answer in turn.answers]
        seconds = sum(turn.seconds for turn in own)
        row: dict[str, Any] = {"system": system, "clients": clients, "rounds": len(own)}
        row["tokens_per_second"] = {k: round(v, 2) for k, v in spread(turn.rate for turn in own).items()}
        rows.append(row | latencies(answers, objective, seconds))
    return rows


def ratios(samples: Sequence[Sample], ours: str, peer: str) -> list[dict[str, Any]]:
    """HandlerServer over the peer's rate in the same round, by level."""
    rates = {(sample.system, sample.clients, sample.round): sample.turn.rate for sample in samples}
    rows = []
    for clients in sorted({sample.clients for sample in samples}):
        paired = [
            rate / rates[peer, clients, number]
            for (system, level, number), rate in rates.items()
            if (system, level) == (ours, clients) and rates.get((peer, clients, number))
        ]
        if paired:
            figures = {key: round(value, 3) for key, value in spread(paired).items()}
            rows.append({"ours": ours, "peer": peer, "clients": clients, "rounds": len(paired), **figures})
    return rows


def model_size(folder: Path) -> dict[str, int]:
    """Parameters that one token is multiplied with, from the headers of the safetensors files.

    An embedding that is not also the output layer is looked up, not multiplied, and left out.
    """
    shapes: dict[str, list[int]] = {}
    for file in folder.glob("*.safetensors"):
        with file.open("rb") as content:
            header = json.loads(content.read(int.from_bytes(content.read(8), "little")))
        shapes |= {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}
    untied = any(name.startswith("lm_head") for name in shapes)
    counted = 0
    for name, shape in shapes.items():
        if untied and "embed_tokens" in name:
            continue
        size = 1
        for side in shape:
            size *= side
        counted += size
    return {"parameters": counted}


def shares(
    rows: Sequence[dict[str, Any]], limits: dict[str, float], parameters: int, weight_bytes: dict[str, int]
) -> None:
    """Add to each row its share of what the machine could do at most.

    One client: every token reads all weights once (bandwidth; `weight_bytes` per system). Several: two
    operations per parameter and token, at the fastest matrix product that was measured.
    """
    fastest = max(value for name, value in limits.items() if name.startswith("gemm_"))
    by_compute = fastest * 1e9 / (2 * parameters)
    for row in rows:
        rate = row["tokens_per_second"]["median"]
        size = weight_bytes.get(row["system"])
        if row["clients"] == 1:
            if size:
                by_memory = limits["read_gigabytes_per_second"] * 1e9 / size
                row["share_of_bandwidth"] = round(rate / by_memory, 3)
        else:
            row["share_of_gemm"] = round(rate / by_compute, 3)


def closed_table(rows: Sequence[dict[str, Any]], starts: dict[str, dict[str, float]]) -> str:
    """Markdown: tokens per second, TTFT and the share of the limit by system and level."""
    levels = sorted({row["clients"] for row in rows})
    cells = {(row["system"], row["clients"]): row for row in rows}
    lines = [
        "| tokens/s (TTFT p95 ms) | start s | peak MB | " + " | ".join(map(str, levels)) + " |",
        "|---|--:|--:|" + "--:|" * len(levels),
    ]
    for system in dict.fromkeys(row["system"] for row in rows):
        own = [_cell(cells.get((system, level))) for level in levels]
        start = starts[system]
        lines.append(
            f"| {system} | {start['start_s']:.1f} | {start['peak_mb']:.0f} | " + " | ".join(own) + " |"
        )
    return "\n".join(lines)


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    failed = f", {row['failures']} failed" if row["failures"] else ""
    return f"{row['tokens_per_second']['median']:.0f} ({row['ttft_ms'].get('p95', 0):.0f}{failed})"


def share_table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: how near each system comes to the machine's limit."""
    levels = sorted({row["clients"] for row in rows})
    lines = [
        "| share of the limit | " + " | ".join(map(str, levels)) + " |",
        "|---|" + "--:|" * len(levels),
    ]
    for system in dict.fromkeys(row["system"] for row in rows):
        own = {row["clients"]: row for row in rows if row["system"] == system}
        figures = [own.get(level, {}) for level in levels]
        values = [figure.get("share_of_bandwidth", figure.get("share_of_gemm")) for figure in figures]
        told = ["" if value is None else f"{100 * value:.0f} %" for value in values]
        lines.append(f"| {system} | " + " | ".join(told) + " |")
    return "\n".join(lines)


def ratio_table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: paired ratios with their range over rounds."""
    levels = sorted({row["clients"] for row in rows})
    lines = [
        "| median ratio (range over rounds) | " + " | ".join(map(str, levels)) + " |",
        "|---|" + "--:|" * len(levels),
    ]
    for ours, peer in dict.fromkeys((row["ours"], row["peer"]) for row in rows):
        own = {row["clients"]: row for row in rows if (row["ours"], row["peer"]) == (ours, peer)}
        told = [
            f"{own[level]['median']:.2f} ({own[level]['low']:.2f}–{own[level]['high']:.2f})"
            if level in own
            else ""
            for level in levels
        ]
        lines.append(f"| {ours} ÷ {peer} | " + " | ".join(told) + " |")
    return "\n".join(lines)


def open_table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: what users felt when requests came at their own times."""
    lines = [
        "| arrivals | system | requests/s | tokens/s | TTFT p50 / p95 / p99 ms | TPOT p50 / p95 ms "
        "| goodput |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        first, per_token = row["ttft_ms"], row["tpot_ms"]
        told = " / ".join(f"{first.get(name, 0):.0f}" for name in _SHARES)
        step = f"{per_token.get('p50', 0):.1f} / {per_token.get('p95', 0):.1f}"
        failed = f", {row['failures']} failed" if row["failures"] else ""
        lines.append(
            f"| {row['arrivals']} | {row['system']} | {row['requests_per_second']:.2f} "
            f"| {row['tokens_per_second']:.0f} | {told} | {step} "
            f"| {100 * row['goodput_share']:.0f} %{failed} |"
        )
    return "\n".join(lines)
