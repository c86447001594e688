"""What a release changes: the serving stack's parameters, and the conditions that follow from the phase.

Artefacts are parameters and not settings, so that a release is an update with the previous template and new
values, and a deployment of the code carries a running experiment along.
"""

from __future__ import annotations

from dataclasses import dataclass

import aws_cdk as cdk
from constructs import Construct

_URI = r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/.+/"
_DIGEST = r"([0-9a-f]{64})?"
_VERSION = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"


@dataclass(frozen=True)
class Artefact:
    """A model artefact as template values: S3 prefix, manifest digest (may be empty), version."""

    uri: str
    digest: str
    version: str


class Release(Construct):
    """Champion, challenger and phase as parameters whose logical ids are the names the release loop sets."""

    def __init__(self, scope: Construct, *, source: str | None, version: str) -> None:
        super().__init__(scope, "Release")
        self._stack = cdk.Stack.of(self)
        self.champion = self._artefact("Champion", source=source, version=version, optional=False)
        self.challenger = self._artefact("Challenger", source="", version="", optional=True)
        phase = self._parameter(
            "Phase",
            "What runs beside the champion",
            default="steady",
            allowed_values=["steady", "shadow", "ab"],
        )
        rollout = self._parameter(
            "Rollout",
            "`plain` for an update that adds or removes a variant: the service refuses guardrails there",
            default="guarded",
            allowed_values=["guarded", "plain"],
        )
        self.guarded = self._condition("Guarded", rollout, "guarded")
        self.ab = self._condition("AbTest", phase, "ab")
        self.shadow = self._condition("Shadow", phase, "shadow")
        either = cdk.Fn.condition_or(self.ab, self.shadow)  # type: ignore[arg-type]
        self.beside = cdk.CfnCondition(self._stack, "Challenged", expression=either)
        self._require_challenger(phase)

    def _artefact(self, role: str, *, source: str | None, version: str, optional: bool) -> Artefact:
        may_lack = "?" if optional else ""
        uri = self._parameter(
            f"{role}ModelUri",
            f"S3 prefix of the {role.lower()}'s artefact; ends in a slash",
            default=source,
            allowed_pattern=f"^({_URI}){may_lack}$",
            constraint_description="must be an S3 prefix such as s3://bucket/models/name/digest/",
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

    def _parameter(self, name: str, description: str, **options: object) -> cdk.CfnParameter:
        return cdk.CfnParameter(self._stack, name, type="String", description=description, **options)  # type: ignore[arg-type]

    def _condition(self, name: str, parameter: cdk.CfnParameter, value: str) -> cdk.CfnCondition:
        expression = cdk.Fn.condition_equals(parameter.value_as_string, value)
        return cdk.CfnCondition(self._stack, name, expression=expression)

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
