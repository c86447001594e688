"""SageMaker through its real front door: plain boto3 against a running emulator, IAM enforced.

The container here is a fake that starts at once (what `python -m model_code.serving` would be in a real
environment), so that these tests are about the service around it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.support.laptop import REPOSITORY, free_port
from tests.support.waiting import until

ACCOUNT, REGION = "123456789012", "us-east-1"
ENVIRONMENTS = Path(os.environ.get("EVERGREEN_VENVS", REPOSITORY / ".evergreen" / "venvs"))
CONTAINER = REPOSITORY / "tests" / "support" / "sagemaker_container.py"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/evergreen-serving:local"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "sagemaker.amazonaws.com"},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"aws:SourceAccount": ACCOUNT}},
        }
    ],
}
PATIENCE_SECONDS = 120.0


def allow(actions: list[str], resource: str | list[str]) -> str:
    statement = {"Effect": "Allow", "Action": actions, "Resource": resource}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


class Emulator:
    """One emulator process with a home of its own."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.port = free_port()
        self.venvs = folder / "venvs"
        for name in ("cloud", "lambda"):
            (self.venvs / name).parent.mkdir(parents=True, exist_ok=True)
            (self.venvs / name).symlink_to(ENVIRONMENTS / name)
        serving = self.venvs / "serving" / "bin" / "python"
        serving.parent.mkdir(parents=True)
        serving.write_text(f"#!/bin/sh\nexec {sys.executable} {CONTAINER}\n")
        serving.chmod(0o755)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [str(ENVIRONMENTS / "cloud" / "bin" / "python"), "-m", "local.cloud"]
        command += ["--home", str(self.home), "--port", str(self.port), "--venvs", str(self.venvs)]
        self.home.mkdir(exist_ok=True)
        with (self.home / "emulator.log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=log)
        until(self._ready, "the emulator is ready")

    def end(self, number: int = signal.SIGTERM) -> None:
        if self._process and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(PATIENCE_SECONDS)

    def _ready(self) -> bool:
        assert self._process.poll() is None, (self.home / "emulator.log").read_text()
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            url = f"http://127.0.0.1:{self.port}/_evergreen/health"
            return urllib.request.urlopen(url, timeout=5).status == 200
        return False

    def aws(self, service: str, **credentials: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name=REGION,
            config=Config(retries={"max_attempts": 0}, read_timeout=PATIENCE_SECONDS),
            **({"aws_access_key_id": ACCOUNT, "aws_secret_access_key": "local"} | credentials),
        )

    def role(self, name: str, policy: str | None = None) -> str:
        """An execution role that may pull images and log, with one inline policy if given; its ARN."""
        iam = self.aws("iam")
        with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):
            iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))
        service = allow(["ecr:*", "logs:*", "cloudwatch:DescribeAlarms"], "*")
        iam.put_role_policy(RoleName=name, PolicyName="service", PolicyDocument=service)
        if policy:
            iam.put_role_policy(RoleName=name, PolicyName="inline", PolicyDocument=policy)
        return f"arn:aws:iam::{ACCOUNT}:role/{name}"

    def endpoint(
        self, name: str, *, count: int = 1, role: str = "", data: str = "", **environment: str
    ) -> dict:
        """A model, a configuration and an endpoint of one name; DescribeEndpoint when it has settled."""
        sagemaker = self.aws("sagemaker")
        self.release(name, count=count, role=role, data=data, **environment)
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
        return self.settled(name)

    def release(
        self, name: str, *, count: int = 1, role: str = "", data: str = "", **environment: str
    ) -> None:
        container: dict[str, Any] = {"Image": IMAGE, "Environment": {"FAKE_NAME": name, **environment}}
        if data:
            source = {"S3Uri": data, "S3DataType": "S3Prefix", "CompressionType": "None"}
            container["ModelDataSource"] = {"S3DataSource": source}
        sagemaker = self.aws("sagemaker")
        sagemaker.create_model(
            ModelName=name, ExecutionRoleArn=role or self.role("plain"), PrimaryContainer=container
        )
        one = {"VariantName": "champion", "ModelName": name, "InstanceType": "ml.m5.large"}
        sagemaker.create_endpoint_config(
            EndpointConfigName=name, ProductionVariants=[one | {"InitialInstanceCount": count}]
        )

    def settled(self, name: str) -> dict[str, Any]:
        def described() -> dict[str, Any] | None:
            answer = self.aws("sagemaker").describe_endpoint(EndpointName=name)
            busy = answer["EndpointStatus"] in ("Creating", "Updating", "RollingBack", "SystemUpdating")
            return None if busy else answer

        return until(described, f"endpoint {name} settles")

    def invoke(self, name: str, order: dict[str, Any] | None = None, **more: str) -> dict[str, Any]:
        """InvokeEndpoint with the parsed body under `Answer`."""
        reply = self.aws("sagemaker-runtime").invoke_endpoint(
            EndpointName=name, Body=json.dumps(order or {}), ContentType="application/json", **more
        )
        return reply | {"Answer": json.loads(reply["Body"].read())}


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    cloud = Emulator(tmp_path_factory.mktemp("sagemaker"))
    cloud.start()
    yield cloud
    cloud.end()


