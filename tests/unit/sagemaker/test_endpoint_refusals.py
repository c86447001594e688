"""The refusal table: what AWS refuses is refused here, with AWS's code and the resource's ARN.

Records only: no endpoint in this module has processes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from local.sagemaker.control_plane import endpoint_rules as rules
from local.sagemaker.errors import AwsApiError
from tests.support.sagemaker import IMAGE, ROLE, RecordedCloud, SageMakerHarness, build, variant

ARN = "arn:aws:sagemaker:us-east-1:123456789012"
CANARY = {
    "BlueGreenUpdatePolicy": {
        "TrafficRoutingConfiguration": {
            "Type": "CANARY",
            "WaitIntervalInSeconds": 0,
            "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 10},
        }
    }
}


@pytest.fixture
def harness(tmp_path: Path) -> SageMakerHarness:
    """Model `m`, configuration `c` with one variant, endpoint `e` in service without processes."""
    cloud = RecordedCloud()
    harness = SageMakerHarness(build(tmp_path, cloud), cloud)
    harness.model("m")
    harness.config("c", variant())
    config = harness.call("DescribeEndpointConfig", EndpointConfigName="c")
    harness.sagemaker.store.endpoints.add(
        "e",
        {
            "EndpointName": "e",
            "EndpointArn": f"{ARN}:endpoint/e",
            "EndpointConfigName": "c",
            "EndpointStatus": "InService",
            "CreationTime": 1.0,
            "LastModifiedTime": 1.0,
            "Config": config,
            "Models": {},
            "Sizes": {"champion": (1.0, 1)},
        },
    )
    return harness


def refusal(harness: SageMakerHarness, operation: str, **request: Any) -> AwsApiError:
    with pytest.raises(AwsApiError) as caught:
        harness.call(operation, **request)
    return caught.value


@pytest.mark.parametrize(
    ("operation", "request_", "message"),
    [
        ("DescribeModel", {"ModelName": "x"}, f'Could not find model "{ARN}:model/x".'),
        ("DeleteModel", {"ModelName": "x"}, f'Could not find model "{ARN}:model/x".'),
        (
            "DescribeEndpointConfig",
            {"EndpointConfigName": "X"},
            f'Could not find endpoint configuration "{ARN}:endpoint-config/x".',
        ),
        (
            "DeleteEndpointConfig",
            {"EndpointConfigName": "x"},
            f'Could not find endpoint configuration "{ARN}:endpoint-config/x".',
        ),
        ("DescribeEndpoint", {"EndpointName": "x"}, f'Could not find endpoint "{ARN}:endpoint/x".'),
        ("DeleteEndpoint", {"EndpointName": "x"}, f'Could not find endpoint "{ARN}:endpoint/x".'),
        (
            "UpdateEndpoint",
            {"EndpointName": "x", "EndpointConfigName": "c"},
            f'Could not find endpoint "{ARN}:endpoint/x".',
        ),
        (
            "UpdateEndpoint",
            {"EndpointName": "e", "EndpointConfigName": "x"},
            f'Could not find endpoint configuration "{ARN}:endpoint-config/x".',
        ),
        (
            "CreateEndpoint",
            {"EndpointName": "f", "EndpointConfigName": "x"},
            f'Could not find endpoint configuration "{ARN}:endpoint-config/x".',
        ),
        (
            "CreateEndpoint",
            {"EndpointName": "E", "EndpointConfigName": "c"},
            f'Cannot create already existing endpoint "{ARN}:endpoint/e".',
        ),
        (
            "CreateEndpointConfig",
            {"EndpointConfigName": "c", "ProductionVariants": [variant()]},
            f'Cannot create already existing endpoint configuration "{ARN}:endpoint-config/c".',
        ),
        (
            "CreateEndpointConfig",
            {"EndpointConfigName": "d", "ProductionVariants": [variant(model="x")]},
            f'Could not find model "{ARN}:model/x".',
        ),
        (
            "CreateModel",
            {"ModelName": "m", "ExecutionRoleArn": ROLE, "PrimaryContainer": {"Image": IMAGE}},
            f'Cannot create already existing model "{ARN}:model/m".',
        ),
        (
            "CreateModel",
            {"ModelName": "n", "ExecutionRoleArn": ROLE + "x", "PrimaryContainer": {"Image": IMAGE}},
            f"Could not assume role {ROLE}x. Please ensure that the role exists and allows principal "
            "'sagemaker.amazonaws.com' to assume the role.",
        ),
    ],
)
def test_names(harness: SageMakerHarness, operation: str, request_: dict, message: str) -> None:
    error = refusal(harness, operation, **request_)
    assert (error.code, error.status, error.message) == ("ValidationException", 400, message)


@pytest.mark.parametrize("status", sorted(rules.IN_PROGRESS))
@pytest.mark.parametrize(
    ("operation", "request_"),
    [
        ("UpdateEndpoint", {"EndpointConfigName": "c"}),
        (
            "UpdateEndpointWeightsAndCapacities",
            {"DesiredWeightsAndCapacities": [{"VariantName": "champion"}]},
        ),
        ("DeleteEndpoint", {}),
    ],
)
def test_nothing_changes_an_endpoint_in_progress(
    harness: SageMakerHarness, status: str, operation: str, request_: dict
) -> None:
    harness.sagemaker.store.endpoints.get("e")["EndpointStatus"] = status
    error = refusal(harness, operation, EndpointName="e", **request_)
    assert error.code == "ValidationException"
    assert error.message == f'Cannot update in-progress endpoint "{ARN}:endpoint/e".'


def test_a_failed_endpoint_can_only_be_deleted(harness: SageMakerHarness) -> None:
    harness.sagemaker.store.endpoints.get("e")["EndpointStatus"] = "Failed"
    assert (
        "status Failed"
        in refusal(harness, "UpdateEndpoint", EndpointName="e", EndpointConfigName="c").message
    )
    rules.check_idle(harness.sagemaker.store.endpoints.get("e"), "arn")  # what DeleteEndpoint asks


SOURCE = {"S3Uri": "s3://b/p/", "S3DataType": "S3Prefix", "CompressionType": "None"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"PrimaryContainer": None}, "PrimaryContainer"),
        ({"Containers": [{"Image": IMAGE}]}, "not both"),
        ({"PrimaryContainer": None, "Containers": [{"Image": IMAGE}] * 2}, "pipelines"),
        ({"ExecutionRoleArn": None}, "ExecutionRoleArn"),
        ({"PrimaryContainer": {"Environment": {}}}, "Image"),
        ({"PrimaryContainer": {"Image": IMAGE, "Mode": "MultiModel"}}, "multi-model"),
        ({"PrimaryContainer": {"Image": IMAGE, "ModelPackageName": "p"}}, "ModelPackageName"),
        (
            {
                "PrimaryContainer": {
                    "Image": IMAGE,
                    "ModelDataUrl": "s3://b/k",
                    "ModelDataSource": {"S3DataSource": SOURCE},
                }
            },
            "either ModelDataUrl or ModelDataSource",
        ),
        (
            {
                "PrimaryContainer": {
                    "Image": IMAGE,
                    "ModelDataSource": {"S3DataSource": SOURCE | {"S3Uri": "s3://b/p"}},
                }
            },
            "forward slash",
        ),
        (
            {
                "PrimaryContainer": {
                    "Image": IMAGE,
                    "ModelDataSource": {"S3DataSource": SOURCE | {"CompressionType": "Gzip"}},
                }
            },
            "needs S3DataType S3Object",
        ),
    ],
)
def test_models(harness: SageMakerHarness, change: dict, words: str) -> None:
    request = {"ModelName": "n", "ExecutionRoleArn": ROLE, "PrimaryContainer": {"Image": IMAGE}} | change
    request = {name: value for name, value in request.items() if value is not None}
    assert words in refusal(harness, "CreateModel", **request).message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ProductionVariants": [variant(), variant()]}, "repeated: champion"),
        ({"ShadowProductionVariants": [variant()]}, "repeated: champion"),
        (
            {
                "ProductionVariants": [variant("a"), variant("b")],
                "ShadowProductionVariants": [variant("s")],
            },
            "exactly one production variant and exactly one shadow variant",
        ),
        (
            {"ShadowProductionVariants": [variant("s"), variant("t")]},
            "exactly one production variant and exactly one shadow variant",
        ),
        ({"ProductionVariants": [variant(InitialVariantWeight=0.0)]}, "weight above 0"),
        ({"ProductionVariants": [{"VariantName": "v", "ModelName": "m"}]}, "InstanceType"),
        (
            {"ProductionVariants": [variant(RoutingConfig={"RoutingStrategy": "PREFIX_AWARE"})]},
            "PREFIX_AWARE",
        ),
    ],
)
def test_endpoint_configurations(harness: SageMakerHarness, change: dict, words: str) -> None:
    request = {"EndpointConfigName": "d", "ProductionVariants": [variant()]} | change
    assert words in refusal(harness, "CreateEndpointConfig", **request).message


def test_shadow_beside_one_production_variant_is_accepted(harness: SageMakerHarness) -> None:
    harness.config("d", variant(), ShadowProductionVariants=[variant("s")])


@pytest.mark.parametrize(
    ("routing", "words"),
    [
        ({"Type": "CANARY"}, "CANARY must have CanarySize"),
        ({"Type": "LINEAR"}, "LINEAR must have LinearStepSize"),
        (
            {"Type": "ALL_AT_ONCE", "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 10}},
            "ALL_AT_ONCE must not have CanarySize",
        ),
        ({"Type": "CANARY", "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 51}}, "between 1 and 50"),
        ({"Type": "LINEAR", "LinearStepSize": {"Type": "CAPACITY_PERCENT", "Value": 9}}, "between 10 and 50"),
    ],
)
def test_deployment_configurations(harness: SageMakerHarness, routing: dict, words: str) -> None:
    deployment = {
        "BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": {"WaitIntervalInSeconds": 0, **routing}}
    }
    error = refusal(
        harness, "UpdateEndpoint", EndpointName="e", EndpointConfigName="c", DeploymentConfig=deployment
    )
    assert words in error.message


@pytest.mark.parametrize(
    ("variants", "shadow", "words"),
    [
        ([variant("other", InitialInstanceCount=2)], None, "champion became other"),
        ([variant(), variant("challenger")], None, "champion became challenger, champion"),
        ([variant(InitialInstanceCount=2)], variant("s"), "shadow"),
        ([variant()], None, "more than 50 percent of a variant with 1 instance(s)"),
    ],
)
def test_guardrails(harness: SageMakerHarness, variants: list, shadow: dict | None, words: str) -> None:
    harness.config("d", *variants, **({"ShadowProductionVariants": [shadow]} if shadow else {}))
    error = refusal(
        harness, "UpdateEndpoint", EndpointName="e", EndpointConfigName="d", DeploymentConfig=CANARY
    )
    assert words in error.message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([{"VariantName": "x", "DesiredWeight": 1.0}], "x is/are not present"),
        ([{"VariantName": "champion"}, {"VariantName": "champion"}], "more than once"),
        ([{"VariantName": "champion", "DesiredInstanceCount": 0}], "at least 1"),
    ],
)
def test_weights_and_capacities(harness: SageMakerHarness, changes: list, words: str) -> None:
    error = refusal(
        harness,
        "UpdateEndpointWeightsAndCapacities",
        EndpointName="e",
        DesiredWeightsAndCapacities=changes,
    )
    assert words in error.message


def test_the_instance_quota_counts_what_runs_already(harness: SageMakerHarness) -> None:
    harness.config("d", variant(InitialInstanceCount=rules.INSTANCE_QUOTA))
    error = refusal(harness, "CreateEndpoint", EndpointName="f", EndpointConfigName="d")
    assert error.code == "ResourceLimitExceeded"
    assert "current utilization of 1 Instances and a request delta of 16 Instances" in error.message


@pytest.mark.parametrize(
    ("operation", "reason"),
    [("CreateTransformJob", "is not part of the laptop cloud"), ("MakeCoffee", "does not exist")],
)
def test_unknown_operations(harness: SageMakerHarness, operation: str, reason: str) -> None:
    error = refusal(harness, operation)
    assert error.code == "UnknownOperationException"
    assert reason in error.message


def test_a_body_that_is_not_json_is_refused_as_such(harness: SageMakerHarness) -> None:
    reply = harness.sagemaker.control.handle("SageMaker.ListModels", b"{")
    assert reply.status == 400
    assert b"SerializationException" in reply.body


def test_a_model_and_configuration_in_use_may_be_deleted(harness: SageMakerHarness) -> None:
    harness.call("DeleteModel", ModelName="m")
    harness.call("DeleteEndpointConfig", EndpointConfigName="c")
    assert harness.sagemaker.store.endpoints.get("e")["EndpointConfigName"] == "c"
