"""Copies of model artefacts in a second region, made by S3 as they are written.

The other region's bucket and key are known by name alone (a name, an alias): a reference across regions would
tie the updates of stacks to each other. A replication rule knows prefixes only, and a release's data lies
beside its model: so the role may read models and nothing else, and what it may not read stays here.
"""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.constructs.encryption import EncryptionKey, grant_through
from infra.constructs.execution_role import PREFIXES
from infra.policy.acknowledge import acknowledge
from infra.settings import Settings

MODELS = ("models/*", "releases/*/training/*/output/*")
_MANY = "A model is many objects under one prefix, and its files are known only when a release names it."
_ALIAS = "The key of the second region is known by its alias, which the condition asks for."


def key_alias(settings: Settings) -> str:
    """Alias of the key that encrypts the copies."""
    return f"alias/{settings.prefix}-models"


class Replication(Construct):
    """Lets S3 copy the models in `bucket` to the second region's bucket, under the key there."""

    def __init__(
        self, scope: Construct, id: str, *, settings: Settings, bucket: s3.Bucket, key: EncryptionKey
    ) -> None:
        super().__init__(scope, id)
        assert settings.failover is not None
        self._settings, self._region = settings, settings.failover.region
        self._role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("s3.amazonaws.com"),
            description="S3 copies model artefacts to the second region",
        )
        self._read(bucket, key)
        self._write()
        resource = bucket.node.default_child
        assert isinstance(resource, s3.CfnBucket)
        resource.replication_configuration = s3.CfnBucket.ReplicationConfigurationProperty(
            role=self._role.role_arn,
            rules=[self._rule(place, prefix) for place, prefix in enumerate(PREFIXES)],
        )

    @property
    def _target(self) -> str:
        spec, environment = self._settings.failover, self._settings.environment
        assert spec is not None
        name = spec.bucket_name(self._settings.prefix, environment.account)
        return cdk.Stack.of(self).format_arn(service="s3", region="", account="", resource=name)

    def _rule(self, priority: int, prefix: str) -> s3.CfnBucket.ReplicationRuleProperty:
        alias = self._in_kms(key_alias(self._settings))
        return s3.CfnBucket.ReplicationRuleProperty(
            id=prefix.strip("/"),
            status="Enabled",
            priority=priority,
            filter=s3.CfnBucket.ReplicationRuleFilterProperty(prefix=prefix),
            # What is deleted here may be what the second region serves.
            delete_marker_replication=s3.CfnBucket.DeleteMarkerReplicationProperty(status="Disabled"),
            source_selection_criteria=s3.CfnBucket.SourceSelectionCriteriaProperty(
                sse_kms_encrypted_objects=s3.CfnBucket.SseKmsEncryptedObjectsProperty(status="Enabled")
            ),
            destination=s3.CfnBucket.ReplicationDestinationProperty(
                bucket=self._target,
                encryption_configuration=s3.CfnBucket.EncryptionConfigurationProperty(
                    replica_kms_key_id=alias
                ),
            ),
        )

    def _read(self, bucket: s3.Bucket, key: EncryptionKey) -> None:
        self._allow(["s3:GetReplicationConfiguration", "s3:ListBucket"], bucket.bucket_arn)
        self._allow(
            [
                "s3:GetObjectVersionForReplication",
                "s3:GetObjectVersionAcl",
                "s3:GetObjectVersionTagging",
            ],
            *(f"{bucket.bucket_arn}/{models}" for models in MODELS),
        )
        grant_through(key, self._role, "s3", "kms:Decrypt")
        stack = cdk.Stack.of(self)
        resource = bucket.node.default_child
        assert isinstance(resource, s3.CfnBucket)
        named = f"<{stack.get_logical_id(resource)}.Arn>"
        self._accept({f"{named}/{models}": _MANY for models in MODELS})

    def _write(self) -> None:
        self._allow(
            ["s3:ReplicateObject", "s3:ReplicateTags"], *(f"{self._target}/{models}" for models in MODELS)
        )
        self._role.add_to_policy(
            iam.PolicyStatement(
                actions=["kms:Encrypt", "kms:GenerateDataKey"],
                resources=[self._in_kms("key/*")],
                conditions={
                    "StringEquals": {"kms:ViaService": f"s3.{self._region}.amazonaws.com"},
                    "ForAnyValue:StringEquals": {"kms:ResourceAliases": key_alias(self._settings)},
                },
            )
        )
        target = self._target.rpartition(":")[2]
        aws, account = "arn:<AWS::Partition>", self._settings.environment.account
        self._accept(
            {f"{aws}:s3:::{target}/{models}": _MANY for models in MODELS}
            | {f"{aws}:kms:{self._region}:{account}:key/*": _ALIAS}
        )

    def _in_kms(self, resource: str) -> str:
        return cdk.Stack.of(self).format_arn(
            service="kms",
            region=self._region,
            resource=resource,
            arn_format=cdk.ArnFormat.NO_RESOURCE_NAME,
        )

    def _allow(self, actions: list[str], *resources: str) -> None:
        self._role.add_to_policy(iam.PolicyStatement(actions=actions, resources=list(resources)))

    def _accept(self, reasons: dict[str, str]) -> None:
        acknowledge(self._role, {f"AwsSolutions-IAM5[Resource::{arn}]": why for arn, why in reasons.items()})
