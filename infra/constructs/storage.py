"""Where data rests: buckets and tables that are encrypted, recoverable and closed to the public.

Knows the classes' shared promises; which data goes where is the stack's matter.
"""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.constructs.encryption import grant_through
from infra.policy.acknowledge import acknowledge


class AccessLogBucket(s3.Bucket):
    """Receives the other buckets' access logs."""

    def __init__(self, scope: Construct, id: str, *, keep_days: int, removal: cdk.RemovalPolicy) -> None:
        super().__init__(
            scope,
            id,
            encryption=s3.BucketEncryption.S3_MANAGED,  # S3 delivers access logs to no bucket with a KMS key
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            versioned=True,
            removal_policy=removal,
            lifecycle_rules=[
                s3.LifecycleRule(
                    id="forget",
                    expiration=cdk.Duration.days(keep_days),
                    noncurrent_version_expiration=cdk.Duration.days(1),
                    abort_incomplete_multipart_upload_after=cdk.Duration.days(1),
                )
            ],
        )
        acknowledge(
            self, {"AwsSolutions-S1": "It receives access logs; logging its own writes would never end."}
        )


class EncryptedBucket(s3.Bucket):
    """Versioned, under our key, TLS only, access-logged; `forget_days` ends an object's life.

    Without `versioned` what is deleted is gone at once. Only what another region must know has a `name`.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        key: kms.IKey,
        access_logs: s3.IBucket,
        removal: cdk.RemovalPolicy,
        forget_days: int | None = None,
        versioned: bool = True,
        name: str | None = None,
    ) -> None:
        """Make the bucket.

        Args:
            scope: The construct that owns the bucket.
            id: Its construct id, in lower case the prefix of its access logs.
            key: Key of the objects.
            access_logs: Bucket that receives its access logs.
            removal: What happens to it with its stack.
            forget_days: Days after which an object expires; None for never.
            versioned: Whether deleted and overwritten objects are kept for 30 days.
            name: Physical name; None for a generated one.
        """
        super().__init__(
            scope,
            id,
            bucket_name=name,
            encryption=s3.BucketEncryption.KMS,
            encryption_key=key,
            bucket_key_enabled=True,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            versioned=versioned,
            removal_policy=removal,
            server_access_logs_bucket=access_logs,
            server_access_logs_prefix=f"{id.lower()}/",
            lifecycle_rules=[
                s3.LifecycleRule(
                    id="tidy",
                    expiration=cdk.Duration.days(forget_days) if forget_days else None,
                    noncurrent_version_expiration=cdk.Duration.days(30) if versioned else None,
                    abort_incomplete_multipart_upload_after=cdk.Duration.days(7),
                )
            ],
        )


class EncryptedTable(dynamodb.Table):
    """A pay-per-request table under our key; keys `pk` and, if asked, `sk`.

    With point-in-time recovery unless told otherwise: without it what is deleted is gone at once.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        key: kms.IKey,
        removal: cdk.RemovalPolicy,
        sort_key: bool = False,
        expires: bool = False,
        recoverable: bool = True,
    ) -> None:
        """Make the table.

        Args:
            scope: The construct that owns the table.
            id: Its construct id.
            key: Key of the items.
            removal: What happens to it with its stack; RETAIN adds deletion protection.
            sort_key: Whether items have a sort key `sk` beside `pk`.
            expires: Whether items end at `expires_at`, in seconds since the epoch.
            recoverable: Whether point-in-time recovery (35 days) is on.
        """
        super().__init__(
            scope,
            id,
            partition_key=dynamodb.Attribute(name="pk", type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name="sk", type=dynamodb.AttributeType.STRING) if sort_key else None,
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            encryption=dynamodb.TableEncryption.CUSTOMER_MANAGED,
            encryption_key=key,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=recoverable
            ),
            time_to_live_attribute="expires_at" if expires else None,
            deletion_protection=removal == cdk.RemovalPolicy.RETAIN,
            removal_policy=removal,
        )
        self._key = key
        if not recoverable:
            acknowledge(
                self,
                {"AwsSolutions-DDB3": "It holds what callers may have deleted: for good, not for 35 days."},
            )

    def add_index(self, name: str, *, partition: str, sort: str, include: list[str]) -> None:
        """A sparse index of the rows that have both attributes: text `partition`, number `sort`."""
        self.add_global_secondary_index(
            index_name=name,
            partition_key=dynamodb.Attribute(name=partition, type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name=sort, type=dynamodb.AttributeType.NUMBER),
            projection_type=dynamodb.ProjectionType.INCLUDE,
            non_key_attributes=include,
        )

    def grant_query(self, grantee: iam.IGrantable, *indexes: str) -> None:
        """Allow reading the named indexes."""
        grantee.grant_principal.add_to_principal_policy(
            iam.PolicyStatement(
                actions=["dynamodb:Query"],
                resources=[f"{self.table_arn}/index/{index}" for index in indexes],
            )
        )
        grant_through(self._key, grantee, "dynamodb", "kms:Decrypt")

    def grant_items(self, grantee: iam.IGrantable, *actions: str, under: str | None = None) -> None:
        """Allow the named item actions (`GetItem`, `PutItem` …) and the key use they imply, nothing more.

        `under` holds them to one partition.
        """
        leading = {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": [under]}} if under else None
        grantee.grant_principal.add_to_principal_policy(
            iam.PolicyStatement(
                actions=[f"dynamodb:{action}" for action in actions],
                resources=[self.table_arn],
                conditions=leading,
            )
        )
        writes = any(not action.startswith(("Get", "BatchGet", "Query")) for action in actions)
        use = ("kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey") if writes else ("kms:Decrypt",)
        grant_through(self._key, grantee, "dynamodb", *use)
