"""What an IAM policy document says about invoking one method: Allow, Deny or nothing.

Serves the policies that authorizers answer with and an API's resource policy. Conditions are refused, not
ignored: a document that has one is an error here, since passing over it could grant what AWS refuses.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal

Decision = Literal["Allow", "Deny", "None"]
INVOKE = "execute-api:Invoke"


class PolicyError(Exception):
    """A policy document that cannot be evaluated; the message says what is wrong with it."""


def decide(document: Any, arn: str) -> Decision:
    """Evaluate a policy document for `execute-api:Invoke` on a method ARN; an explicit Deny wins.

    Raises PolicyError for a document that AWS would not take or that holds conditions.
    """
    if not isinstance(document, Mapping) or "Statement" not in document:
        raise PolicyError("a policy document needs a Statement")
    statements = document["Statement"]
    decision: Decision = "None"
    for statement in [statements] if isinstance(statements, Mapping) else statements:
        effect = _applies(statement, arn)
        if effect == "Deny":
            return "Deny"
        decision = effect or decision
    return decision


def _applies(statement: Any, arn: str) -> Literal["Allow", "Deny"] | None:
    if not isinstance(statement, Mapping) or statement.get("Effect") not in ("Allow", "Deny"):
        raise PolicyError("a statement needs an Effect of Allow or Deny")
    if statement.get("Condition"):
        raise PolicyError("conditions in an authorizer's or API's policy are not offered here")
    action = _covers(statement, "Action", INVOKE, ignore_case=True)
    resource = _covers(statement, "Resource", arn, ignore_case=False)
    return statement["Effect"] if action and resource else None


def _covers(statement: Mapping[str, Any], key: str, value: str, *, ignore_case: bool) -> bool:
    negated = f"Not{key}" in statement
    patterns = statement.get(f"Not{key}" if negated else key)
    texts = [patterns] if isinstance(patterns, str) else patterns
    if not texts or not all(isinstance(text, str) for text in texts):
        raise PolicyError(f"a statement needs {key} as text or a list of texts")
    return any(_pattern(text, ignore_case).match(value) for text in texts) != negated


@lru_cache(maxsize=1024)
def _pattern(text: str, ignore_case: bool) -> re.Pattern[str]:
    escaped = text.replace("[", "[[]")  # IAM knows only * and ?
    return re.compile(fnmatch.translate(escaped), re.IGNORECASE if ignore_case else 0)
