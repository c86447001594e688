"""Says why a deployment or the endpoint failed, with the lines that show it and what to do next.

    python -m operations why --env prod
    python -m operations why --env prod --json

Reads stack events, the endpoint, its containers' last lines, alarms, the artefact, quotas and the image.
Changes nothing. Exit status 0 where nothing failed, 3 where something did, 1 where it could not be told.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from operations.diagnosis.causes import Diagnosis, diagnose
from operations.diagnosis.collection import collect
from operations.diagnosis.evidence import Evidence, Findings
from operations.laptop import home
from operations.target import open_target, run

FAILED = 3
_WIDEST = 400


def report(findings: Findings, diagnoses: Sequence[Diagnosis], env: str) -> str:
    """The answer for a person."""
    if not findings.failures:
        return "\n".join([f"Nothing failed in {env}.", *_unread(findings)])
    lines = ["What failed:", *(f"  {failure}" for failure in findings.failures), ""]
    if not diagnoses:
        lines += ["No known cause. What was said last:", *_shown(findings.evidence[-8:])]
        return "\n".join([*lines, *_unread(findings)])
    first, *others = diagnoses
    lines += [f"Most likely: {first.cause.title} ({first.cause.name})", *_shown(first.lines)]
    lines += ["", f"Next: {first.cause.next_step.format(env=env)}"]
    if others:
        lines += ["", "Also seen:", *(f"  {other.cause.title} ({other.cause.name})" for other in others)]
    return "\n".join([*lines, *_unread(findings)])


def as_json(findings: Findings, diagnoses: Sequence[Diagnosis], env: str) -> str:
    """The answer for a program: failures, causes with their evidence in order of likelihood."""
    causes = [
        {
            "name": diagnosis.cause.name,
            "title": diagnosis.cause.title,
            "next_step": diagnosis.cause.next_step.format(env=env),
            "evidence": [
                {"source": line.source.value, "subject": line.subject, "text": line.text}
                for line in diagnosis.lines
            ],
        }
        for diagnosis in diagnoses
    ]
    answer = {"failures": findings.failures, "causes": causes, "unread": findings.unread}
    return json.dumps(answer, indent=2)


def _shown(lines: Sequence[Evidence]) -> list[str]:
    shown = []
    for line in lines:
        text = line.text if len(line.text) <= _WIDEST else line.text[: _WIDEST - 1] + "…"
        at = f" {line.at:%H:%M:%S}" if line.at else ""
        about = f" {line.subject}" if line.subject else ""
        shown.append(f"  {line.source.value}{at}{about}: {text}")
    return shown


def _unread(findings: Findings) -> list[str]:
    return [f"  (not looked at: {entry})" for entry in findings.unread]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m operations why", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--env", required=True, help="name of the settings file")
    parser.add_argument("--json", action="store_true", help="answer as JSON")
    parser.add_argument("--logs", type=Path, default=home() / "logs", help="deploy's logs")
    options = parser.parse_args(arguments)

    def work() -> int:
        target = open_target(options.env)
        findings = collect(target, options.logs)
        diagnoses = diagnose(findings.evidence) if findings.failures else []
        print((as_json if options.json else report)(findings, diagnoses, options.env))
        return FAILED if findings.failures else 0

    return run(work)