def test_plain_boto3_invokes_and_streams(emulator: Emulator) -> None:
    assert emulator.endpoint("plain")["EndpointStatus"] == "InService"
    reply = emulator.invoke("plain", CustomAttributes="request_id=1", TargetVariant="champion")
    assert reply["Answer"]["name"] == "plain"
    assert reply["ContentType"] == "application/json"
    assert reply["InvokedProductionVariant"] == "champion"
    assert reply["CustomAttributes"] == "name=plain"
    stream = emulator.aws("sagemaker-runtime").invoke_endpoint_with_response_stream(
        EndpointName="plain", Body=b'{"chunks": 3}', ContentType="application/json"
    )
    assert stream["ContentType"] == "text/event-stream"
    parts = [event["PayloadPart"]["Bytes"] for event in stream["Body"]]
    assert b"".join(parts) == b"chunk 0\nchunk 1\nchunk 2\n"


def test_errors_arrive_as_botos_own_exceptions(emulator: Emulator) -> None:
    emulator.endpoint("errors")
    runtime, sagemaker = emulator.aws("sagemaker-runtime"), emulator.aws("sagemaker")
    with pytest.raises(runtime.exceptions.ModelError) as model:
        emulator.invoke("errors", {"status": 429, "reply": "busy"})
    assert model.value.response["OriginalStatusCode"] == 429
    assert model.value.response["OriginalMessage"] == "busy"
    assert model.value.response["ResponseMetadata"]["HTTPStatusCode"] == 424
    with pytest.raises(
        runtime.exceptions.ValidationError, match=f"Endpoint nope of account {ACCOUNT} not found"
    ):
        emulator.invoke("nope")
    with pytest.raises(ClientError, match="Could not find endpoint") as unknown:
        sagemaker.describe_endpoint(EndpointName="nope")
    assert unknown.value.response["Error"]["Code"] == "ValidationException"
    with pytest.raises(ClientError) as missing:
        sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName="x")
    assert missing.value.response["Error"]["Code"] == "UnknownOperationException"
    broken = runtime.invoke_endpoint_with_response_stream(
        EndpointName="errors", Body=b'{"chunks": 9, "break_at": 0}'
    )
    with pytest.raises(ClientError, match="ModelStreamError"):
        list(broken["Body"])


def test_a_leaving_client_stops_the_container_at_once(emulator: Emulator) -> None:
    emulator.endpoint("leaver")
    stream = emulator.aws("sagemaker-runtime").invoke_endpoint_with_response_stream(
        EndpointName="leaver", Body=b'{"chunks": 100000, "pause": 0.02}'
    )
    next(iter(stream["Body"]))
    stream["Body"].close()

    def noticed() -> bool:
        logs = emulator.aws("logs")
        events = logs.filter_log_events(logGroupName="/aws/sagemaker/Endpoints/leaver")["events"]
        return any("caller left at chunk" in event["message"] for event in events)

    until(noticed, "the container sees its caller leave")


def test_permissions_are_those_of_the_operation_on_the_endpoint(emulator: Emulator) -> None:
    emulator.endpoint("guarded")
    emulator.endpoint("other")
    iam = emulator.aws("iam")
    iam.create_user(UserName="caller")
    key = iam.create_access_key(UserName="caller")["AccessKey"]
    credentials = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
    runtime = emulator.aws("sagemaker-runtime", **credentials)

    def refused(call: Callable[..., Any], endpoint: str) -> str:
        with pytest.raises(ClientError) as caught:
            call(EndpointName=endpoint, Body=b"{}")
        assert caught.value.response["Error"]["Code"] == "AccessDeniedException"
        return caught.value.response["Error"]["Message"]

    arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:endpoint/guarded"
    message = refused(runtime.invoke_endpoint_with_response_stream, "guarded")
    assert "not authorized to perform: sagemaker:InvokeEndpointWithResponseStream" in message
    assert arn in message
    policy = allow(["sagemaker:InvokeEndpointWithResponseStream"], arn)
    iam.put_user_policy(UserName="caller", PolicyName="p", PolicyDocument=policy)
    reply = runtime.invoke_endpoint_with_response_stream(EndpointName="guarded", Body=b"{}")
    assert list(reply["Body"])
    refused(runtime.invoke_endpoint, "guarded")
    refused(runtime.invoke_endpoint_with_response_stream, "other")
    with pytest.raises(ClientError, match="sagemaker:DescribeEndpoint"):
        emulator.aws("sagemaker", **credentials).describe_endpoint(EndpointName="guarded")


