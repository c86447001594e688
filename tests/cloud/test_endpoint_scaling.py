"""Scaling, safe updates and rehearsed faults over plain boto3, on an emulator of this module's own.

The load of the scaling test runs beside the update test, since both mostly wait for metrics.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.cloud.test_sagemaker import ACCOUNT, IMAGE, Emulator, allow, until

COUNT = "sagemaker:variant:DesiredInstanceCount"
COPIES = "sagemaker:inference-component:DesiredCopyCount"
CANARY_SHARE = 0.2
PERIOD = 10


class Callers:
    """Clients that call without a pause until they are told to stop; counts what they saw."""

    def __init__(self, emulator: Emulator, endpoint: str, order: dict[str, Any], count: int) -> None:
        self.seen: Counter[str] = Counter()
        self._emulator, self._endpoint, self._order = emulator, endpoint, json.dumps(order)
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(count)]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join()

    def _call(self) -> None:
        client = self._emulator.aws("sagemaker-runtime")
        while not self._enough.wait(0.01):
            try:
                client.invoke_endpoint(EndpointName=self._endpoint, Body=self._order)["Body"].read()
                self.seen["answers"] += 1
            except ClientError as error:
                self.seen[error.response["Error"]["Code"]] += 1


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    cloud = Emulator(tmp_path_factory.mktemp("scaling"))
    cloud.start()
    yield cloud
    cloud.end()


@pytest.fixture(scope="module")
def load(emulator: Emulator) -> Iterator[Callers]:
    """Six requests at a time on endpoint `scaled`, which is to have two per instance."""
    emulator.endpoint("scaled")
    scaling = emulator.aws("application-autoscaling")
    target = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": "endpoint/scaled/variant/champion",
        "ScalableDimension": COUNT,
    }
    scaling.register_scalable_target(**target, MinCapacity=1, MaxCapacity=3)
    metric = {"PredefinedMetricType": "SageMakerVariantConcurrentRequestsPerModelHighResolution"}
    scaling.put_scaling_policy(
        **target,
        PolicyName="follow",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": 2.0,
            "PredefinedMetricSpecification": metric,
            "ScaleOutCooldown": 0,
        },
    )
    leave = scaling.put_scaling_policy(
        **target,
        PolicyName="leave",
        PolicyType="StepScaling",
        StepScalingPolicyConfiguration={
            "AdjustmentType": "ExactCapacity",
            "StepAdjustments": [{"MetricIntervalUpperBound": 0, "ScalingAdjustment": 1}],
            "Cooldown": 0,
        },
    )
    dimensions = {"EndpointName": "scaled", "VariantName": "champion"}
    emulator.aws("cloudwatch").put_metric_alarm(
        AlarmName="scaled-idle",
        Namespace="AWS/SageMaker",
        MetricName="ConcurrentRequestsPerModel",
        Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()],
        Statistic="Maximum",
        Period=PERIOD,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="LessThanThreshold",
        AlarmActions=[leave["PolicyARN"]],
    )
    with Callers(emulator, "scaled", {"sleep": 1.0}, 6) as callers:
        yield callers


def test_a_bad_update_is_taken_back_and_costs_less_than_the_canarys_share(
    emulator: Emulator, load: Callers
) -> None:
    emulator.endpoint("guarded", count=2)
    emulator.release("one-in-five-fails", count=2, FAKE_ERROR_EVERY="5")
    errors, requests = (
        {
            "Id": name.lower(),
            "MetricStat": {
                "Metric": {
                    "Namespace": "AWS/SageMaker",
                    "MetricName": metric,
                    "Dimensions": [
                        {"Name": "EndpointName", "Value": "guarded"},
                        {"Name": "VariantName", "Value": "champion"},
                    ],
                },
                "Stat": "Sum",
                "Period": PERIOD,
            },
            "ReturnData": False,
        }
        for name, metric in (("errors", "Invocation5XXErrors"), ("requests", "Invocations"))
    )
    emulator.aws("cloudwatch").put_metric_alarm(
        AlarmName="guarded-errors",
        Metrics=[
            {"Id": "share", "Expression": "errors / requests", "Label": "errors", "ReturnData": True},
            errors,
            requests,
        ],
        # One in five of a fifth of the traffic is four in a hundred of all: half of that is too much.
        Threshold=0.2 * CANARY_SHARE / 2,
        ComparisonOperator="GreaterThanThreshold",
        EvaluationPeriods=1,
        TreatMissingData="notBreaching",
    )
    canary = {"Type": "CAPACITY_PERCENT", "Value": round(100 * CANARY_SHARE)}
    routing = {"Type": "CANARY", "WaitIntervalInSeconds": 600, "CanarySize": canary}
    with Callers(emulator, "guarded", {}, 2) as callers:
        until(lambda: callers.seen["answers"] > 20, "the good release answers")
        emulator.aws("sagemaker").update_endpoint(
            EndpointName="guarded",
            EndpointConfigName="one-in-five-fails",
            DeploymentConfig={
                "BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing},
                "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "guarded-errors"}]},
            },
        )
        until(lambda: callers.seen["ModelError"], "a client sees an error of the canary")
        described = emulator.settled("guarded")
        before = callers.seen["ModelError"]
        until(lambda answers=callers.seen["answers"]: callers.seen["answers"] > answers + 50, "it serves on")
        assert callers.seen["ModelError"] <= before + 2, "requests that were under way, and no more"
    assert described["EndpointConfigName"] == "guarded"
    assert described["FailureReason"] == "Auto rollback: alarm(s) guarded-errors went into state ALARM."
    seen = callers.seen
    assert set(seen) == {"answers", "ModelError"}
    assert seen["ModelError"] / seen.total() <= CANARY_SHARE, seen


def instances(emulator: Emulator) -> int:
    described = emulator.aws("sagemaker").describe_endpoint(EndpointName="scaled")
    return int(described["ProductionVariants"][0]["CurrentInstanceCount"])


def concurrency(emulator: Emulator, until_moment: float) -> list[float]:
    """The busiest instance of `scaled` in each period that began before a moment, oldest first."""
    now = time.time()
    points = emulator.aws("cloudwatch").get_metric_statistics(
        Namespace="AWS/SageMaker",
        MetricName="ConcurrentRequestsPerModel",
        Dimensions=[
            {"Name": "EndpointName", "Value": "scaled"},
            {"Name": "VariantName", "Value": "champion"},
        ],
        StartTime=now - 600,
        EndTime=now,
        Period=PERIOD,
        Statistics=["Maximum"],
    )["Datapoints"]
    found = sorted((point["Timestamp"].timestamp(), point["Maximum"]) for point in points)
    return [value for moment, value in found if moment < until_moment]


def test_scaling_follows_a_load_within_three_periods_and_returns(emulator: Emulator, load: Callers) -> None:
    until(lambda: instances(emulator) == 3, "the fleet has grown")
    scaling = emulator.aws("application-autoscaling")
    (grown,) = scaling.describe_scaling_activities(ServiceNamespace="sagemaker")["ScalingActivities"]
    assert grown["Description"] == "Setting desired instance count to 3."
    # Three whole periods had shown the load. That more do not pass is tested where time is made up
    # (tests/unit/autoscaling): a busy machine evaluates its alarms late.
    overloaded = [value for value in concurrency(emulator, grown["StartTime"].timestamp()) if value > 2]
    assert len(overloaded) >= 3, overloaded
    load.__exit__()
    until(lambda: instances(emulator) == 1, "the fleet is small again")
    newest = scaling.describe_scaling_activities(ServiceNamespace="sagemaker")["ScalingActivities"][0]
    assert newest["Cause"] == "monitor alarm scaled-idle in state ALARM triggered policy leave"
    assert set(load.seen) == {"answers"}, "no request was lost on the way"
    role = "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
    assert emulator.aws("iam").get_role(RoleName=role)["Role"]["Path"].startswith("/aws-service-role/")


def fault(emulator: Emulator, body: bytes, method: str = "POST", **headers: str) -> tuple[int, Any]:
    url = f"http://127.0.0.1:{emulator.port}/_evergreen/faults"
    request = urllib.request.Request(url, data=body or None, method=method)
    for name, value in ({"Content-Type": "application/json"} | headers).items():
        request.add_header(name, value)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_faults_are_made_and_removed_by_an_admin_call(emulator: Emulator) -> None:
    emulator.endpoint("rehearsed")
    status, made = fault(emulator, b'{"kind": "errors", "endpoint": "rehearsed", "status": 507}')
    assert (status, made["status"], made["share"]) == (201, 507, 1.0)
    with pytest.raises(ClientError) as caught:
        emulator.invoke("rehearsed")
    assert caught.value.response["OriginalStatusCode"] == 507
    assert fault(emulator, b"", "DELETE") == (200, {"faults": []})
    emulator.invoke("rehearsed")
    status, answer = fault(emulator, b'{"kind": "kill", "endpoint": "rehearsed", "force": 1}')
    assert status == 400
    assert "has no field `force`" in answer["error"]
    assert fault(emulator, b"{}", Origin="http://example.org")[0] == 403
    assert fault(emulator, b"{}", Host="evil.example")[0] == 403
    assert fault(emulator, b"kind=kill", **{"Content-Type": "text/plain"})[0] == 415


def test_scaling_asks_for_the_callers_own_rights(emulator: Emulator) -> None:
    iam = emulator.aws("iam")
    iam.create_user(UserName="reader")
    iam.put_user_policy(
        UserName="reader",
        PolicyName="p",
        PolicyDocument=allow(["application-autoscaling:DescribeScalableTargets"], "*"),
    )
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    scaling = emulator.aws(
        "application-autoscaling",
        aws_access_key_id=key["AccessKeyId"],
        aws_secret_access_key=key["SecretAccessKey"],
    )
    scaling.describe_scalable_targets(ServiceNamespace="sagemaker")
    with pytest.raises(ClientError, match="application-autoscaling:RegisterScalableTarget") as caught:
        scaling.register_scalable_target(
            ServiceNamespace="sagemaker",
            ResourceId="endpoint/x/variant/y",
            ScalableDimension=COUNT,
            MinCapacity=1,
            MaxCapacity=2,
        )
    assert caught.value.response["Error"]["Code"] == "AccessDeniedException"


def scale_to_zero() -> str:
    """The shape of a scale-to-zero endpoint as the serving stack synthesizes it."""
    target = {"Ref": "Target"}
    wake = {
        "AdjustmentType": "ChangeInCapacity",
        "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
    }
    follow = {
        "TargetValue": 5,
        "PredefinedMetricSpecification": {
            "PredefinedMetricType": "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution"
        },
    }
    resources = {
        "Config": {
            "Type": "AWS::SageMaker::EndpointConfig",
            "Properties": {
                "ExecutionRoleArn": f"arn:aws:iam::{ACCOUNT}:role/plain",
                "ProductionVariants": [
                    {
                        "VariantName": "all",
                        "InstanceType": "ml.m5.xlarge",
                        "InitialInstanceCount": 1,
                        "ManagedInstanceScaling": {
                            "Status": "ENABLED",
                            "MinInstanceCount": 0,
                            "MaxInstanceCount": 2,
                        },
                    }
                ],
            },
        },
        "Endpoint": {
            "Type": "AWS::SageMaker::Endpoint",
            "Properties": {
                "EndpointName": "sleeper",
                "EndpointConfigName": {"Fn::GetAtt": ["Config", "EndpointConfigName"]},
            },
        },
        "Component": {
            "Type": "AWS::SageMaker::InferenceComponent",
            "DependsOn": "Endpoint",
            "Properties": {
                "InferenceComponentName": "sleepy",
                "EndpointName": "sleeper",
                "VariantName": "all",
                "RuntimeConfig": {"CopyCount": 0},
                "Specification": {
                    "Container": {"Image": IMAGE, "Environment": {"FAKE_NAME": "sleepy"}},
                    "ComputeResourceRequirements": {"MinMemoryRequiredInMb": 1024},
                },
            },
        },
        "Target": {
            "Type": "AWS::ApplicationAutoScaling::ScalableTarget",
            "DependsOn": "Component",
            "Properties": {
                "ServiceNamespace": "sagemaker",
                "ScalableDimension": COPIES,
                "ResourceId": "inference-component/sleepy",
                "MinCapacity": 0,
                "MaxCapacity": "2",
            },
        },
        "Follow": {
            "Type": "AWS::ApplicationAutoScaling::ScalingPolicy",
            "Properties": {
                "PolicyName": "follow-copies",
                "PolicyType": "TargetTrackingScaling",
                "ScalingTargetId": target,
                "TargetTrackingScalingPolicyConfiguration": follow,
            },
        },
        "Wake": {
            "Type": "AWS::ApplicationAutoScaling::ScalingPolicy",
            "Properties": {
                "PolicyName": "wake",
                "PolicyType": "StepScaling",
                "ScalingTargetId": target,
                "StepScalingPolicyConfiguration": wake,
            },
        },
        "Called": {
            "Type": "AWS::CloudWatch::Alarm",
            "Properties": {
                "AlarmName": "sleepy-called",
                "Namespace": "AWS/SageMaker",
                "MetricName": "NoCapacityInvocationFailures",
                "Dimensions": [{"Name": "InferenceComponentName", "Value": "sleepy"}],
                "Statistic": "Maximum",
                "Period": PERIOD,
                "EvaluationPeriods": 1,
                "Threshold": 1,
                "ComparisonOperator": "GreaterThanOrEqualToThreshold",
                "AlarmActions": [{"Ref": "Wake"}],
            },
        },
    }
    return json.dumps({"Resources": resources})


def test_a_stack_scales_from_zero_when_it_is_called(emulator: Emulator) -> None:
    emulator.role("plain")
    cloudformation, scaling = emulator.aws("cloudformation"), emulator.aws("application-autoscaling")

    def status() -> str | None:
        found = cloudformation.describe_stacks(StackName="sleeper")["Stacks"][0]["StackStatus"]
        return None if found.endswith("IN_PROGRESS") else str(found)

    cloudformation.create_stack(StackName="sleeper", TemplateBody=scale_to_zero())
    events = cloudformation.describe_stack_events
    assert until(status, "the stack is created") == "CREATE_COMPLETE", events(StackName="sleeper")
    policies = scaling.describe_scaling_policies(
        ServiceNamespace="sagemaker", ResourceId="inference-component/sleepy", ScalableDimension=COPIES
    )["ScalingPolicies"]
    assert {policy["PolicyName"]: len(policy["Alarms"]) for policy in policies} == {
        "follow-copies": 2,
        "wake": 1,
    }
    with pytest.raises(ClientError, match="has no capacity to process this request") as caught:
        emulator.invoke("sleeper", InferenceComponentName="sleepy")
    assert caught.value.response["Error"]["Code"] == "ValidationError"

    def answer() -> str | None:
        with contextlib.suppress(ClientError):
            return str(emulator.invoke("sleeper", InferenceComponentName="sleepy")["Answer"]["name"])
        return None

    assert until(answer, "the component is awake") == "sleepy"
    cloudformation.delete_stack(StackName="sleeper")
    sagemaker = emulator.aws("sagemaker")
    until(
        lambda: not sagemaker.list_endpoints(NameContains="sleeper")["Endpoints"],
        "the endpoint is gone",
    )
    left = scaling.describe_scalable_targets(
        ServiceNamespace="sagemaker", ResourceIds=["inference-component/sleepy"]
    )
    assert left["ScalableTargets"] == []
    alarms = emulator.aws("cloudwatch").describe_alarms(AlarmNamePrefix="TargetTracking-inference-component")
    assert alarms["MetricAlarms"] == []


def test_an_asynchronous_call_uses_the_models_own_rights(emulator: Emulator) -> None:
    s3, sns, sqs = (emulator.aws(service) for service in ("s3", "sns", "sqs"))
    s3.create_bucket(Bucket="async-bucket")
    s3.put_object(Bucket="async-bucket", Key="in/one.json", Body=b'{"a": 1}')
    topic = sns.create_topic(Name="outcomes")["TopicArn"]
    queue = sqs.create_queue(QueueName="outcomes")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    deliver = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage"}
    permitted = json.dumps({"Version": "2012-10-17", "Statement": [deliver | {"Resource": arn}]})
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": permitted})
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    role = emulator.role("queued", allow(["s3:GetObject", "sns:Publish"], "*"))
    container = {"Image": IMAGE, "Environment": {"FAKE_NAME": "queued"}}
    sagemaker = emulator.aws("sagemaker")
    sagemaker.create_model(ModelName="queued", ExecutionRoleArn=role, PrimaryContainer=container)
    variant = {"VariantName": "champion", "ModelName": "queued", "InstanceType": "ml.m5.large"}
    sagemaker.create_endpoint_config(
        EndpointConfigName="queued",
        ProductionVariants=[variant | {"InitialInstanceCount": 1}],
        AsyncInferenceConfig={
            "OutputConfig": {
                "S3OutputPath": "s3://async-bucket/out",
                "S3FailurePath": "s3://async-bucket/failed",
                "NotificationConfig": {"SuccessTopic": topic, "ErrorTopic": topic},
            }
        },
    )
    sagemaker.create_endpoint(EndpointName="queued", EndpointConfigName="queued")
    emulator.settled("queued")

    def outcome() -> dict[str, Any]:
        reply = emulator.aws("sagemaker-runtime").invoke_endpoint_async(
            EndpointName="queued", InputLocation="s3://async-bucket/in/one.json", InferenceId="mine"
        )
        assert reply["InferenceId"] == "mine"
        assert reply["OutputLocation"].startswith("s3://async-bucket/out/")
        (message,) = until(
            lambda: sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1).get("Messages"), "a notice"
        )
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return dict(json.loads(json.loads(message["Body"])["Message"]))

    failed = outcome()
    assert failed["invocationStatus"] == "Failed"
    assert "AccessDenied" in failed["failureReason"]
    emulator.role("queued", allow(["s3:GetObject", "s3:PutObject", "sns:Publish"], "*"))
    done = outcome()
    assert done["invocationStatus"] == "Completed"
    key = done["responseParameters"]["outputLocation"].removeprefix("s3://async-bucket/")
    answer = json.loads(s3.get_object(Bucket="async-bucket", Key=key)["Body"].read())
    assert (answer["name"], answer["body"]) == ("queued", '{"a": 1}')
