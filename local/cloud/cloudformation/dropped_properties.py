"""CloudFormation properties that the emulator drops, applied through the public AWS APIs.

Only those that something of ours depends on; `docs/laptop-cloud.md` lists the others. Each function gets a
client factory, the resource's physical id and its properties.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from local.cloud import ministack_adapter
from local.cloud.clients import OperatorClients
from local.cloud.config import CloudConfig

Properties = Mapping[str, Any]
Clients = Callable[[str], Any]


def register(config: CloudConfig) -> None:
    """Complete the emulator's own resource types. Call once, after `ministack_adapter.install`."""
    clients = OperatorClients(config)
    for type_name, complete in _RESTORE.items():
        ministack_adapter.after_provisioning(type_name, functools.partial(complete, clients), blocking=True)


def restore_bucket(clients: Clients, bucket: str, properties: Properties) -> None:
    """Encryption, life cycle and tags of a bucket."""
    s3 = clients("s3")
    encryption = properties.get("BucketEncryption")
    if encryption:
        rules = [
            {
                "ApplyServerSideEncryptionByDefault": _with_key(rule["ServerSideEncryptionByDefault"]),
                "BucketKeyEnabled": bool(rule.get("BucketKeyEnabled")),
            }
            for rule in encryption["ServerSideEncryptionConfiguration"]
        ]
        s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": rules})
    lifecycle = properties.get("LifecycleConfiguration")
    if lifecycle:
        rules = [lifecycle_rule(rule) for rule in lifecycle["Rules"]]
        s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})
    tags = [tag for tag in properties.get("Tags") or [] if not tag["Key"].startswith("aws:")]
    if tags:
        s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": tags})


def _with_key(default: Properties) -> dict[str, Any]:
    """S3 uses its own managed key when none is named; the emulator wants it named."""
    managed = {"KMSMasterKeyID": "alias/aws/s3"} if default["SSEAlgorithm"] == "aws:kms" else {}
    return {**managed, **default}


def lifecycle_rule(rule: Properties) -> dict[str, Any]:
    """A rule of `AWS::S3::Bucket` in the shape of PutBucketLifecycleConfiguration."""
    wire: dict[str, Any] = {"Status": rule["Status"], "Filter": {"Prefix": rule.get("Prefix", "")}}
    if "Id" in rule:
        wire["ID"] = rule["Id"]
    expiration = {
        name: value
        for name, value in (
            ("Days", _number(rule.get("ExpirationInDays"))),
            ("ExpiredObjectDeleteMarker", rule.get("ExpiredObjectDeleteMarker")),
        )
        if value is not None
    }
    if expiration:
        wire["Expiration"] = expiration
    if "AbortIncompleteMultipartUpload" in rule:
        days = _number(rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"])
        wire["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": days}
    noncurrent = rule.get("NoncurrentVersionExpiration") or {}
    days = _number(noncurrent.get("NoncurrentDays") or rule.get("NoncurrentVersionExpirationInDays"))
    if days is not None:
        wire["NoncurrentVersionExpiration"] = {"NoncurrentDays": days}
        if "NewerNoncurrentVersions" in noncurrent:
            newer = _number(noncurrent["NewerNoncurrentVersions"])
            wire["NoncurrentVersionExpiration"]["NewerNoncurrentVersions"] = newer
    transitions = rule.get("Transitions") or []
    if transitions:
        wire["Transitions"] = [
            {"Days": _number(item["TransitionInDays"]), "StorageClass": item["StorageClass"]}
            for item in transitions
        ]
    return wire


def restore_table(clients: Clients, table: str, properties: Properties) -> None:
    """Time to live and point-in-time recovery of a table, in either of its CloudFormation types."""
    dynamodb = clients("dynamodb")
    wanted = properties.get("TimeToLiveSpecification")
    if wanted:
        current = dynamodb.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
        enabled = bool(wanted.get("Enabled"))
        if enabled != (current.get("TimeToLiveStatus") == "ENABLED"):
            specification = {"Enabled": enabled, "AttributeName": wanted["AttributeName"]}
            dynamodb.update_time_to_live(TableName=table, TimeToLiveSpecification=specification)
    recovery = properties.get("PointInTimeRecoverySpecification")
    for replica in properties.get("Replicas") or []:
        recovery = recovery or replica.get("PointInTimeRecoverySpecification")
    if recovery:
        enabled = str(recovery.get("PointInTimeRecoveryEnabled")).lower() == "true"
        dynamodb.update_continuous_backups(
            TableName=table, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": enabled}
        )


def restore_function(clients: Clients, function: str, properties: Properties) -> None:
    """Reserved concurrency of a function."""
    reserved = _number(properties.get("ReservedConcurrentExecutions"))
    functions = clients("lambda")
    if reserved is None:
        functions.delete_function_concurrency(FunctionName=function)
    else:
        functions.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=reserved)


def restore_role(clients: Clients, role: str, properties: Properties) -> None:
    """Permissions boundary of a role."""
    iam = clients("iam")
    boundary = properties.get("PermissionsBoundary")
    if boundary:
        iam.put_role_permissions_boundary(RoleName=role, PermissionsBoundary=boundary)
    elif iam.get_role(RoleName=role)["Role"].get("PermissionsBoundary"):
        iam.delete_role_permissions_boundary(RoleName=role)


def _number(value: Any) -> int | None:
    """CloudFormation numbers may arrive as text."""
    return None if value is None else int(value)


_RESTORE: dict[str, Callable[[Clients, str, Properties], None]] = {
    "AWS::S3::Bucket": restore_bucket,
    "AWS::DynamoDB::Table": restore_table,
    "AWS::DynamoDB::GlobalTable": restore_table,
    "AWS::Lambda::Function": restore_function,
    "AWS::IAM::Role": restore_role,
}
