"""How a construct says, beside itself, why a rule of a policy pack does not hold for it.

The reason is part of the code's review: it says what makes the finding harmless here, or what guards instead.
"""

from __future__ import annotations

import aws_cdk as cdk
from constructs import IConstruct


def acknowledge(construct: IConstruct, reasons: dict[str, str]) -> None:
    """Accept findings on a construct and all below it.

    `reasons` maps a rule (`AwsSolutions-S1`, or one finding of it, `AwsSolutions-IAM5[Resource::*]`) to why;
    a rule of another pack is written with the pack, `Evergreen::no-endpoint-capture`.
    """
    cdk.Validations.of(construct).acknowledge(
        *(cdk.Acknowledgment(id=_full(rule), reason=why) for rule, why in reasons.items())
    )


def _full(rule: str) -> str:
    return rule if "::" in rule.partition("[")[0] else f"{rule.split('-')[0]}::{rule}"


def imported_arn(owner: cdk.Stack, arn: str) -> str:
    """How cdk-nag names, in a finding, an ARN that another stack imports from `owner`."""
    name = owner.resolve(owner.export_value(arn))["Fn::ImportValue"]
    return str(name)
