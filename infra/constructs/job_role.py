"""The role of the refresh loop's SageMaker jobs: read what the job reads, write under the release, log, pull.

One per kind of job; whoever composes the stack says what may be read.
"""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.constructs.encryption import EncryptionKey, grant_through, grant_volume
from infra.policy.acknowledge import acknowledge, imported_arn
from infra.settings import Settings
from infra.settings.images import image_table

RELEASES_PREFIX = "releases/"
_OBJECTS = "Artefacts and data sets are many objects under one prefix, known only when a release names them."
_SHARED_LOGS = "The log group is SageMaker's own; streams carry the jobs' names."


class JobRole(iam.Role):
    """Assumed by SageMaker for this account only. `kind` is `TrainingJobs` or `ProcessingJobs`."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        kind: str,
        settings: Settings,
        image: str,
        artefacts: s3.IBucket,
        artefacts_key: EncryptionKey,
        prefixes: tuple[str, ...],
        volume: bool,
    ) -> None:
        account = settings.environment.account
        super().__init__(
            scope,
            id,
            assumed_by=iam.ServicePrincipal(
                "sagemaker.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": account}}
            ),
            description=f"Evergreen refresh loop: {kind}",
        )
        self._settings, self._reasons = settings, dict[str, str]()
        self._bucket_name = imported_arn(cdk.Stack.of(artefacts), artefacts.bucket_arn)
        self._use_bucket(artefacts, prefixes)
        self._use_source()
        grant_through(artefacts_key, self, "s3", "kms:Decrypt", "kms:GenerateDataKey")
        if volume:
            grant_volume(artefacts_key, self)
        self._log(kind)
        self._pull(image)
        self._reasons["AwsSolutions-IAM5[Resource::*]"] = (
            "PutMetricData (held to SageMaker's namespace) and GetAuthorizationToken take no resource."
        )
        acknowledge(self, self._reasons)

    def _use_bucket(self, artefacts: s3.IBucket, prefixes: tuple[str, ...]) -> None:
        for prefix in prefixes:
            self._allow(["s3:GetObject"], f"{artefacts.bucket_arn}/{prefix}*")
        self._allow(["s3:PutObject", "s3:AbortMultipartUpload"], f"{artefacts.bucket_arn}/{RELEASES_PREFIX}*")
        self._list(artefacts.bucket_arn, *(f"{prefix}*" for prefix in (*prefixes, RELEASES_PREFIX)))
        for prefix in {*prefixes, RELEASES_PREFIX}:
            self._reasons[f"AwsSolutions-IAM5[Resource::{self._bucket_name}/{prefix}*]"] = _OBJECTS

    def _use_source(self) -> None:
        """The first champion may lie in a bucket of its own."""
        if not self._settings.model.source:
            return
        bucket, _, prefix = self._settings.model.source.removeprefix("s3://").partition("/")
        arn = cdk.Stack.of(self).format_arn(service="s3", region="", account="", resource=bucket)
        self._allow(["s3:GetObject"], f"{arn}/{prefix}*")
        self._list(arn, f"{prefix}*")
        named = f"arn:<AWS::Partition>:s3:::{bucket}/{prefix}*"
        self._reasons[f"AwsSolutions-IAM5[Resource::{named}]"] = _OBJECTS

    def _log(self, kind: str) -> None:
        group = f"/aws/sagemaker/{kind}"
        region, account = self._settings.environment.region, self._settings.environment.account
        arn = cdk.Stack.of(self).format_arn(
            service="logs",
            resource="log-group",
            resource_name=f"{group}:*",
            arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
        )
        actions = [
            "logs:CreateLogGroup",
            "logs:CreateLogStream",
            "logs:DescribeLogStreams",
            "logs:PutLogEvents",
        ]
        self._allow(actions, arn)
        named = f"arn:<AWS::Partition>:logs:{region}:{account}:log-group:{group}:*"
        self._reasons[f"AwsSolutions-IAM5[Resource::{named}]"] = _SHARED_LOGS
        self.add_to_policy(
            iam.PolicyStatement(
                actions=["cloudwatch:PutMetricData"],
                resources=["*"],
                conditions={"StringEquals": {"cloudwatch:namespace": group}},
            )
        )

    def _pull(self, image: str) -> None:
        environment = self._settings.environment
        uri = image_table().uri(image, account=environment.account, region=environment.region)
        publisher, repository = uri.split(".")[0], uri.split("/", 1)[1].split(":")[0]
        arn = cdk.Stack.of(self).format_arn(
            service="ecr", account=publisher, resource="repository", resource_name=repository
        )
        self._allow(
            ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"], arn
        )
        self._allow(["ecr:GetAuthorizationToken"], "*")

    def _list(self, bucket_arn: str, *prefixes: str) -> None:
        self.add_to_policy(
            iam.PolicyStatement(
                actions=["s3:ListBucket"],
                resources=[bucket_arn],
                conditions={"StringLike": {"s3:prefix": sorted(set(prefixes))}},
            )
        )

    def _allow(self, actions: list[str], resource: str) -> None:
        self.add_to_policy(iam.PolicyStatement(actions=actions, resources=[resource]))
