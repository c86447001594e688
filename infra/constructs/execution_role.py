"""The role of model containers: read models, write their log groups, publish metrics, pull one image."""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.constructs.encryption import EncryptionKey, grant_through
from infra.constructs.log_group import LogGroup
from infra.policy.acknowledge import acknowledge, imported_arn
from infra.settings import Settings
from infra.settings.images import image_table

PREFIXES = ("models/", "releases/")  # brought by hand, and trained by the refresh loop
_OBJECTS = "A model is many objects under one prefix, and its files are known only when a release names it."


class ExecutionRole(iam.Role):
    """Assumed by SageMaker for this account only."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        settings: Settings,
        artefacts: s3.IBucket,
        artefacts_key: EncryptionKey,
        log_groups: Sequence[LogGroup],
    ) -> None:
        account = settings.environment.account
        super().__init__(
            scope,
            id,
            assumed_by=iam.ServicePrincipal(
                "sagemaker.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": account}}
            ),
            description="Model containers of the Evergreen endpoint",
        )
        imported = imported_arn(cdk.Stack.of(artefacts), artefacts.bucket_arn)
        reasons = {}
        for prefix in PREFIXES:
            self._read(artefacts.bucket_arn, prefix)
            reasons[f"AwsSolutions-IAM5[Resource::{imported}/{prefix}*]"] = _OBJECTS
        grant_through(artefacts_key, self, "s3", "kms:Decrypt")
        if settings.model.source:
            bucket, _, prefix = settings.model.source.removeprefix("s3://").partition("/")
            arn = cdk.Stack.of(self).format_arn(service="s3", region="", account="", resource=bucket)
            self._read(arn, prefix)
            reasons[f"AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:s3:::{bucket}/{prefix}*]"] = _OBJECTS
        for log_group in log_groups:
            log_group.grant_append(self)
        self._publish_metrics()
        self._pull(settings)
        reasons["AwsSolutions-IAM5[Resource::*]"] = (
            "PutMetricData (held to SageMaker's namespaces) and GetAuthorizationToken take no resource; "
            "composite alarms are described only under `*`."
        )
        acknowledge(self, reasons)

    def allow_objects(
        self, bucket: s3.IBucket, key: EncryptionKey, prefix: str, why: str, *, write: bool = False
    ) -> None:
        """Read, or write, the objects under one prefix of a bucket of ours; `why` the many are no risk."""
        objects = f"{bucket.bucket_arn}/{prefix}*"
        action, use = ("s3:PutObject", "kms:GenerateDataKey") if write else ("s3:GetObject", "kms:Decrypt")
        self.add_to_policy(iam.PolicyStatement(actions=[action], resources=[objects]))
        grant_through(key, self, "s3", use)
        named = imported_arn(cdk.Stack.of(bucket), bucket.bucket_arn)
        acknowledge(self, {f"AwsSolutions-IAM5[Resource::{named}/{prefix}*]": why})

    def allow_rollback(self, alarms: Sequence[cloudwatch.IAlarm], *, further: bool) -> None:
        """Describe the rollback alarms of an update: SageMaker reads them in the role's name.

        `further` ones of the settings may be composite, which CloudWatch shows only to whoever may see all.
        """
        self.add_to_policy(
            iam.PolicyStatement(
                actions=["cloudwatch:DescribeAlarms"],
                resources=["*"] if further else [alarm.alarm_arn for alarm in alarms],
            )
        )

    def allow_read(self, bucket: str, key: str) -> None:
        """Read one object of a bucket by name."""
        arn = cdk.Stack.of(self).format_arn(
            service="s3", region="", account="", resource=bucket, resource_name=key
        )
        self.add_to_policy(iam.PolicyStatement(actions=["s3:GetObject"], resources=[arn]))

    def _read(self, bucket_arn: str, prefix: str) -> None:
        self.add_to_policy(
            iam.PolicyStatement(actions=["s3:GetObject"], resources=[f"{bucket_arn}/{prefix}*"])
        )
        self.add_to_policy(
            iam.PolicyStatement(
                actions=["s3:ListBucket"],
                resources=[bucket_arn],
                conditions={"StringLike": {"s3:prefix": [f"{prefix}*"]}},
            )
        )

    def _publish_metrics(self) -> None:
        self.add_to_policy(
            iam.PolicyStatement(
                actions=["cloudwatch:PutMetricData"],
                resources=["*"],
                conditions={"StringLike": {"cloudwatch:namespace": ["AWS/SageMaker", "/aws/sagemaker/*"]}},
            )
        )

    def _pull(self, settings: Settings) -> None:
        uri = image_table().uri(
            settings.endpoint.engine.image,
            account=settings.environment.account,
            region=settings.environment.region,
        )
        publisher, repository = uri.split(".")[0], uri.split("/", 1)[1].split(":")[0]
        self.add_to_policy(
            iam.PolicyStatement(
                actions=[
                    "ecr:BatchCheckLayerAvailability",
                    "ecr:BatchGetImage",
                    "ecr:GetDownloadUrlForLayer",
                ],
                resources=[
                    cdk.Stack.of(self).format_arn(
                        service="ecr", account=publisher, resource="repository", resource_name=repository
                    )
                ],
            )
        )
        self.add_to_policy(iam.PolicyStatement(actions=["ecr:GetAuthorizationToken"], resources=["*"]))
