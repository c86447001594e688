"""Log groups: kept for the days that settings say, encrypted, written only by whom a policy names."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.settings import Settings

_RETENTION = {
    1: logs.RetentionDays.ONE_DAY,
    3: logs.RetentionDays.THREE_DAYS,
    7: logs.RetentionDays.ONE_WEEK,
    14: logs.RetentionDays.TWO_WEEKS,
    30: logs.RetentionDays.ONE_MONTH,
    60: logs.RetentionDays.TWO_MONTHS,
    90: logs.RetentionDays.THREE_MONTHS,
    180: logs.RetentionDays.SIX_MONTHS,
    365: logs.RetentionDays.ONE_YEAR,
    731: logs.RetentionDays.TWO_YEARS,
    1827: logs.RetentionDays.FIVE_YEARS,
    3653: logs.RetentionDays.TEN_YEARS,
}


class LogGroup(logs.LogGroup):
    """A log group of one environment. Name it only where a service insists on the name."""

    def __init__(
        self, scope: Construct, id: str, *, settings: Settings, key: kms.IKey, name: str | None = None
    ) -> None:
        super().__init__(
            scope,
            id,
            log_group_name=name,
            encryption_key=key,
            retention=_RETENTION[settings.environment.log_retention_days],
            removal_policy=removal_policy(settings.environment.removal.logs, named=name is not None),
        )

    def grant_append(self, role: iam.Role) -> None:
        """Allow the role to create streams in this group and write to them."""
        role.add_to_policy(
            iam.PolicyStatement(
                actions=["logs:CreateLogStream", "logs:PutLogEvents"],
                resources=[self.log_group_arn],  # CloudFormation's Arn of a group ends in `:*`
            )
        )


def removal_policy(choice: str, *, named: bool = False) -> cdk.RemovalPolicy:
    """The CDK policy of a settings value.

    What is `named` is kept too, but not by a create that fails: its name would block the next one.
    """
    if choice != "retain":
        return cdk.RemovalPolicy.DESTROY
    return cdk.RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE if named else cdk.RemovalPolicy.RETAIN
