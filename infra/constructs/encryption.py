"""Customer-managed keys: rotated, one per class of data, so that reading one class opens no other."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct


class EncryptionKey(kms.Key):
    """A rotated key. Permissions to use it are in the users' own policies, not in the key's."""

    def __init__(self, scope: Construct, id: str, *, purpose: str, removal: cdk.RemovalPolicy) -> None:
        super().__init__(
            scope, id, description=f"Evergreen: {purpose}", enable_key_rotation=True, removal_policy=removal
        )

    def open_to_logs(self) -> None:
        """Let CloudWatch Logs encrypt this account's log groups, and nothing else, with the key."""
        stack = cdk.Stack.of(self)
        groups = stack.format_arn(
            service="logs",
            resource="log-group",
            resource_name="*",
            arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
        )
        self.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal(f"logs.{stack.region}.amazonaws.com")],
                actions=[
                    "kms:Encrypt",
                    "kms:Decrypt",
                    "kms:ReEncryptFrom",
                    "kms:ReEncryptTo",
                    "kms:GenerateDataKey",
                    "kms:GenerateDataKeyWithoutPlaintext",
                    "kms:DescribeKey",
                ],
                resources=["*"],  # in a key policy: this key
                conditions={"ArnLike": {"kms:EncryptionContext:aws:logs:arn": groups}},
            )
        )


def grant_volume(key: kms.IKey, grantee: iam.IGrantable) -> None:
    """Let SageMaker open a volume's key in the name of `grantee`: it looks at the key, then makes a grant.

    Two statements, because only CreateGrant carries `kms:GrantIsForAWSResource`: under that condition
    DescribeKey would never be allowed.
    """
    for action, conditions in (
        ("kms:CreateGrant", {"Bool": {"kms:GrantIsForAWSResource": "true"}}),
        ("kms:DescribeKey", None),
    ):
        grantee.grant_principal.add_to_principal_policy(
            iam.PolicyStatement(actions=[action], resources=[key.key_arn], conditions=conditions)
        )


def grant_through(key: kms.IKey, grantee: iam.IGrantable, service: str, *actions: str) -> None:
    """Let `grantee` use the key for `actions`, but only through one AWS service in the key's region."""
    region = cdk.Stack.of(key).region
    grantee.grant_principal.add_to_principal_policy(
        iam.PolicyStatement(
            actions=list(actions),
            resources=[key.key_arn],
            conditions={"StringEquals": {"kms:ViaService": f"{service}.{region}.amazonaws.com"}},
        )
    )
