"""`destroy`: empties what is disposable, deletes in order, ends, and names what is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from infra.settings import Settings, load
from operations.deletion_plan import PlannedResource, PlannedStack, deletion_order, plan_stack
from operations.destroy import confirm, describe, destroy, plan, stop_releases
from operations.emptying import empty_bucket, empty_package_group
from operations.inventory import DeployedStack
from operations.kept_resources import kept_resources
from operations.progress import CommandError, Steps
from operations.stack_deletion import StackDeletion
from operations.target import Target
from tests.support.recorded_aws import RecordedAccount, Refusal

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


@pytest.fixture
def s3() -> Iterator[Any]:
    with mock_aws():
        yield boto3.client("s3", "us-east-1", aws_access_key_id="x", aws_secret_access_key="x")


def test_a_bucket_loses_versions_delete_markers_and_unfinished_uploads(s3: Any) -> None:
    s3.create_bucket(Bucket="full")
    s3.put_bucket_versioning(Bucket="full", VersioningConfiguration={"Status": "Enabled"})
    for _ in range(3):
        s3.put_object(Bucket="full", Key="a", Body=b"x")
    s3.put_object(Bucket="full", Key="b", Body=b"x")
    s3.delete_object(Bucket="full", Key="b")
    s3.create_multipart_upload(Bucket="full", Key="c")

    assert empty_bucket(s3, "full") == 5
    s3.delete_bucket(Bucket="full")  # which S3 refuses while it holds anything
    assert empty_bucket(s3, "full") == 0, "one that is gone is empty"


def test_more_objects_than_one_call_takes(s3: Any) -> None:
    s3.create_bucket(Bucket="many")
    for number in range(1001):
        s3.put_object(Bucket="many", Key=f"{number}", Body=b"")

    assert empty_bucket(s3, "many") == 1001


def test_an_object_that_s3_keeps_is_one_sentence() -> None:
    locked = {"Errors": [{"Key": "a", "Code": "AccessDenied", "Message": "object is WORM protected"}]}
    recorded = RecordedAccount(
        {"s3.ListObjectVersions": {"Versions": [{"Key": "a", "VersionId": "1"}]}, "s3.DeleteObjects": locked}
    )
    with pytest.raises(CommandError, match="1 objects of held, a for example: object is WORM protected"):
        empty_bucket(recorded.client("s3"), "held")


def test_the_packages_of_a_group_are_deleted_page_by_page() -> None:
    left = [f"arn:aws:sagemaker:us-east-1:111122223333:model-package/prod/{number}" for number in range(3)]

    def listed(_: dict[str, Any]) -> dict[str, Any]:
        shown = [
            {"ModelPackageArn": arn, "CreationTime": NOON, "ModelPackageStatus": "Completed"}
            for arn in left[:2]
        ]
        return {"ModelPackageSummaryList": shown}

    def deleted(asked: dict[str, Any]) -> dict[str, Any]:
        left.remove(asked["ModelPackageName"])
        return {}

    recorded = RecordedAccount(
        {"sagemaker.ListModelPackages": listed, "sagemaker.DeleteModelPackage": deleted}
    )

    assert empty_package_group(recorded.client("sagemaker"), "prod") == 3
    assert left == []


def deployed(part: str, status: str = "CREATE_COMPLETE", **more: Any) -> DeployedStack:
    name = f"evergreen-dev-{part}"
    description = {"StackName": name, "StackId": f"arn:{name}", "StackStatus": status, "CreationTime": NOON}
    return DeployedStack(name, part, "us-east-1", status, description | more)


def planned(part: str, imports: str = "", exports: str = "") -> PlannedStack:
    return PlannedStack(deployed(part), (), frozenset(imports.split()), frozenset(exports.split()))


def test_who_imports_goes_before_who_exports_then_the_data_and_the_roles_last() -> None:
    stacks = [
        planned("data", exports="bucket key"),
        planned("monitoring", exports="topic"),
        planned("serving", imports="bucket", exports="endpoint"),
        planned("gateway", imports="endpoint key"),
        planned("refresh", imports="topic key"),
        planned("a-later-one", imports="key", exports="later"),
        planned("z-needs-it", imports="later"),
        planned("serving-bootstrap"),
    ]

    order = [one.stack.part for one in deletion_order(stacks)]

    assert order.index("z-needs-it") < order.index("a-later-one")
    # CloudFormation deletes the serving stack under the role that the last one holds.
    assert order[-4:] == ["monitoring", "serving", "data", "serving-bootstrap"]


def test_the_deployed_template_says_what_is_kept() -> None:
    template = {
        "Resources": {
            "Bucket": {"Type": "AWS::S3::Bucket", "DeletionPolicy": "Delete"},
            "Plain": {"Type": "AWS::S3::Bucket"},
            "Table": {"Type": "AWS::DynamoDB::Table", "DeletionPolicy": "Retain"},
            "Logs": {"Type": "AWS::Logs::LogGroup", "DeletionPolicy": "RetainExceptOnCreate"},
        },
        "Other": [{"Fn::Join": ["", [{"Fn::ImportValue": "evergreen-dev-data:Key"}]]}],
    }
    resources = [
        {
            "LogicalResourceId": name,
            "PhysicalResourceId": name.lower(),
            "ResourceType": resource["Type"],
            "LastUpdatedTimestamp": NOON,
            "ResourceStatus": "CREATE_COMPLETE",
        }
        for name, resource in template["Resources"].items()  # type: ignore[attr-defined]
    ]
    recorded = RecordedAccount(
        {
            "cloudformation.GetTemplate": lambda _: {"TemplateBody": json.dumps(template)},
            "cloudformation.ListStackResources": {"StackResourceSummaries": resources},
        }
    )
    found = plan_stack(recorded.client("cloudformation"), deployed("data"))

    assert found.disposable("AWS::S3::Bucket") == ["bucket", "plain"]
    assert {one.logical_id for one in found.resources if one.kept} == {"Table", "Logs"}
    assert found.imports == {"evergreen-dev-data:Key"}


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load("dev")


def target_of(settings: Settings, recorded: RecordedAccount) -> Target:
    return Target(settings, recorded, "", {})  # type: ignore[arg-type]


class Cloud:
    """A stack that CloudFormation deletes once what is in the way is emptied or retained."""

    def __init__(self, stubborn: dict[str, int]) -> None:
        self.stubborn = stubborn  # logical id → tries after which it goes; a large number never
        self.status = "CREATE_COMPLETE"
        self.reason = "The bucket you tried to delete is not empty"
        self.requests: list[dict[str, Any]] = []

    def delete(self, asked: dict[str, Any]) -> dict[str, Any] | Refusal:
        if asked.get("RetainResources") and self.status != "DELETE_FAILED":
            return Refusal(
                "ValidationError", "Invalid operation on stack. Specify only resources that failed"
            )
        self.requests.append(asked)
        self.stubborn = {name: tries - 1 for name, tries in self.stubborn.items()}
        left = [
            n for n, tries in self.stubborn.items() if tries > 0 and n not in asked.get("RetainResources", [])
        ]
        self.status = "DELETE_FAILED" if left else "DELETE_COMPLETE"
        return {}

    def describe(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"Stacks": [dict(deployed("data", self.status).description)]}

    def resources(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {
            "StackResourceSummaries": [
                {
                    "LogicalResourceId": name,
                    "ResourceType": "AWS::S3::Bucket",
                    "LastUpdatedTimestamp": NOON,
                    "ResourceStatus": "DELETE_FAILED",
                }
                for name, tries in self.stubborn.items()
                if tries > 0
            ]
        }

    def events(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {
            "StackEvents": [
                {
                    "StackId": "arn:evergreen-dev-data",
                    "StackName": "evergreen-dev-data",
                    "EventId": name,
                    "LogicalResourceId": name,
                    "ResourceType": "AWS::S3::Bucket",
                    "ResourceStatus": "DELETE_FAILED",
                    "ResourceStatusReason": self.reason,
                    "Timestamp": NOON,
                }
                for name, tries in self.stubborn.items()
                if tries > 0
            ]
        }

    @property
    def account(self) -> RecordedAccount:
        return RecordedAccount(
            {
                "cloudformation.DeleteStack": self.delete,
                "cloudformation.DescribeStacks": self.describe,
                "cloudformation.ListStackResources": self.resources,
                "cloudformation.DescribeStackEvents": self.events,
                "s3.ListObjectVersions": {},
                "s3.ListMultipartUploads": {},
            }
        )


def data_stack(*buckets: str) -> PlannedStack:
    resources = tuple(
        PlannedResource("evergreen-dev-data", "us-east-1", name, "AWS::S3::Bucket", name.lower(), kept=False)
        for name in buckets
    )
    return PlannedStack(deployed("data"), resources, frozenset(), frozenset())


def delete(settings: Settings, cloud: Cloud, account: RecordedAccount) -> Any:
    deletion = StackDeletion(target_of(settings, account), lambda line: None, sleep=lambda seconds: None)
    return deletion.delete(data_stack(*cloud.stubborn))


def test_a_bucket_that_logs_reached_meanwhile_is_emptied_once_more(settings: Settings) -> None:
    cloud = Cloud({"AccessLogs": 2})
    account = cloud.account
    done = delete(settings, cloud, account)

    assert done.left == {}
    assert len(account.made("s3.ListObjectVersions")) == 2
    assert not any("RetainResources" in asked for asked in cloud.requests)


def test_what_cannot_be_deleted_is_left_behind_and_named_and_the_stack_goes(settings: Settings) -> None:
    cloud = Cloud({"AccessLogs": 99, "Artefacts": 2})
    done = delete(settings, cloud, cloud.account)

    assert done.left == {"AccessLogs (AWS::S3::Bucket) accesslogs": cloud.reason}
    assert cloud.requests[-1]["RetainResources"] == ["AccessLogs"]
    assert cloud.status == "DELETE_COMPLETE"


def test_a_stack_that_an_earlier_run_left_in_delete_failed_is_taken_up(settings: Settings) -> None:
    cloud = Cloud({"AccessLogs": 99})
    cloud.status = "DELETE_FAILED"

    assert delete(settings, cloud, cloud.account).left


def test_termination_protection_stops_everything_before_anything_goes(settings: Settings) -> None:
    stacks = [
        dict(deployed("gateway").description),
        {**deployed("data").description, "EnableTerminationProtection": True},
    ]
    recorded = RecordedAccount({"cloudformation.DescribeStacks": {"Stacks": stacks}})

    with pytest.raises(CommandError, match=r"evergreen-dev-data.*Nothing was deleted"):
        plan(target_of(settings, recorded))
    assert {name for name, _ in recorded.calls} == {"cloudformation.DescribeStacks"}


@pytest.mark.parametrize("answer", ["", "y", "yes", "prod", "DEV"])
def test_another_word_than_the_name_deletes_nothing(answer: str) -> None:
    with pytest.raises(CommandError, match="nothing was deleted"):
        confirm("dev", lambda prompt: answer)


def test_the_name_or_nobody() -> None:
    confirm("dev", lambda prompt: " dev ")

    def nobody(prompt: str) -> str:
        raise EOFError

    with pytest.raises(CommandError, match="ARGS=--yes"):
        confirm("dev", nobody)


def test_running_releases_are_stopped_and_a_machine_that_is_gone_has_none(settings: Settings) -> None:
    def listed(asked: dict[str, Any]) -> dict[str, Any] | Refusal:
        if asked["stateMachineArn"] == "gone":
            return Refusal("StateMachineDoesNotExist")
        execution = {"executionArn": "arn:execution:1", "stateMachineArn": "arn:refresh", "name": "1"}
        return {"executions": [execution | {"status": "RUNNING", "startDate": NOON}]}

    recorded = RecordedAccount(
        {"stepfunctions.ListExecutions": listed, "stepfunctions.StopExecution": {"stopDate": NOON}}
    )
    machines = tuple(
        PlannedResource(
            "evergreen-dev-refresh", "us-east-1", arn, "AWS::StepFunctions::StateMachine", arn, False
        )
        for arn in ("gone", "arn:refresh")
    )
    stack = PlannedStack(deployed("refresh"), machines, frozenset(), frozenset())

    assert stop_releases(target_of(settings, recorded), [stack]) == 1
    assert recorded.made("stepfunctions.StopExecution")[0]["executionArn"] == "arn:execution:1"


def test_what_is_kept_is_named_with_its_price(settings: Settings) -> None:
    def resource(kind: str, name: str) -> PlannedResource:
        return PlannedResource("evergreen-dev-data", "us-east-1", name, kind, name, kept=True)

    recorded = RecordedAccount(
        {
            "s3.ListObjectVersions": {"Versions": [{"Key": "a", "VersionId": "1", "Size": 200_000_000_000}]},
            "dynamodb.DescribeTable": Refusal("AccessDeniedException"),
            "logs.DescribeLogGroups": {
                "logGroups": [{"logGroupName": "/x", "storedBytes": 10**10}, {"logGroupName": "/xy"}]
            },
        }
    )
    kept = kept_resources(
        target_of(settings, recorded),
        [
            resource("AWS::KMS::Key", "key-1"),
            resource("AWS::S3::Bucket", "models"),
            resource("AWS::Logs::LogGroup", "/x"),
            resource("AWS::DynamoDB::Table", "ledger"),
            resource("AWS::S3::BucketPolicy", "policy"),
        ],
    )
    shown = describe(target_of(settings, recorded), [], kept)

    # 1 key, 200 GB in S3 at 0.023, 10 GB of logs at 0.03
    assert "about 5.90 USD a month and what could not be read" in shown
    assert "4.60 USD  bucket, 200.00 GB" in shown
    assert "? USD  could not be read          ledger" in shown
    assert "policy" not in shown


def test_an_empty_environment_ends_at_once(settings: Settings, tmp_path: Path) -> None:
    assert destroy(target_of(settings, RecordedAccount({})), [], Steps(tmp_path)) == {}