def test_the_execution_role_fetches_the_model_data(emulator: Emulator) -> None:
    s3 = emulator.aws("s3")
    s3.create_bucket(Bucket="artefacts")
    s3.put_object(Bucket="artefacts", Key="models/m/config.json", Body=b'{"layers": 2}')
    role = emulator.role("reader")
    data = "s3://artefacts/models/m/"
    denied = emulator.endpoint("denied", role=role, data=data)
    assert denied["EndpointStatus"] == "Failed"
    assert denied["FailureReason"].startswith(f"Could not access model data at {data}.")
    emulator.role("reader", allow(["s3:GetObject", "s3:ListBucket"], "*"))
    assert emulator.endpoint("reads", role=role, data=data)["EndpointStatus"] == "InService"
    folder = Path(emulator.invoke("reads")["Answer"]["environment"]["SM_MODEL_DIR"])
    assert (folder / "config.json").read_bytes() == b'{"layers": 2}'


def template(version: str, **environment: str) -> str:
    container = {"Image": IMAGE, "Environment": {"FAKE_NAME": version, **environment}}
    model = {"ExecutionRoleArn": f"arn:aws:iam::{ACCOUNT}:role/plain", "PrimaryContainer": container}
    one = {
        "VariantName": "champion",
        "ModelName": {"Fn::GetAtt": ["Model", "ModelName"]},
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 1,
    }
    config = {"ProductionVariants": [one]}
    endpoint = {
        "EndpointName": "stacked",
        "EndpointConfigName": {"Fn::GetAtt": ["Config", "EndpointConfigName"]},
    }
    resources = {
        "Model": {"Type": "AWS::SageMaker::Model", "Properties": model},
        "Config": {"Type": "AWS::SageMaker::EndpointConfig", "Properties": config},
        "Endpoint": {"Type": "AWS::SageMaker::Endpoint", "Properties": endpoint},
    }
    outputs = {"Ref": {"Value": {"Ref": "Endpoint"}}, "Model": {"Value": {"Ref": "Model"}}}
    return json.dumps({"Resources": resources, "Outputs": outputs})


