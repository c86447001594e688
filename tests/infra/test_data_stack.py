"""The data stack keeps what it holds: encrypted, recoverable, closed, and forgotten in time."""

from __future__ import annotations

import pytest
from aws_cdk.assertions import Match

ENVIRONMENTS = ("local", "dev", "prod")


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_every_key_rotates(resources, env):
    keys = resources(env, "data", "AWS::KMS::Key")

    assert len(keys) == 4
    assert all(key["Properties"]["EnableKeyRotation"] is True for key in keys.values())


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_every_bucket_is_encrypted_and_closed_to_the_public(resources, env):
    buckets = resources(env, "data", "AWS::S3::Bucket")

    assert len(buckets) == 4
    for name, bucket in buckets.items():
        properties = bucket["Properties"]
        # What callers have deleted is gone at once; everything else can be had back.
        versioned = {"Status": "Enabled"} if not name.startswith("WorkBucket") else None
        assert properties.get("VersioningConfiguration") == versioned
        assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
        assert properties["LifecycleConfiguration"]["Rules"][0]["Status"] == "Enabled"
        assert "BucketName" not in properties
    algorithms = [
        rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"]
        for bucket in buckets.values()
        for rule in bucket["Properties"]["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    ]
    assert sorted(algorithms) == ["AES256", *["aws:kms"] * 3]  # S3 delivers access logs to AES256 only


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_every_bucket_refuses_plain_http(resources, env):
    refused = {
        policy["Properties"]["Bucket"]["Ref"]
        for policy in resources(env, "data", "AWS::S3::BucketPolicy").values()
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Deny"
        and statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        and statement["Action"] == "s3:*"
    }

    assert refused == set(resources(env, "data", "AWS::S3::Bucket"))


def test_records_in_s3_are_forgotten_with_the_setting(template):
    template("prod", "data").has_resource_properties(
        "AWS::S3::Bucket",
        {"LifecycleConfiguration": {"Rules": [Match.object_like({"ExpirationInDays": 30})]}},
    )


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_tables_lie_under_our_keys_and_can_be_restored(resources, env):
    tables = resources(env, "data", "AWS::DynamoDB::Table")

    assert len(tables) == 4
    for name, table in tables.items():
        properties = table["Properties"]
        assert properties["SSESpecification"]["SSEType"] == "KMS"
        assert "KMSMasterKeyId" in properties["SSESpecification"]
        recoverable = not name.startswith("WorkTable")  # what callers have deleted stays deleted
        recovery = properties["PointInTimeRecoverySpecification"]
        assert recovery == {"PointInTimeRecoveryEnabled": recoverable}
        assert properties["BillingMode"] == "PAY_PER_REQUEST"


def test_table_keys_and_expiry_are_what_the_functions_expect(resources):
    tables = resources("local", "data", "AWS::DynamoDB::Table")

    shapes = {
        name[:-8]: (
            [key["AttributeName"] for key in table["Properties"]["KeySchema"]],
            table["Properties"].get("TimeToLiveSpecification", {}).get("AttributeName"),
        )
        for name, table in tables.items()
    }

    assert shapes == {
        "AccessTable": (["pk"], "expires_at"),
        "RecordsTable": (["pk", "sk"], "expires_at"),
        "LedgerTable": (["pk", "sk"], None),
        "WorkTable": (["pk", "sk"], "expires_at"),
    }


@pytest.mark.parametrize(("env", "policy"), [("local", "Delete"), ("dev", "Delete"), ("prod", "Retain")])
def test_removal_follows_the_settings(resources, env, policy):
    for kind in ("AWS::S3::Bucket", "AWS::DynamoDB::Table", "AWS::KMS::Key"):
        for resource in resources(env, "data", kind).values():
            assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == (policy, policy)


def test_production_tables_refuse_deletion(resources):
    tables = resources("prod", "data", "AWS::DynamoDB::Table").values()

    assert all(table["Properties"]["DeletionProtectionEnabled"] is True for table in tables)


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_outputs_are_the_agreed_ones(template_json, env):
    own = {name for name in template_json(env, "data")["Outputs"] if not name.startswith("Exports")}

    assert own == {
        "ArtefactsBucketName",
        "RecordsBucketName",
        "AccessTableName",
        "RecordsTableName",
        "LedgerTableName",
        "WorkBucketName",
        "WorkTableName",
    }


def test_the_log_key_serves_this_accounts_log_groups_only(resources):
    keys = resources("prod", "data", "AWS::KMS::Key")
    logs = next(key for name, key in keys.items() if name.startswith("LogsKey"))

    statement = logs["Properties"]["KeyPolicy"]["Statement"][1]
    assert statement["Principal"] == {"Service": "logs.us-east-1.amazonaws.com"}
    scope = statement["Condition"]["ArnLike"]["kms:EncryptionContext:aws:logs:arn"]["Fn::Join"][1]
    assert scope[-1] == ":logs:us-east-1:111122223333:log-group:*"
