"""An update that SageMaker takes back in silence: CloudFormation calls it complete, the comparison does not.

The stack has the shape of the serving stack as far as a release sees it; its alarm rolls a guarded update
back, and a fault of the laptop cloud leaves the endpoint's failure reason empty, as has been seen on AWS.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from contracts import metrics, serving_state
from contracts.container import ENV_MODEL_DIGEST
from infra.settings import load
from lambdas.release.aws.serving import ServingState
from lambdas.release.errors import RolledBackError
from lambdas.release.serving_check import check_serving
from operations import serving_check as deployed
from operations.target import connect
from tests.cloud.test_sagemaker import ACCOUNT, IMAGE, Emulator, allow, until

# Named as the environment `local` names them, so that the operators' check finds them too.
STACK, ENDPOINT, ALARM, BUCKET = "evergreen-local-serving", "evergreen-local", "guarded-errors", "artefacts"


def template() -> str:
    """A champion by parameters, guardrails with one alarm, and the alarm's name as an output."""
    source = {"S3Uri": {"Ref": "ChampionModelUri"}, "S3DataType": "S3Prefix", "CompressionType": "None"}
    variant: dict[str, Any] = {
        "VariantName": "champion",
        "ModelName": {"Fn::GetAtt": ["Champion", "ModelName"]},
    }
    variant |= {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1, "InitialVariantWeight": 1}
    shift = {"TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}}
    resources = {
        "Champion": (
            "Model",
            {
                "ExecutionRoleArn": f"arn:aws:iam::{ACCOUNT}:role/reader",
                "PrimaryContainer": {
                    "Image": IMAGE,
                    "Environment": {ENV_MODEL_DIGEST: {"Ref": "ChampionModelDigest"}},
                    "ModelDataSource": {"S3DataSource": source},
                },
            },
        ),
        "Config": ("EndpointConfig", {"ProductionVariants": [variant]}),
        "Endpoint": (
            "Endpoint",
            {
                "EndpointName": ENDPOINT,
                "EndpointConfigName": {"Fn::GetAtt": ["Config", "EndpointConfigName"]},
                "DeploymentConfig": {
                    "BlueGreenUpdatePolicy": shift,
                    "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": ALARM}]},
                },
            },
        ),
    }
    return json.dumps(
        {
            "Parameters": {name: {"Type": "String"} for name in ("ChampionModelUri", "ChampionModelDigest")},
            "Resources": {
                name: {"Type": f"AWS::SageMaker::{kind}", "Properties": properties}
                for name, (kind, properties) in resources.items()
            },
            "Outputs": {serving_state.ROLLBACK_ALARMS_OUTPUT: {"Value": ALARM}},
        }
    )


def parameters(name: str) -> list[dict[str, str]]:
    """Those of one model."""
    values = {
        "ChampionModelUri": f"s3://{BUCKET}/models/{name}/",
        "ChampionModelDigest": name[0] * 64,
    }
    return [{"ParameterKey": key, "ParameterValue": value} for key, value in values.items()]


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    cloud = Emulator(tmp_path_factory.mktemp("silent"))
    cloud.start()
    try:
        cloud.role("reader", allow(["s3:GetObject", "s3:ListBucket"], "*"))
        cloud.aws("s3").create_bucket(Bucket=BUCKET)
        for name in ("a-model", "b-model"):
            cloud.aws("s3").put_object(Bucket=BUCKET, Key=f"models/{name}/weights", Body=b"w")
        cloud.aws("cloudwatch").put_metric_alarm(
            AlarmName=ALARM, Namespace="Test", MetricName="errors", Statistic="Sum", Period=10,
            EvaluationPeriods=1, Threshold=0, ComparisonOperator="GreaterThanThreshold",
            TreatMissingData="notBreaching",
        )  # fmt: skip
        yield cloud
    finally:
        cloud.end()


def resting(emulator: Emulator, meanwhile: Callable[[], object] = lambda: None) -> dict[str, Any]:
    """The stack once it rests."""

    def found() -> dict[str, Any] | None:
        meanwhile()
        (stack,) = emulator.aws("cloudformation").describe_stacks(StackName=STACK)["Stacks"]
        return None if stack["StackStatus"].endswith("IN_PROGRESS") else dict(stack)

    return dict(until(found, "the stack rests"))


def test_a_silent_rollback_is_named_with_its_alarm(emulator: Emulator) -> None:
    cloudformation, cloudwatch = emulator.aws("cloudformation"), emulator.aws("cloudwatch")
    clients = (emulator.aws(service) for service in ("cloudformation", "sagemaker", "cloudwatch"))
    serving = ServingState(STACK, ENDPOINT, *clients)
    target = connect(load("local"), {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{emulator.port}"})
    cloudformation.create_stack(StackName=STACK, TemplateBody=template(), Parameters=parameters("a-model"))
    assert resting(emulator)["StackStatus"] == "CREATE_COMPLETE"
    check_serving(serving)
    deployed.check_serving(target)
    first = emulator.aws("sagemaker").describe_endpoint(EndpointName=ENDPOINT)["EndpointConfigName"]

    def failing() -> bool:
        cloudwatch.put_metric_data(
            Namespace="Test", MetricData=[{"MetricName": "errors", "Value": 1, "Timestamp": time.time()}]
        )
        return cloudwatch.describe_alarms(AlarmNames=[ALARM])["MetricAlarms"][0]["StateValue"] == "ALARM"

    until(failing, "the alarm is in ALARM")
    fault = urllib.request.Request(
        f"http://127.0.0.1:{emulator.port}/_evergreen/faults",
        json.dumps({"kind": "silent_rollback", "endpoint": ENDPOINT}).encode(),
        {"Content-Type": "application/json"},
    )
    urllib.request.urlopen(fault, timeout=10).close()
    cloudformation.update_stack(StackName=STACK, UsePreviousTemplate=True, Parameters=parameters("b-model"))

    assert resting(emulator, failing)["StackStatus"] == "UPDATE_COMPLETE"  # CloudFormation saw nothing
    endpoint = emulator.aws("sagemaker").describe_endpoint(EndpointName=ENDPOINT)
    assert (endpoint["EndpointStatus"], endpoint["EndpointConfigName"]) == ("InService", first)
    assert "FailureReason" not in endpoint
    with pytest.raises(RolledBackError, match=f"In ALARM during the update: {ALARM}"):
        check_serving(serving)
    with pytest.raises(deployed.RolledBackError, match=f"In ALARM during the update: {ALARM}"):
        deployed.check_serving(target)  # what `deploy` ends with
    counted = cloudwatch.list_metrics(Namespace=metrics.NAMESPACE, MetricName=metrics.UPDATES_ROLLED_BACK)
    assert counted["Metrics"]