def test_cloudformation_creates_updates_rolls_back_and_deletes(emulator: Emulator) -> None:
    emulator.role("plain")
    cloudformation, sagemaker = emulator.aws("cloudformation"), emulator.aws("sagemaker")

    def finished() -> dict[str, Any] | None:
        (stack,) = cloudformation.describe_stacks(StackName="s")["Stacks"]
        return None if stack["StackStatus"].endswith("IN_PROGRESS") else stack

    cloudformation.create_stack(StackName="s", TemplateBody=template("one"))
    stack = until(finished, "the stack is created")
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    outputs = {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}
    assert outputs["Ref"] == f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:endpoint/stacked"
    assert outputs["Model"].startswith(f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model/model-")

    cloudformation.update_stack(StackName="s", TemplateBody=template("two"))
    assert until(finished, "the stack is updated")["StackStatus"] == "UPDATE_COMPLETE"
    assert emulator.invoke("stacked")["Answer"]["name"] == "two"
    mine = sagemaker.list_models(NameContains="Model-")["Models"]
    assert len(mine) == 1, "the replaced model is deleted"

    cloudformation.update_stack(StackName="s", TemplateBody=template("three", FAKE_CRASH="1"))
    assert until(finished, "the stack goes back")["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    events = cloudformation.describe_stack_events(StackName="s")["StackEvents"]
    reasons = [each.get("ResourceStatusReason", "") for each in events if "FAILED" in each["ResourceStatus"]]
    assert any("the weights are damaged" in reason for reason in reasons)
    assert emulator.invoke("stacked")["Answer"]["name"] == "two"

    cloudformation.delete_stack(StackName="s")
    until(lambda: not sagemaker.list_endpoints(NameContains="stacked")["Endpoints"], "the endpoint is gone")


def test_metrics_and_logs_are_in_cloudwatch(emulator: Emulator) -> None:
    emulator.endpoint("watched")
    for _ in range(3):
        emulator.invoke("watched")
    cloudwatch = emulator.aws("cloudwatch")
    dimensions = [
        {"Name": "EndpointName", "Value": "watched"},
        {"Name": "VariantName", "Value": "champion"},
    ]

    def invocations() -> float:
        now = time.time()
        points = cloudwatch.get_metric_statistics(
            Namespace="AWS/SageMaker",
            MetricName="Invocations",
            Dimensions=dimensions,
            StartTime=now - 3600,
            EndTime=now + 60,
            Period=3600,
            Statistics=["Sum"],
        )["Datapoints"]
        return sum(point["Sum"] for point in points)

    until(lambda: invocations() == 3, "three invocations are counted")
    streams = emulator.aws("logs").describe_log_streams(logGroupName="/aws/sagemaker/Endpoints/watched")
    assert streams["logStreams"][0]["logStreamName"].startswith("champion/i-")


def test_a_canary_that_rings_its_alarm_is_taken_back(emulator: Emulator) -> None:
    emulator.endpoint("canary", count=2)
    emulator.release("bad-release", count=2)
    cloudwatch = emulator.aws("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName="canary-errors",
        Namespace="AWS/SageMaker",
        MetricName="Invocation5XXErrors",
        Dimensions=[
            {"Name": "EndpointName", "Value": "canary"},
            {"Name": "VariantName", "Value": "champion"},
        ],
        Statistic="Sum",
        Period=10,
        EvaluationPeriods=1,
        Threshold=0,
        ComparisonOperator="GreaterThanThreshold",
        TreatMissingData="notBreaching",
    )
    routing = {
        "Type": "CANARY",
        "WaitIntervalInSeconds": 600,
        "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 50},
    }
    emulator.aws("sagemaker").update_endpoint(
        EndpointName="canary",
        EndpointConfigName="bad-release",
        DeploymentConfig={
            "BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing},
            "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "canary-errors"}]},
        },
    )
    until(lambda: emulator.invoke("canary")["Answer"]["name"] == "bad-release", "the canary takes traffic")

    def ring() -> bool:
        with contextlib.suppress(ClientError):
            emulator.invoke("canary", {"status": 500, "reply": ""})
        status = emulator.aws("sagemaker").describe_endpoint(EndpointName="canary")["EndpointStatus"]
        return status != "Updating"

    until(ring, "the alarm ends the update")
    described = emulator.settled("canary")
    assert described["EndpointConfigName"] == "canary"
    assert "canary-errors" in described["FailureReason"]


def saved(emulator: Emulator, words: str) -> bool:
    """Whether the snapshot in force mentions something."""
    state = emulator.home / "cloud" / "state"
    with contextlib.suppress(OSError):  # a newer snapshot took the place of this one
        folder = state / (state / "current").read_text()
        return any(words in path.read_text() for path in folder.glob("own-*.json"))
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_endpoints_outlive_the_emulator_and_processes_do_not(tmp_path: Path, number: int) -> None:
    emulator = Emulator(tmp_path)
    emulator.start()
    try:
        emulator.endpoint("kept")
        scaling = emulator.aws("application-autoscaling")
        target = {
            "ServiceNamespace": "sagemaker",
            "ResourceId": "endpoint/kept/variant/champion",
            "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
        }
        scaling.register_scalable_target(**target, MinCapacity=1, MaxCapacity=2)
        tracking = {
            "TargetValue": 100.0,
            "PredefinedMetricSpecification": {
                "PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"
            },
        }
        policy = scaling.put_scaling_policy(
            **target,
            PolicyName="kept-policy",
            PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration=tracking,
        )
        before = emulator.invoke("kept")["Answer"]["pid"]
        if number == signal.SIGKILL:
            until(lambda: saved(emulator, "kept-policy"), "the endpoint and its policy are in a snapshot")
        emulator.end(number)
        until(lambda: not Path(f"/proc/{before}").exists(), "the instance died with the emulator")
        emulator.start()
        assert emulator.settled("kept")["EndpointStatus"] == "InService"
        assert emulator.invoke("kept")["Answer"]["pid"] != before
        described = scaling.describe_scaling_policies(**target)["ScalingPolicies"]
        assert [each["PolicyARN"] for each in described] == [policy["PolicyARN"]]
        names = [alarm["AlarmName"] for alarm in policy["Alarms"]]
        assert len(emulator.aws("cloudwatch").describe_alarms(AlarmNames=names)["MetricAlarms"]) == 2
    finally:
        emulator.end()
