"""What a release changes: the serving stack's parameters, and the conditions that follow from the phase.

Artefacts are parameters and not settings, so that a release is an update with the previous template and new
values, and a deployment of the code carries a running experiment along.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass

import aws_cdk as cdk
from constructs import Construct

from contracts import guardrails
from infra.policy.acknowledge import acknowledge

_URI = r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/.+/"
_ARCHIVE = r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/.+\.tar\.gz"
_SHAPES = {
    _URI: "must be an S3 prefix such as s3://bucket/models/name/digest/",
    _ARCHIVE: "must be an archive in S3 such as s3://bucket/models/name/model.tar.gz",
}
_DIGEST = r"([0-9a-f]{64})?"
_VERSION = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
_SHAPE_DIGITS = 12


def logical_id(start: str, name: str) -> str:
    """A logical id for something that has a name of another kind: `AdapterSupportBot` of `support-bot`."""
    return start + "".join(word.title() for word in re.split(r"[^A-Za-z0-9]+", name))


@dataclass(frozen=True)
class Artefact:
    """A model artefact as template values: S3 prefix, manifest digest (may be empty), version."""

    uri: str
    digest: str
    version: str


class ReleaseParameters(Construct):
    """The champion as parameters whose logical ids are the names the release loop sets.

    `archive` for kinds that take one tar.gz in place of a prefix.
    """

    def __init__(self, scope: Construct, *, source: str | None, version: str, archive: bool = False) -> None:
        super().__init__(scope, "Release")
        self._stack = cdk.Stack.of(self)
        self._pattern = _ARCHIVE if archive else _URI
        self.champion = self._artefact("Champion", source=source, version=version, optional=False)

    def _artefact(self, role: str, *, source: str | None, version: str, optional: bool) -> Artefact:
        may_lack = "?" if optional else ""
        uri = self._parameter(
            f"{role}ModelUri",
            f"The {role.lower()}'s artefact in S3",
            default=source,
            allowed_pattern=f"^({self._pattern}){may_lack}$",
            constraint_description=_SHAPES[self._pattern],
        )
        digest = self._parameter(
            f"{role}ModelDigest",
            "SHA-256 of its manifest in hex; empty where the artefact has none",
            default="",
            allowed_pattern=f"^{_DIGEST}$",
            constraint_description="must be 64 hexadecimal digits or empty",
        )
        name = self._parameter(
            f"{role}ModelVersion",
            "The version that records and metrics carry",
            default=version,
            allowed_pattern=f"^({_VERSION}){may_lack}$",
            constraint_description="must be letters, digits, dots, dashes and underscores",
        )
        return Artefact(uri.value_as_string, digest.value_as_string, name.value_as_string)

    def adapter(self, part: str, *, source: str | None, version: str) -> Artefact:
        """An adapter's archive and version as parameters of their own, so that it is released alone."""
        start = logical_id("Adapter", part)
        uri = self._parameter(
            f"{start}Uri",
            f"The archive of the adapter {part} in S3",
            default=source,
            allowed_pattern=f"^{_ARCHIVE}$",
            constraint_description=_SHAPES[_ARCHIVE],
        )
        name = self._parameter(
            f"{start}Version",
            f"The version of the adapter {part} that records and metrics carry",
            default=version,
            allowed_pattern=f"^{_VERSION}$",
            constraint_description="must be letters, digits, dots, dashes and underscores",
        )
        return Artefact(uri.value_as_string, "", name.value_as_string)

    def switch(self, name: str, description: str) -> cdk.CfnCondition:
        """A condition of its own that a parameter `name` turns off."""
        given = self._parameter(name, description, default="on", allowed_values=["on", "off"])
        return self._condition(f"{name}On", given.value_as_string, "on")

    def _parameter(self, name: str, description: str, **options: object) -> cdk.CfnParameter:
        return cdk.CfnParameter(self._stack, name, type="String", description=description, **options)  # type: ignore[arg-type]

    def _condition(self, name: str, given: str, value: str) -> cdk.CfnCondition:
        return cdk.CfnCondition(self._stack, name, expression=cdk.Fn.condition_equals(given, value))


class ExperimentParameters(ReleaseParameters):
    """A release with a challenger beside the champion: its artefact, the phase, how updates roll out."""

    def __init__(self, scope: Construct, *, source: str | None, version: str) -> None:
        super().__init__(scope, source=source, version=version)
        self.challenger = self._artefact("Challenger", source="", version="", optional=True)
        phase = self._parameter(
            "Phase",
            "What runs beside the champion",
            default="steady",
            allowed_values=["steady", "shadow", "ab"],
        )
        self.ab = self._condition("AbTest", phase.value_as_string, "ab")
        self.shadow = self._condition("Shadow", phase.value_as_string, "shadow")
        either = cdk.Fn.condition_or(self.ab, self.shadow)  # type: ignore[arg-type]
        self.has_challenger = cdk.CfnCondition(self._stack, "HasChallenger", expression=either)
        self._require_challenger(phase)

    def guard(self, shape: object) -> cdk.CfnCondition:
        """The condition `UseGuardrails`: false in the one update that adds or removes a variant.

        SageMaker refuses deployment guardrails there. `shape` is what else a template changes about the
        endpoint; its digest is an output. An update that skips guardrails names that digest and the champion
        it is for, so any later one, a deployment of new settings or another champion, uses them again.
        """
        resolved = json.dumps(self._stack.resolve(shape), sort_keys=True)
        digest = hashlib.sha256(resolved.encode()).hexdigest()[:_SHAPE_DIGITS]
        choice = self._parameter(
            guardrails.PARAMETER,
            "`skip-<EndpointShape>` for an update that adds or removes a variant, which SageMaker asks for",
            default=guardrails.USE,
            allowed_pattern=f"^({guardrails.USE}|{guardrails.skip('[0-9a-f]{12}')})$",
            constraint_description="must be use, or skip- and the output EndpointShape",
        )
        version = self._parameter(
            guardrails.VERSION_PARAMETER,
            "The champion's version in the update that skips guardrails",
            default="",
            allowed_pattern=f"^({_VERSION})?$",
            constraint_description="must be letters, digits, dots, dashes and underscores",
        )
        cdk.CfnOutput(self._stack, "EndpointShape", value=digest)
        for_template = self._condition(
            "SkipGuardrailsForTemplate", choice.value_as_string, guardrails.skip(digest)
        )
        for_version = self._condition(
            "SkipGuardrailsForVersion", version.value_as_string, self.champion.version
        )
        why = "The two parameters are equal in the update that skips guardrails."
        acknowledge(self._stack, {"CloudFormation-Validate::W8003": why})
        skipped = cdk.Fn.condition_and(for_template, for_version)  # type: ignore[arg-type]
        return cdk.CfnCondition(self._stack, "UseGuardrails", expression=cdk.Fn.condition_not(skipped))

    def _require_challenger(self, phase: cdk.CfnParameter) -> None:
        """Refuse an update into `shadow` or `ab` without a challenger before anything changes."""
        given = [self.challenger.uri, self.challenger.version]
        cdk.CfnRule(
            self._stack,
            "PhaseNeedsChallenger",
            rule_condition=cdk.Fn.condition_not(cdk.Fn.condition_equals(phase.value_as_string, "steady")),
            assertions=[
                cdk.CfnRuleAssertion(
                    assert_=cdk.Fn.condition_not(cdk.Fn.condition_equals(value, "")),
                    assert_description=f"The phases shadow and ab need {name}",
                )
                for value, name in zip(given, ("ChallengerModelUri", "ChallengerModelVersion"), strict=True)
            ],
        )
