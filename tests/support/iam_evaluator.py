"""IAM's answers to questions about policies, by the emulator's evaluator in the cloud's environment.

A process of that environment, because no other has the emulator: it reads this module as a script.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ACCOUNT = "123456789012"


@dataclass(frozen=True)
class Question:
    """May a role do this? `context` are condition keys; those of request and resource tags among them."""

    action: str
    resource: str
    context: Mapping[str, Any] = field(default_factory=dict)


def answers(policies: Sequence[Mapping[str, Any]], questions: Sequence[Question]) -> list[bool]:
    """Whether the policy documents together allow each."""
    from tests.support.emulator import VENVS

    given = {"policies": list(policies), "questions": [asdict(question) for question in questions]}
    done = subprocess.run(
        [VENVS / "cloud" / "bin" / "python", Path(__file__)],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def _evaluate() -> None:
    from ministack.core.iam_evaluator import EvalContext, evaluate, parse_policy_document

    given = json.load(sys.stdin)
    policies = [parse_policy_document(document) for document in given["policies"]]
    found = []
    for question in given["questions"]:
        context = EvalContext(
            principal_arn=f"arn:aws:sts::{ACCOUNT}:assumed-role/r/s",
            principal_type="AssumedRole",
            principal_account=ACCOUNT,
            action=question["action"],
            resource_arn=question["resource"],
            region="us-east-1",
            source_ip="127.0.0.1",
            secure_transport=True,
            service_context={key.lower(): value for key, value in question["context"].items()},
        )
        found.append(evaluate(context, policies).decision == "Allow")
    print(json.dumps(found))


if __name__ == "__main__":
    _evaluate()
