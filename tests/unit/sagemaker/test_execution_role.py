"""What SageMaker does in a role's name needs the role's right: without it, it fails where AWS fails."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from local.sagemaker.execution_role import ExecutionRole, ExecutionRoleError
from local.sagemaker.object_keys import ask_keys
from tests.support.sagemaker import (
    IDENTITY,
    ROLE,
    RecordedCloud,
    SageMakerHarness,
    component,
    eventually,
    host,
    running,
    scenario,
    serverless,
    variant,
)
from tests.support.sagemaker_jobs import (
    JobHarness,
    job_scenario,
    processing_request,
    running_jobs,
)

PULL = ("GetAuthorizationToken", "BatchGetImage", "GetDownloadUrlForLayer", "BatchCheckLayerAvailability")
VOLUME = ("kms:CreateGrant", "kms:DescribeKey")
KEY = "arn:aws:kms:us-east-1:123456789012:key/volumes"
GUARDED = {
    "BlueGreenUpdatePolicy": {
        "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}
    },
    "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "errors"}]},
}


async def created(folder: Path, *denied: str, **config: Any) -> dict[str, Any]:
    """An endpoint whose role lacks something."""
    cloud = RecordedCloud(denied=set(denied))
    async with running(folder, cloud) as harness:
        harness.model("m")
        harness.config("c", config.pop("variant", variant()), **config)
        return await harness.endpoint()


@pytest.mark.parametrize("kind", [variant(), serverless()])
@pytest.mark.parametrize("verb", PULL)
def test_an_image_that_the_role_may_not_pull_fails_the_endpoint(
    tmp_path: Path, verb: str, kind: dict[str, Any]
) -> None:
    found = asyncio.run(created(tmp_path, f"ecr:{verb}", variant=kind))

    assert found["EndpointStatus"] == "Failed"
    assert found["FailureReason"].startswith(f"The role '{ROLE}' does not have {verb} permission")


@pytest.mark.parametrize("action", VOLUME)
def test_a_volume_whose_key_the_role_may_not_use_fails_the_endpoint(tmp_path: Path, action: str) -> None:
    found = asyncio.run(created(tmp_path, action, KmsKeyId=KEY))

    assert found["EndpointStatus"] == "Failed"
    assert f"execution/SageMaker is not authorized to perform: {action} on" in found["FailureReason"]
    assert asyncio.run(created(tmp_path, action))["EndpointStatus"] == "InService"  # no key, no question


@pytest.mark.parametrize("action", VOLUME)
def test_instances_for_components_have_volumes_too(tmp_path: Path, action: str) -> None:
    found = asyncio.run(created(tmp_path, action, variant=host(), KmsKeyId="volumes", ExecutionRoleArn=ROLE))

    assert found["EndpointStatus"] == "Failed"
    assert f"{action} on resource: {KEY}" in found["FailureReason"]


@scenario
async def test_an_update_whose_alarms_the_role_may_not_see_goes_back(harness: SageMakerHarness) -> None:
    for name in ("c", "d"):
        harness.model(name)
        harness.config(name, variant(model=name))
    await harness.endpoint()
    harness.cloud.denied = {"cloudwatch:DescribeAlarms"}
    update = {"EndpointName": "e", "EndpointConfigName": "d"}

    harness.call("UpdateEndpoint", **update, DeploymentConfig=GUARDED)
    found = await harness.settled()

    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", "c")
    assert "cloudwatch:DescribeAlarms on resource: arn:aws:cloudwatch:" in found["FailureReason"]
    harness.call("UpdateEndpoint", **update)  # without alarms there is nothing to see
    assert (await harness.settled())["EndpointConfigName"] == "d"


@scenario
async def test_a_component_whose_alarms_the_role_may_not_see_keeps_its_copies(
    harness: SageMakerHarness,
) -> None:
    harness.config("c", host(), ExecutionRoleArn=ROLE)
    await harness.endpoint()
    await harness.component("alpha")
    harness.cloud.denied = {"cloudwatch:DescribeAlarms"}
    rolling = {
        "RollingUpdatePolicy": {
            "MaximumBatchSize": {"Type": "COPY_COUNT", "Value": 1},
            "WaitIntervalInSeconds": 0,
        },
        "AutoRollbackConfiguration": GUARDED["AutoRollbackConfiguration"],
    }

    harness.call(
        "UpdateInferenceComponent",
        InferenceComponentName="alpha",
        Specification=component("beta")["Specification"],
        DeploymentConfig=rolling,
    )
    found = await harness.component_settled("alpha")

    assert "cloudwatch:DescribeAlarms" in found["FailureReason"]
    answer = await harness.invoke(X_Amzn_SageMaker_Inference_Component="alpha")
    assert b"alpha" in answer.body


@pytest.mark.parametrize(
    ("denied", "groups", "arrive"),
    [
        (set(), set(), True),
        ({"logs:PutLogEvents"}, {"/aws/sagemaker/Endpoints/e"}, False),
        ({"logs:CreateLogStream"}, {"/aws/sagemaker/Endpoints/e"}, False),
        ({"logs:CreateLogGroup"}, set(), False),
        ({"logs:CreateLogGroup"}, {"/aws/sagemaker/Endpoints/e"}, True),
        ({"logs:CreateLogGroup"}, {"/aws/sagemaker/Endpoints/other"}, False),
    ],
)
def test_lines_that_the_role_may_not_write_are_lost_and_nothing_else(
    tmp_path: Path, denied: set[str], groups: set[str], arrive: bool
) -> None:
    async def drive() -> list[str]:
        cloud = RecordedCloud(denied=denied, log_groups=groups)
        async with running(tmp_path, cloud) as harness:
            harness.model("m")
            harness.config("c", variant())
            assert (await harness.endpoint())["EndpointStatus"] == "InService"
            await harness.invoke(b'{"log": "said"}')
        return [line for _, _, line in cloud.lines]

    assert bool(asyncio.run(drive())) is arrive


@scenario
async def test_a_components_lines_are_asked_for_in_its_own_group(harness: SageMakerHarness) -> None:
    harness.config("c", host(), ExecutionRoleArn=ROLE)
    await harness.endpoint()
    await harness.component("alpha")

    def asked() -> set[str]:
        return {resource for action, resource, _ in harness.cloud.asked if action == "logs:PutLogEvents"}

    await eventually(lambda: bool(asked()), "the role is asked")
    prefix = "arn:aws:logs:us-east-1:123456789012:log-group:/aws/sagemaker/InferenceComponents/alpha:"
    assert all(resource.startswith(f"{prefix}log-stream:all/i-") for resource in asked())


def job(kind: str, denied: set[str], folder: Path, **cluster: Any) -> tuple[dict[str, Any], RecordedCloud]:
    """A job whose role lacks something, once it has ended."""

    async def drive() -> tuple[dict[str, Any], RecordedCloud]:
        async with running_jobs(folder) as harness:
            harness.cloud.denied = denied
            if kind == "Training":
                given = {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1} | cluster
                harness.train("j", "print('loss=1')", ResourceConfig=given)
                return await harness.trained("j"), harness.cloud
            request = processing_request("j", "/bin/echo", "hello")
            request["ProcessingResources"]["ClusterConfig"] |= cluster
            harness.call("CreateProcessingJob", **request)
            return await harness.processed("j"), harness.cloud

    return asyncio.run(drive())


@pytest.mark.parametrize("kind", ["Training", "Processing"])
@pytest.mark.parametrize("action", [*(f"ecr:{verb}" for verb in PULL), *VOLUME])
def test_a_job_fails_without_its_image_and_its_volume(tmp_path: Path, kind: str, action: str) -> None:
    found, _ = job(kind, {action}, tmp_path, VolumeKmsKeyId=KEY)

    assert found[f"{kind}JobStatus"] == "Failed"
    assert found["FailureReason"].startswith("ClientError: ")
    assert action.partition(":")[2] in found["FailureReason"]


@pytest.mark.parametrize("kind", ["Training", "Processing"])
@pytest.mark.parametrize("action", ["logs:PutLogEvents", "logs:CreateLogStream"])
def test_a_jobs_lines_are_lost_and_the_job_is_not(tmp_path: Path, kind: str, action: str) -> None:
    found, cloud = job(kind, {action}, tmp_path)

    assert found[f"{kind}JobStatus"] == "Completed"
    assert cloud.lines == []


@job_scenario
async def test_a_jobs_metrics_are_lost_and_the_job_is_not(harness: JobHarness) -> None:
    harness.cloud.denied = {"cloudwatch:PutMetricData"}
    definitions = [{"Name": "loss", "Regex": r"loss=([0-9.]+)"}]
    image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/python:1"
    algorithm = {"TrainingImage": image, "TrainingInputMode": "File", "MetricDefinitions": definitions}
    harness.train("j", "print('loss=1')", AlgorithmSpecification=algorithm)

    assert (await harness.trained("j"))["TrainingJobStatus"] == "Completed"
    assert [datum for _, datum in harness.cloud.metrics if datum["MetricName"] == "loss"] == []
    assert ("cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": "/aws/sagemaker/TrainingJobs"}) in (
        harness.cloud.asked
    )


def test_the_questions_name_what_aws_names() -> None:
    cloud = RecordedCloud()
    role = ExecutionRole(ROLE, cloud, IDENTITY)
    role.pull_image("763104351884.dkr.ecr.eu-west-1.amazonaws.com/vllm:server@sha256:0")
    role.open_volume("volumes")
    role.describe_alarms(["errors"])
    role.use_key("kms:Decrypt", "volumes", "s3")

    repository = "arn:aws:ecr:eu-west-1:763104351884:repository/vllm"
    assert cloud.asked == [
        ("ecr:GetAuthorizationToken", "*", {}),
        *((f"ecr:{verb}", repository, {}) for verb in PULL[1:]),
        ("kms:DescribeKey", KEY, {}),
        ("kms:CreateGrant", KEY, {"kms:GrantIsForAWSResource": "true"}),
        ("cloudwatch:DescribeAlarms", "arn:aws:cloudwatch:us-east-1:123456789012:alarm:errors", {}),
        ("kms:Decrypt", KEY, {"kms:ViaService": "s3.us-east-1.amazonaws.com"}),
    ]


@pytest.fixture
def bucket() -> Iterator[Any]:
    """moto's S3 with one encrypted object."""
    with mock_aws():
        s3 = boto3.client("s3", region_name="us-east-1")
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="o", Body=b"x", ServerSideEncryption="aws:kms", SSEKMSKeyId=KEY)
        s3.put_object(Bucket="bucket", Key="plain", Body=b"x")
        yield s3


