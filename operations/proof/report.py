"""The proof's record: steps with their times, what they showed, what they cost. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Outcome = Literal["passed", "failed", "skipped"]


@dataclass
class StepRecord:
    """One step; `fleets` is how many fleets of instances ran during it, `log` the file of its output."""

    name: str
    outcome: Outcome
    seconds: float
    note: str = ""
    fleets: float = 0
    log: str = ""
    details: dict[str, Any] = field(default_factory=dict)


@dataclass
class Proof:
    """All of it. `usd_per_fleet_hour` is None where a price is not known."""

    env: str
    account: str
    region: str
    commit: str
    started_at: datetime
    instances: str
    usd_per_fleet_hour: float | None
    steps: list[StepRecord] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether no step failed."""
        return bool(self.steps) and all(step.outcome != "failed" for step in self.steps)

    @property
    def usd(self) -> float | None:
        """What the endpoint's instances cost."""
        if self.usd_per_fleet_hour is None:
            return None
        hours = sum(step.seconds * step.fleets for step in self.steps) / 3600
        return hours * self.usd_per_fleet_hour


_WIDEST_CELL = 160
_SIGNS: dict[Outcome, str] = {"passed": "✓", "failed": "✗", "skipped": "–"}


def markdown(proof: Proof) -> str:
    """The report as a Markdown page."""
    seconds = sum(step.seconds for step in proof.steps)
    cost = "unknown" if proof.usd is None else f"{proof.usd:.2f} USD"
    lines = [
        f"# Proof of {proof.env}: {'passed' if proof.passed else 'failed'}",
        "",
        f"{proof.started_at:%Y-%m-%d %H:%M} UTC · account {proof.account} · {proof.region} · "
        f"commit {proof.commit}",
        "",
        f"Took {seconds / 60:.0f} minutes. The endpoint's instances ({proof.instances}) cost about {cost}, "
        "counting two fleets while an update runs; functions, storage, keys and logs come on top.",
        "",
        "| step | | seconds | what it showed | log |",
        "|---|---|---:|---|---|",
    ]
    lines += [
        f"| {step.name} | {_SIGNS[step.outcome]} {step.outcome} | {step.seconds:.0f} | {_cell(step.note)} | "
        f"{step.log} |"
        for step in proof.steps
    ]
    for step in proof.steps:
        if step.details:
            lines += ["", f"## {step.name}", "", *_fenced(step.details)]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    flat = " ".join(text.split()).replace("|", "\\|")
    return flat if len(flat) <= _WIDEST_CELL else f"{flat[: _WIDEST_CELL - 1]}…"


def _fenced(details: dict[str, Any]) -> Sequence[str]:
    return ["```json", json.dumps(details, indent=2, ensure_ascii=False), "```"]
