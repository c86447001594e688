"""The report as one HTML page: verdict first, then the evidence. No script, no outside resource.

Every text that came from data is escaped; prompts and answers are untrusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files

from contracts.report import EvaluationReport
from evaluation.report.sections import (
    criteria_section,
    examples_section,
    items_section,
    method_section,
    metrics_section,
    slices_section,
    timing_section,
)

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_OUTCOMES = {"promote": "Promote", "roll_back": "Roll back", "inconclusive": "Inconclusive"}


def render(report: EvaluationReport) -> str:
    """The whole page as text."""
    style = files("evaluation.report").joinpath("style.css").read_text(encoding="utf-8")
    sections: Sequence[str] = [
        criteria_section(report),
        metrics_section(report),
        items_section(report),
        slices_section(report),
        timing_section(report),
        examples_section(report),
        method_section(report),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(report.title)}</title><style>\n{style}</style></head>\n"
        f"<body><main>{_verdict(report)}{''.join(sections)}</main></body></html>\n"
    )


def _verdict(report: EvaluationReport) -> str:
    outcome = report.decision.outcome if report.decision else ""
    sentence, badge = report.headline, ""
    if outcome:
        badge = f'<span class="badge">{_OUTCOMES[outcome]}</span>'
        sentence = sentence.removeprefix(f"{_OUTCOMES[outcome]}: ")
        sentence = sentence[0].upper() + sentence[1:]
    names = " → ".join(escape(system.name) for system in report.systems)
    errors = ", ".join(f"{escape(system.name)} {system.errors}" for system in report.systems)
    cut = ", ".join(
        f"{escape(system.name)} {100 * system.cut_share:.3g} %"
        for system in report.systems
        if system.cut_share is not None
    )
    groups = f" in {report.dataset.groups:,} groups" if report.dataset.groups else ""
    facts = {
        "Systems": names,
        "Data": f"{escape(report.dataset.name)}, {report.dataset.items:,} items{groups}",
        "Without an answer": errors,
        **({"Cut at the limit": cut} if cut else {}),
        "Made": report.created_at.strftime("%Y-%m-%d %H:%M UTC"),
    }
    rows = "".join(f"<li><span class=soft>{name}</span> <b>{value}</b></li>" for name, value in facts.items())
    return (
        f"<h1>{escape(report.title)}</h1>"
        f'<section class="verdict {outcome}" aria-label="Verdict">{badge}<p>{escape(sentence)}</p></section>'
        f'<ul class="facts">{rows}</ul>'
    )
