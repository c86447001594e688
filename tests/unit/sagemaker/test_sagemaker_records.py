"""Records without processes: describing, listing, tagging, keeping."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from local.sagemaker.errors import ApiError
from tests.support.sagemaker import IMAGE, ROLE, Bench, RecordedCloud, build, variant

ARN = "arn:aws:sagemaker:us-east-1:123456789012"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    cloud = RecordedCloud()
    return Bench(build(tmp_path, cloud), cloud)


def names(bench: Bench, **request: object) -> list[str]:
    return [each["ModelName"] for each in bench.call("ListModels", **request)["Models"]]


def test_a_model_is_described_as_it_was_made(bench: Bench) -> None:
    container = {"Image": IMAGE, "Environment": {"A": "b"}}
    answer = bench.call(
        "CreateModel", ModelName="My-Model", ExecutionRoleArn=ROLE, PrimaryContainer=container
    )
    assert answer == {"ModelArn": f"{ARN}:model/my-model"}
    described = bench.call("DescribeModel", ModelName="My-Model")
    assert described["ModelName"] == "My-Model"
    assert described["PrimaryContainer"] == container
    assert described["EnableNetworkIsolation"] is False


def test_a_configuration_has_the_default_weight(bench: Bench) -> None:
    bench.model("m")
    bench.config("c", variant())
    described = bench.call("DescribeEndpointConfig", EndpointConfigName="c")
    assert described["ProductionVariants"][0]["InitialVariantWeight"] == 1.0


def test_lists_are_sorted_filtered_and_paged(bench: Bench) -> None:
    for name in ("b1", "a2", "b3", "a4", "b5"):
        bench.model(name)
    for created, name in enumerate(("b1", "a2", "b3", "a4", "b5"), start=100):
        bench.sagemaker.store.models.get(name)["CreationTime"] = float(created)
    assert names(bench) == ["b5", "a4", "b3", "a2", "b1"]
    assert names(bench, SortOrder="Ascending") == ["b1", "a2", "b3", "a4", "b5"]
    assert names(bench, SortBy="Name", SortOrder="Ascending") == ["a2", "a4", "b1", "b3", "b5"]
    assert names(bench, NameContains="B") == ["b5", "b3", "b1"]
    assert names(bench, CreationTimeAfter=101.0, CreationTimeBefore="1970-01-01T00:01:44Z") == ["a4", "b3"]
    pages, token = [], None
    while True:
        more = {"NextToken": token} if token else {}
        answer = bench.call("ListModels", MaxResults=2, **more)
        pages.append([each["ModelName"] for each in answer["Models"]])
        token = answer.get("NextToken")
        if not token:
            break
    assert pages == [["b5", "a4"], ["b3", "a2"], ["b1"]]


@pytest.mark.parametrize("token", ["%%%", "LTU=", "YWJj"])
def test_a_made_up_token_is_refused(bench: Bench, token: str) -> None:
    with pytest.raises(ApiError, match="Invalid NextToken"):
        bench.call("ListModels", NextToken=token)


def test_tags_come_and_go(bench: Bench) -> None:
    bench.call(
        "CreateModel",
        ModelName="m",
        ExecutionRoleArn=ROLE,
        PrimaryContainer={"Image": IMAGE},
        Tags=[{"Key": "team", "Value": "a"}],
    )
    arn = f"{ARN}:model/m"
    bench.call("AddTags", ResourceArn=arn, Tags=[{"Key": "team", "Value": "b"}, {"Key": "x", "Value": "y"}])
    assert bench.call("ListTags", ResourceArn=arn)["Tags"] == [
        {"Key": "team", "Value": "b"},
        {"Key": "x", "Value": "y"},
    ]
    bench.call("DeleteTags", ResourceArn=arn, TagKeys=["team", "never-there"])
    assert bench.call("ListTags", ResourceArn=arn)["Tags"] == [{"Key": "x", "Value": "y"}]
    bench.call("DeleteModel", ModelName="m")
    with pytest.raises(ApiError, match="Could not find resource"):
        bench.call("ListTags", ResourceArn=arn)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ([{"Key": "aws:x", "Value": ""}], "reserved"),
        ([{"Key": str(index), "Value": ""} for index in range(50)], "at most 50"),
    ],
)
def test_tags_that_aws_refuses(bench: Bench, tags: list, words: str) -> None:
    bench.model("m")
    arn = f"{ARN}:model/m"
    bench.call("AddTags", ResourceArn=arn, Tags=[{"Key": "one", "Value": ""}])
    with pytest.raises(ApiError, match=words):
        bench.call("AddTags", ResourceArn=arn, Tags=tags)


def test_records_survive_as_json(bench: Bench, tmp_path: Path) -> None:
    bench.model("m")
    bench.config("c", variant())
    kept = json.loads(json.dumps(bench.sagemaker.dump()))
    cloud = RecordedCloud()
    restored = Bench(build(tmp_path / "again", cloud), cloud)
    restored.sagemaker.load(kept)
    for operation, request in (
        ("DescribeModel", {"ModelName": "m"}),
        ("DescribeEndpointConfig", {"EndpointConfigName": "c"}),
    ):
        assert restored.call(operation, **request) == bench.call(operation, **request)


def test_the_arns_a_request_touches(bench: Bench) -> None:
    def touched(operation: str, request: object) -> list[str]:
        body = json.dumps(request).encode()
        return list(bench.sagemaker.control.resources(f"SageMaker.{operation}", body))

    assert touched("UpdateEndpoint", {"EndpointName": "E", "EndpointConfigName": "c"}) == [
        f"{ARN}:endpoint/e",
        f"{ARN}:endpoint-config/c",
    ]
    assert touched("DescribeModel", {"ModelName": "m"}) == [f"{ARN}:model/m"]
    assert touched("ListModels", {"NameContains": "m"}) == ["*"]
    assert touched("AddTags", {"ResourceArn": f"{ARN}:model/m"}) == [f"{ARN}:model/m"]
    assert touched("CreateModel", []) == ["*"]
    assert bench.sagemaker.control.resources("SageMaker.CreateModel", b"{") == ("*",)
