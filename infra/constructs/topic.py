"""An encrypted SNS topic that named services of this account may publish to."""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from infra.constructs.encryption import EncryptionKey

# EventBridge does not say for which account it uses the key of an encrypted topic. Source: the SNS developer
# guide, "Enable compatibility between event sources from AWS services and encrypted topics".
_NAMELESS = ("events",)


class Topic(sns.Topic):
    """A topic under a key of its own. Exposes `key`."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        purpose: str,
        account: str,
        services: Sequence[str],
        emails: Sequence[str],
    ) -> None:
        self.key = EncryptionKey(scope, f"{id}Key", purpose=purpose, removal=cdk.RemovalPolicy.DESTROY)
        super().__init__(scope, id, master_key=self.key, enforce_ssl=True)
        here = {"StringEquals": {"aws:SourceAccount": account}}
        for service in services:
            principal = iam.ServicePrincipal(f"{service}.amazonaws.com")
            self.add_to_resource_policy(
                iam.PolicyStatement(
                    sid=f"Publish{service.title()}",
                    principals=[principal],
                    actions=["sns:Publish"],
                    resources=[self.topic_arn],
                    conditions=here,
                )
            )
            self.key.add_to_resource_policy(
                iam.PolicyStatement(
                    principals=[principal],
                    actions=["kms:Decrypt", "kms:GenerateDataKey"],
                    resources=["*"],  # in a key policy: this key
                    conditions=None if service in _NAMELESS else here,
                )
            )
        for email in emails:
            self.add_subscription(subscriptions.EmailSubscription(email))
