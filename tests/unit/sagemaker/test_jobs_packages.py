"""Model package groups and packages: numbered versions, approval, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from local.sagemaker.errors import AwsApiError
from tests.support.sagemaker import RecordedCloud, SageMakerHarness, build

ARN = "arn:aws:sagemaker:us-east-1:123456789012:model-package"
SPECIFICATION = {
    "Containers": [{"Image": "registry/repository:1"}],
    "SupportedContentTypes": ["application/json"],
    "SupportedResponseMIMETypes": ["application/json"],
}


@pytest.fixture
def harness(tmp_path: Path) -> SageMakerHarness:
    cloud = RecordedCloud()
    harness = SageMakerHarness(build(tmp_path, cloud), cloud)
    harness.call("CreateModelPackageGroup", ModelPackageGroupName="support")
    return harness


def create(harness: SageMakerHarness, **changes: Any) -> str:
    request = {"ModelPackageGroupName": "support", "InferenceSpecification": SPECIFICATION} | changes
    return str(harness.call("CreateModelPackage", **request)["ModelPackageArn"])


def test_versions_are_numbered_and_never_reused(harness: SageMakerHarness) -> None:
    assert [create(harness) for _ in range(2)] == [f"{ARN}/support/1", f"{ARN}/support/2"]
    harness.call("DeleteModelPackage", ModelPackageName=f"{ARN}/support/2")
    assert create(harness) == f"{ARN}/support/3"
    listed = harness.call("ListModelPackages", ModelPackageGroupName="support", SortOrder="Ascending")
    assert [package["ModelPackageVersion"] for package in listed["ModelPackageSummaryList"]] == [1, 3]


def test_a_package_tells_what_it_was_made_of(harness: SageMakerHarness) -> None:
    quality = {"Statistics": {"ContentType": "application/json", "S3Uri": "s3://b/report.json"}}
    arn = create(harness, ModelMetrics={"ModelQuality": quality}, CustomerMetadataProperties={"data": "1"})
    found = harness.call("DescribeModelPackage", ModelPackageName=arn)
    assert found["ModelMetrics"] == {"ModelQuality": quality}
    # As in the developer guide's example of a version; a name of its own has only a package without a group.
    assert "ModelPackageName" not in found
    assert (found["ModelPackageGroupName"], found["CertifyForMarketplace"]) == ("support", False)
    assert found["ModelApprovalStatus"] == "PendingManualApproval"
    assert found["ModelPackageStatus"] == "Completed"


def test_approval_and_metadata_change_and_are_told(harness: SageMakerHarness) -> None:
    arn = create(harness, CustomerMetadataProperties={"data": "1", "code": "2"})
    harness.call(
        "UpdateModelPackage",
        ModelPackageArn=arn,
        ModelApprovalStatus="Approved",
        ApprovalDescription="better by 3 points",
        CustomerMetadataProperties={"run": "3"},
        CustomerMetadataPropertiesToRemove=["code"],
    )
    found = harness.call("DescribeModelPackage", ModelPackageName=arn)
    assert found["ApprovalDescription"] == "better by 3 points"
    assert found["CustomerMetadataProperties"] == {"data": "1", "run": "3"}
    told = [(name, detail["ModelApprovalStatus"]) for name, detail in harness.cloud.events]
    event = "SageMaker Model Package State Change"
    assert told == [(event, "PendingManualApproval"), (event, "Approved")]
    assert harness.cloud.events[-1][1]["ModelPackageVersion"] == 1
    approved = harness.call(
        "ListModelPackages", ModelPackageGroupName="support", ModelApprovalStatus="Approved"
    )
    assert len(approved["ModelPackageSummaryList"]) == 1


def test_several_versions_are_described_at_once(harness: SageMakerHarness) -> None:
    arns = [create(harness, ModelPackageDescription=str(number)) for number in range(3)]
    found = harness.call("BatchDescribeModelPackage", ModelPackageArnList=[*arns[1:], f"{ARN}/support/9"])
    described = {arn: each["ModelPackageDescription"] for arn, each in found["ModelPackageSummaries"].items()}
    assert described == {arns[1]: "1", arns[2]: "2"}
    assert "ModelPackageName" not in found["ModelPackageSummaries"][arns[1]]
    (problem,) = found["BatchDescribeModelPackageErrorMap"].items()
    assert problem[0] == f"{ARN}/support/9"
    assert "does not exist" in problem[1]["ErrorResponse"]
    assert "BatchDescribeModelPackageErrorMap" not in harness.call(
        "BatchDescribeModelPackage", ModelPackageArnList=arns
    )


def test_the_same_token_makes_one_package(harness: SageMakerHarness) -> None:
    assert create(harness, ClientToken="once") == create(harness, ClientToken="once")
    assert create(harness, ClientToken="twice") == f"{ARN}/support/2"


def test_a_package_without_a_group_has_no_versions(harness: SageMakerHarness) -> None:
    arn = create(harness, ModelPackageGroupName=None, ModelPackageName="alone")
    assert arn == f"{ARN}/alone"
    found = harness.call("DescribeModelPackage", ModelPackageName="alone")
    assert found["ModelPackageName"] == "alone"
    assert "ModelApprovalStatus" not in found
    listed = harness.call("ListModelPackages")["ModelPackageSummaryList"]
    assert [package["ModelPackageName"] for package in listed] == ["alone"]


def test_groups(harness: SageMakerHarness) -> None:
    create(harness)
    with pytest.raises(AwsApiError, match="still has model packages") as refused:
        harness.call("DeleteModelPackageGroup", ModelPackageGroupName="support")
    assert refused.value.code == "ConflictException"
    group = harness.call("DescribeModelPackageGroup", ModelPackageGroupName="support")
    assert group["ModelPackageGroupStatus"] == "Completed"
    assert "LastVersion" not in group
    harness.call("DeleteModelPackage", ModelPackageName=f"{ARN}/support/1")
    harness.call("DeleteModelPackageGroup", ModelPackageGroupName="support")
    assert harness.call("ListModelPackageGroups")["ModelPackageGroupSummaryList"] == []


REFUSED = [
    ("CreateModelPackageGroup", {"ModelPackageGroupName": "support"}, "already exists"),
    ("DescribeModelPackageGroup", {"ModelPackageGroupName": "nobody"}, "does not exist"),
    ("DescribeModelPackage", {"ModelPackageName": f"{ARN}/support/9"}, "does not exist"),
    ("DeleteModelPackage", {"ModelPackageName": f"{ARN}/support/9"}, "does not exist"),
    ("UpdateModelPackage", {"ModelPackageArn": f"{ARN}/support/9"}, "does not exist"),
    ("CreateModelPackage", {"InferenceSpecification": SPECIFICATION}, "either ModelPackageName or"),
    ("CreateModelPackage", {"ModelPackageGroupName": "support"}, "InferenceSpecification or SourceUri"),
    (
        "CreateModelPackage",
        {"ModelPackageGroupName": "nobody", "InferenceSpecification": SPECIFICATION},
        "does not exist",
    ),
    (
        "CreateModelPackage",
        {"ModelPackageGroupName": "support", "SourceUri": "s3://b/x", "ModelApprovalStatus": "Perhaps"},
        "enum value set",
    ),
]


@pytest.mark.parametrize(("operation", "request_", "reason"), REFUSED)
def test_refused(harness: SageMakerHarness, operation: str, request_: dict[str, Any], reason: str) -> None:
    with pytest.raises(AwsApiError, match=reason) as refused:
        harness.call(operation, **request_)
    assert refused.value.code == "ValidationException"


def test_what_a_policy_is_asked_for(harness: SageMakerHarness) -> None:
    def asked(operation: str, body: bytes) -> list[str]:
        return list(harness.sagemaker.control.resources(f"SageMaker.{operation}", body))

    group = "arn:aws:sagemaker:us-east-1:123456789012:model-package-group/support"
    assert asked("CreateModelPackage", b'{"ModelPackageGroupName": "support"}') == [group]
    update = f'{{"ModelPackageArn": "{ARN}/support/1"}}'.encode()
    assert asked("UpdateModelPackage", update) == [f"{ARN}/support/1"]
    several = f'{{"ModelPackageArnList": ["{ARN}/support/1", "{ARN}/support/2"]}}'.encode()
    assert asked("BatchDescribeModelPackage", several) == [f"{ARN}/support/1", f"{ARN}/support/2"]
