"""One function for each validator: templates in, findings out. Each raises ToolError if it could not look."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cfnlint.api import ManualArgs, lint

from local.environments import VALIDATORS, VALIDATORS_NODE
from tests.support.emulator import VENVS
from tests.support.laptop import REPOSITORY
from tests.validation.findings import Finding
from tests.validation.templates import Template, policy_actions, state_machines

BIN = VENVS / VALIDATORS / "bin"
MODULES = REPOSITORY / VALIDATORS_NODE / "node_modules"
WORKFLOWS = Path(".github") / "workflows"
_GUARD = MODULES / "@cdklabs" / "cdk-validator-cfnguard"
_RULE_ID = re.compile(r"\[(CT\.[A-Z0-9]+\.PR\.\d+)\]:?\s*(.*)")
_RESOURCE = re.compile(r"^/Resources/(\w+)")
_KNOWN_ACTIONS = (
    "import json; from policy_sentry.querying.all import get_all_actions as f; print(json.dumps(list(f())))"
)


class ToolError(Exception):
    """A validator did not run to its end."""


def cfn_lint(templates: Sequence[Template]) -> Iterator[Finding]:
    """cfn-lint: schemas of resources, references, limits."""
    for template in templates:
        for match in lint(template.path.read_text(), config=ManualArgs(regions=[template.region])):
            place = [str(part) for part in match.path or []]
            resource = place[1] if place[:1] == ["Resources"] else "/".join(place[:2])
            yield Finding("cfn-lint", match.rule.id, template.name, resource, match.message)


def checkov(templates: Sequence[Template]) -> Iterator[Finding]:
    """checkov: its CloudFormation checks, without a download."""
    words = [
        str(BIN / "checkov"),
        "--framework",
        "cloudformation",
        "--output",
        "json",
        "--compact",
        "--quiet",
    ]
    output = _run([*words, "--skip-download", "--directory", str(templates[0].path.parent)], good={0, 1})
    found: Any = json.loads(output)
    for report in found if isinstance(found, list) else [found]:
        if report["summary"]["parsing_errors"]:
            raise ToolError(f"checkov could not read {report['results']['parsing_errors']}")
        for check in report["results"]["failed_checks"]:
            template = Path(check["file_path"]).stem
            resource = check["resource"].rpartition(".")[2]
            yield Finding("checkov", check["check_id"], template, resource, check["check_name"])


def cfn_guard(templates: Sequence[Template]) -> Iterator[Finding]:
    """cfn-guard with the proactive controls of AWS Control Tower."""
    machine = {"arm64": "aarch64", "AMD64": "x86_64"}.get(platform.machine(), platform.machine())
    program = (
        _GUARD / "bin" / ("macos" if platform.system() == "Darwin" else "ubuntu") / machine / "cfn-guard"
    )
    rules = _GUARD / "rules" / "control-tower" / "cfn-guard"
    words = [str(program), "validate", "--rules", str(rules), "--data", str(templates[0].path.parent)]
    output = _run([*words, "--structured", "--output-format", "json", "--show-summary", "none"], good={0, 19})
    for report in json.loads(output):
        for violation in report["not_compliant"]:
            texts = list(_texts(violation))
            rule, message = next(m.groups() for text in texts if (m := _RULE_ID.search(text)))
            for resource in sorted({m[1] for text in texts if (m := _RESOURCE.match(text))}):
                yield Finding("cfn-guard", rule, Path(report["name"]).stem, resource, message)


def policy_sentry(templates: Sequence[Template]) -> Iterator[Finding]:
    """policy-sentry's list of IAM actions: each action is one of them, or a pattern of some."""
    output = _run([str(BIN / "python"), "-c", _KNOWN_ACTIONS], good={0})
    known = {action.lower() for action in json.loads(output)}
    for template in templates:
        for logical_id, action in policy_actions(template):
            pattern = re.compile(re.escape(action.lower()).replace(r"\*", ".*").replace(r"\?", "."))
            if action.lower() not in known and not any(pattern.fullmatch(each) for each in known):
                yield Finding("policy-sentry", action, template.name, logical_id, "There is no such action.")


def asl_validator(templates: Sequence[Template]) -> Iterator[Finding]:
    """asl-validator: states, transitions and paths of every state machine."""
    program = MODULES / "asl-validator" / "dist" / "bin" / "asl-validator.js"
    for template in templates:
        for logical_id, definition in state_machines(template):
            words = ["node", str(program), "--json-definition", definition]
            for line in _run(words, good={0, 1}).splitlines():
                code, colon, message = line.strip().partition(": ")
                if colon and code.isupper():
                    yield Finding("asl-validator", code, template.name, logical_id, message)


def zizmor(_templates: Sequence[Template]) -> Iterator[Finding]:
    """zizmor over the workflows: injection, rights, credentials, pins. It asks GitHub nothing."""
    words = [str(BIN / "zizmor"), "--offline", "--no-progress", "--format", "json-v1", str(WORKFLOWS)]
    for found in json.loads(_run(words, good={0, 11, 12, 13, 14})):
        path = Path(found["locations"][0]["symbolic"]["key"]["Local"]["verbatim_path"])
        yield Finding("zizmor", found["ident"], str(path.parent), path.name, found["desc"])


TOOLS: dict[str, Callable[[Sequence[Template]], Iterator[Finding]]] = {
    "cfn-lint": cfn_lint,
    "checkov": checkov,
    "cfn-guard": cfn_guard,
    "policy-sentry": policy_sentry,
    "asl-validator": asl_validator,
    "zizmor": zizmor,
}
WITHOUT_TEMPLATES = {"zizmor"}


def _run(words: list[str], *, good: set[int]) -> str:
    """What a program wrote to standard output and, where that is empty, to standard error."""
    try:
        done = subprocess.run(
            words,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=900,
            env=os.environ | {"NO_COLOR": "1"},
        )
    except OSError as error:
        raise ToolError(
            f"{Path(words[0]).name} cannot be started ({error}): run `make validators`"
        ) from error
    if done.returncode not in good:
        raise ToolError(
            f"{Path(words[0]).name} ended with {done.returncode}: {(done.stderr or done.stdout)[-2000:]}"
        )
    return done.stdout or done.stderr


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, str):
        yield value