def client(denied: str, default: str | None) -> Any:
    """A role's S3 client; the bucket's default key is `default`."""
    s3 = boto3.client("s3", region_name="us-east-1")
    ask_keys(s3, ExecutionRole(ROLE, RecordedCloud(denied={denied}), IDENTITY), lambda _: default)
    return s3


def test_an_object_is_read_by_whoever_may_use_its_key(bucket: Any) -> None:
    assert client("kms:GenerateDataKey", None).get_object(Bucket="bucket", Key="o")["Body"].read() == b"x"
    poor = client("kms:Decrypt", None)
    with pytest.raises(ClientError, match="not authorized to perform: kms:Decrypt") as caught:
        poor.get_object(Bucket="bucket", Key="o")
    assert caught.value.response["Error"]["Code"] == "AccessDenied"
    assert poor.get_object(Bucket="bucket", Key="plain")["Body"].read() == b"x"


@pytest.mark.parametrize(("given", "default"), [({"SSEKMSKeyId": KEY}, None), ({}, KEY)])
def test_an_object_is_written_by_whoever_may_use_the_key(
    bucket: Any, given: dict[str, str], default: str | None
) -> None:
    more = given | ({"ServerSideEncryption": "aws:kms"} if given else {})
    client("kms:Decrypt", default).put_object(Bucket="bucket", Key="n", Body=b"x", **more)
    with pytest.raises(ClientError, match="kms:GenerateDataKey"):
        client("kms:GenerateDataKey", default).put_object(Bucket="bucket", Key="n", Body=b"x", **more)
    with pytest.raises(ClientError, match="kms:Decrypt"):
        client("kms:Decrypt", default).create_multipart_upload(Bucket="bucket", Key="n", **more)
    client("kms:GenerateDataKey", None).put_object(Bucket="bucket", Key="n", Body=b"x")  # no key, no question


def test_a_refusal_is_an_error_of_its_own() -> None:
    role = ExecutionRole(ROLE, RecordedCloud(denied={"kms:Decrypt"}), IDENTITY)
    role.use_key("kms:Decrypt", "alias/aws/s3", "s3")  # a key of the service's own asks nothing
    with pytest.raises(ExecutionRoleError, match="no identity-based policy allows the kms:Decrypt action"):
        role.use_key("kms:Decrypt", "volumes", "s3")
