"""Records without processes: describing, listing, tagging, keeping."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from local.sagemaker.errors import AwsApiError
from tests.support.sagemaker import IMAGE, ROLE, RecordedCloud, SageMakerHarness, build, variant

ARN = "arn:aws:sagemaker:us-east-1:123456789012"


@pytest.fixture
def harness(tmp_path: Path) -> SageMakerHarness:
    cloud = RecordedCloud()
    return SageMakerHarness(build(tmp_path, cloud), cloud)


def names(harness: SageMakerHarness, **request: object) -> list[str]:
    return [each["ModelName"] for each in harness.call("ListModels", **request)["Models"]]


def test_a_model_is_described_as_it_was_made(harness: SageMakerHarness) -> None:
    container = {"Image": IMAGE, "Environment": {"A": "b"}}
    answer = harness.call(
        "CreateModel", ModelName="My-Model", ExecutionRoleArn=ROLE, PrimaryContainer=container
    )
    assert answer == {"ModelArn": f"{ARN}:model/my-model"}
    described = harness.call("DescribeModel", ModelName="My-Model")
    assert described["ModelName"] == "My-Model"
    assert described["PrimaryContainer"] == container
    assert described["EnableNetworkIsolation"] is False


def test_a_configuration_has_the_default_weight(harness: SageMakerHarness) -> None:
    harness.model("m")
    harness.config("c", variant())
    described = harness.call("DescribeEndpointConfig", EndpointConfigName="c")
    assert described["ProductionVariants"][0]["InitialVariantWeight"] == 1.0


def test_lists_are_sorted_filtered_and_paged(harness: SageMakerHarness) -> None:
    for name in ("b1", "a2", "b3", "a4", "b5"):
        harness.model(name)
    for created, name in enumerate(("b1", "a2", "b3", "a4", "b5"), start=100):
        harness.sagemaker.store.models.get(name)["CreationTime"] = float(created)
    assert names(harness) == ["b5", "a4", "b3", "a2", "b1"]
    assert names(harness, SortOrder="Ascending") == ["b1", "a2", "b3", "a4", "b5"]
    assert names(harness, SortBy="Name", SortOrder="Ascending") == ["a2", "a4", "b1", "b3", "b5"]
    assert names(harness, NameContains="B") == ["b5", "b3", "b1"]
    assert names(harness, CreationTimeAfter=101.0, CreationTimeBefore="1970-01-01T00:01:44Z") == ["a4", "b3"]
    pages, token = [], None
    while True:
        more = {"NextToken": token} if token else {}
        answer = harness.call("ListModels", MaxResults=2, **more)
        pages.append([each["ModelName"] for each in answer["Models"]])
        token = answer.get("NextToken")
        if not token:
            break
    assert pages == [["b5", "a4"], ["b3", "a2"], ["b1"]]


@pytest.mark.parametrize("token", ["%%%", "LTU=", "YWJj"])
def test_a_made_up_token_is_refused(harness: SageMakerHarness, token: str) -> None:
    with pytest.raises(AwsApiError, match="Invalid NextToken"):
        harness.call("ListModels", NextToken=token)


def test_tags_come_and_go(harness: SageMakerHarness) -> None:
    harness.call(
        "CreateModel",
        ModelName="m",
        ExecutionRoleArn=ROLE,
        PrimaryContainer={"Image": IMAGE},
        Tags=[{"Key": "team", "Value": "a"}],
    )
    arn = f"{ARN}:model/m"
    harness.call("AddTags", ResourceArn=arn, Tags=[{"Key": "team", "Value": "b"}, {"Key": "x", "Value": "y"}])
    assert harness.call("ListTags", ResourceArn=arn)["Tags"] == [
        {"Key": "team", "Value": "b"},
        {"Key": "x", "Value": "y"},
    ]
    harness.call("DeleteTags", ResourceArn=arn, TagKeys=["team", "never-there"])
    assert harness.call("ListTags", ResourceArn=arn)["Tags"] == [{"Key": "x", "Value": "y"}]
    harness.call("DeleteModel", ModelName="m")
    with pytest.raises(AwsApiError, match="Could not find resource"):
        harness.call("ListTags", ResourceArn=arn)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ([{"Key": "aws:x", "Value": ""}], "reserved"),
        ([{"Key": str(index), "Value": ""} for index in range(50)], "at most 50"),
    ],
)
def test_tags_that_aws_refuses(harness: SageMakerHarness, tags: list, words: str) -> None:
    harness.model("m")
    arn = f"{ARN}:model/m"
    harness.call("AddTags", ResourceArn=arn, Tags=[{"Key": "one", "Value": ""}])
    with pytest.raises(AwsApiError, match=words):
        harness.call("AddTags", ResourceArn=arn, Tags=tags)


def test_records_survive_as_json(harness: SageMakerHarness, tmp_path: Path) -> None:
    harness.model("m")
    harness.config("c", variant())
    kept = json.loads(json.dumps(harness.sagemaker.dump()))
    cloud = RecordedCloud()
    restored = SageMakerHarness(build(tmp_path / "again", cloud), cloud)
    restored.sagemaker.load(kept)
    for operation, request in (
        ("DescribeModel", {"ModelName": "m"}),
        ("DescribeEndpointConfig", {"EndpointConfigName": "c"}),
    ):
        assert restored.call(operation, **request) == harness.call(operation, **request)


def test_the_arns_a_request_touches(harness: SageMakerHarness) -> None:
    def touched(operation: str, request: object) -> list[str]:
        body = json.dumps(request).encode()
        return list(harness.sagemaker.control.resources(f"SageMaker.{operation}", body))

    assert touched("UpdateEndpoint", {"EndpointName": "E", "EndpointConfigName": "c"}) == [
        f"{ARN}:endpoint/e",
        f"{ARN}:endpoint-config/c",
    ]
    assert touched("DescribeModel", {"ModelName": "m"}) == [f"{ARN}:model/m"]
    assert touched("ListModels", {"NameContains": "m"}) == ["*"]
    assert touched("AddTags", {"ResourceArn": f"{ARN}:model/m"}) == [f"{ARN}:model/m"]
    assert touched("CreateModel", []) == ["*"]
    assert harness.sagemaker.control.resources("SageMaker.CreateModel", b"{") == ("*",)
