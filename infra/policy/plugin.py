"""Runs our rules at synth as a CDK policy plugin: a finding ends synth and names the construct.

A finding is acknowledged beside its resource as `Evergreen::<rule id>`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import aws_cdk as cdk
import jsii

from infra.policy.cost import cost_cap, costs_beside
from infra.policy.endpoint_rules import ENDPOINT_RULES
from infra.policy.rules import RULES, PolicyFinding, PolicyRule
from infra.settings import Settings
from infra.settings.failover import FAILOVER


@jsii.implements(cdk.IPolicyValidationPlugin)
class EvergreenRules:
    """The rules of rules.py and endpoint_rules.py, and the cost cap of one environment in all its regions."""

    def __init__(self, settings: Settings) -> None:
        common = (*RULES, *ENDPOINT_RULES)
        self._rules = (*common, cost_cap(settings, costs_beside(settings, settings)))
        self._rules_of = {
            f"{settings.prefix}-{there.serving_part}.": (
                *common,
                cost_cap(there, costs_beside(settings, there)),
            )
            for there in settings.further_endpoints
        }
        if settings.standby:
            self._rules_of[f"{settings.prefix}-{FAILOVER}"] = (*common, cost_cap(settings.standby))

    @property
    def name(self) -> str:
        """The plugin's name in reports and acknowledgements."""
        return "Evergreen"

    @property
    def version(self) -> str:
        """Version of the rule set."""
        return "1.0.0"

    @property
    def rule_ids(self) -> list[str]:
        """Ids of all rules."""
        return [rule.id for rule in self._rules]

    def validate(self, context: cdk.IPolicyValidationContext) -> cdk.PolicyValidationPluginReport:
        """Check every synthesized template."""
        violations = [
            self._violation(rule, path, finding)
            for path in context.template_paths
            for rule, finding in findings(self._rules_for(path), Path(path))
        ]
        return cdk.PolicyValidationPluginReport(success=not violations, violations=violations)

    def _rules_for(self, path: str) -> tuple[PolicyRule, ...]:
        name = Path(path).name
        return next((rules for start, rules in self._rules_of.items() if name.startswith(start)), self._rules)

    @staticmethod
    def _violation(rule: PolicyRule, path: str, finding: PolicyFinding) -> cdk.PolicyViolation:
        return cdk.PolicyViolation(
            rule_name=rule.id,
            description=f"{rule.asks} Here {finding.why}.",
            fix=rule.fix,
            severity="error",
            violating_resources=[
                cdk.PolicyViolatingResource(
                    resource_logical_id=finding.logical_id,
                    template_path=path,
                    locations=[f"Properties/{finding.location}"],
                )
            ],
        )


def findings(rules: Sequence[PolicyRule], path: Path) -> list[tuple[PolicyRule, PolicyFinding]]:
    """All findings of the rules in one template file."""
    template = json.loads(path.read_text(encoding="utf-8"))
    return [(rule, finding) for rule in rules for finding in rule.check(template)]
