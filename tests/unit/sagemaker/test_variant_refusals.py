"""The refusal table of endpoint kinds and inference components, each beside a neighbour that is accepted.

Records only: no endpoint in this module has processes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from local.sagemaker.components import rules as component_rules
from local.sagemaker.errors import AwsApiError
from tests.support.sagemaker import (
    ROLE,
    RecordedCloud,
    SageMakerHarness,
    build,
    component,
    host,
    serverless,
    variant,
)

ARN = "arn:aws:sagemaker:us-east-1:123456789012"
ASYNC = {"OutputConfig": {"S3OutputPath": "s3://b/p"}}
MANAGED = {"MinInstanceCount": 0, "MaxInstanceCount": 2}
POOLS = [{"InstanceType": "ml.g5.xlarge", "Priority": 1}, {"InstanceType": "ml.g6.xlarge", "Priority": 2}]


@pytest.fixture
def harness(tmp_path: Path) -> SageMakerHarness:
    """Model `m`; endpoint `e` for components with the component `alpha`, endpoint `r` that is real-time."""
    cloud = RecordedCloud()
    harness = SageMakerHarness(build(tmp_path, cloud), cloud)
    harness.model("m")
    harness.config("hosting", host(ManagedInstanceScaling=MANAGED), ExecutionRoleArn=ROLE)
    harness.config("realtime", variant())
    for name, config in (("e", "hosting"), ("r", "realtime")):
        described = harness.call("DescribeEndpointConfig", EndpointConfigName=config)
        harness.sagemaker.store.endpoints.add(
            name,
            {
                "EndpointName": name,
                "EndpointArn": f"{ARN}:endpoint/{name}",
                "EndpointConfigName": config,
                "EndpointStatus": "InService",
                "CreationTime": 1.0,
                "LastModifiedTime": 1.0,
                "Config": described,
                "Models": {},
                "Sizes": {described["ProductionVariants"][0]["VariantName"]: (1.0, 1)},
            },
        )
    stored = component("alpha")
    harness.sagemaker.store.components.add(
        "alpha",
        {
            **{key: stored[key] for key in ("InferenceComponentName", "EndpointName", "VariantName")},
            "InferenceComponentArn": f"{ARN}:inference-component/alpha",
            "EndpointArn": f"{ARN}:endpoint/e",
            "InferenceComponentStatus": "InService",
            "CreationTime": 1.0,
            "LastModifiedTime": 1.0,
            "Specification": stored["Specification"],
            "Model": {},
            "CopyCount": 1,
            "Base": "",
        },
    )
    return harness


def refusal(harness: SageMakerHarness, operation: str, **request: Any) -> AwsApiError:
    with pytest.raises(AwsApiError) as caught:
        harness.call(operation, **request)
    assert (caught.value.code, caught.value.status) == ("ValidationException", 400)
    return caught.value


def without(one: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in one.items() if name not in names}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ProductionVariants": [serverless("a"), variant("b")]}, "cannot be mixed"),
        (
            {"ProductionVariants": [serverless("a"), serverless("b")]},
            "Multiple production variants are not supported for serverless",
        ),
        (
            {"ProductionVariants": [serverless()], "ShadowProductionVariants": [serverless("s")]},
            "Shadow variants are not supported for serverless",
        ),
        ({"ProductionVariants": [serverless()], "AsyncInferenceConfig": ASYNC}, "serverless endpoints"),
        ({"ProductionVariants": [serverless()], "EnableNetworkIsolation": True}, "EnableNetworkIsolation"),
        ({"ProductionVariants": [serverless(MemorySizeInMB=1500)]}, "one of 1024, 2048"),
        ({"ProductionVariants": [serverless(MemorySizeInMB=8192)]}, "less than or equal to 6144"),
        ({"ProductionVariants": [serverless(ProvisionedConcurrency=3)]}, "more than MaxConcurrency"),
        ({"ProductionVariants": [serverless() | {"InstanceType": "ml.m5.large"}]}, "InstanceType must not"),
        ({"ProductionVariants": [host()]}, "must have an ExecutionRoleArn"),
        ({"ProductionVariants": [host(), variant()], "ExecutionRoleArn": ROLE}, "or none has"),
        (
            {"ProductionVariants": [host(), host() | {"VariantName": "b"}], "ExecutionRoleArn": ROLE},
            "exactly one production variant",
        ),
        (
            {
                "ProductionVariants": [host()],
                "ShadowProductionVariants": [host() | {"VariantName": "s"}],
                "ExecutionRoleArn": ROLE,
            },
            "no shadow variant",
        ),
        (
            {"ProductionVariants": [host()], "ExecutionRoleArn": ROLE, "AsyncInferenceConfig": ASYNC},
            "not supported for inference components",
        ),
        (
            {
                "ProductionVariants": [
                    host(ManagedInstanceScaling={"MinInstanceCount": 2, "MaxInstanceCount": 1})
                ],
                "ExecutionRoleArn": ROLE,
            },
            "more than its MaxInstanceCount",
        ),
        ({"ExecutionRoleArn": ROLE}, "only allowed when the variants have no ModelName"),
        ({"ProductionVariants": [variant(ManagedInstanceScaling=MANAGED)]}, "is for inference components"),
        ({"ProductionVariants": [variant(InstancePools=POOLS)]}, "either InstanceType or InstancePools"),
        (
            {
                "ProductionVariants": [
                    without(variant(), "InstanceType")
                    | {"InstancePools": [POOLS[0], POOLS[1] | {"Priority": 1}]}
                ]
            },
            "different priorities",
        ),
        (
            {"ProductionVariants": [variant("a"), variant("b")], "AsyncInferenceConfig": ASYNC},
            "exactly one production variant",
        ),
        (
            {"ShadowProductionVariants": [variant("s")], "AsyncInferenceConfig": ASYNC},
            "not supported for asynchronous endpoints",
        ),
        ({"AsyncInferenceConfig": {"OutputConfig": {}}}, "must have an S3OutputPath"),
    ],
)
def test_configurations(harness: SageMakerHarness, change: dict[str, Any], words: str) -> None:
    request = {"EndpointConfigName": "d", "ProductionVariants": [variant()]} | change
    assert words in refusal(harness, "CreateEndpointConfig", **request).message


@pytest.mark.parametrize(
    "request_",
    [
        {"ProductionVariants": [serverless()]},
        {"ProductionVariants": [serverless(ProvisionedConcurrency=2)]},
        {"ProductionVariants": [host(ManagedInstanceScaling=MANAGED)], "ExecutionRoleArn": ROLE},
        {"ProductionVariants": [host()], "ExecutionRoleArn": ROLE},
        {
            "ProductionVariants": [without(host(), "InstanceType") | {"InstancePools": POOLS}],
            "ExecutionRoleArn": ROLE,
        },
        {"ProductionVariants": [variant()], "AsyncInferenceConfig": ASYNC},
        {"ProductionVariants": [without(variant(), "InstanceType") | {"InstancePools": POOLS}]},
    ],
)
def test_configurations_that_are_accepted(harness: SageMakerHarness, request_: dict[str, Any]) -> None:
    harness.call("CreateEndpointConfig", EndpointConfigName="d", **request_)


def test_a_serverless_model_is_not_isolated(harness: SageMakerHarness) -> None:
    harness.sagemaker.store.models.get("m")["EnableNetworkIsolation"] = True
    request = {"EndpointConfigName": "d", "ProductionVariants": [serverless()]}
    assert "Model m has EnableNetworkIsolation" in refusal(harness, "CreateEndpointConfig", **request).message
    harness.config("d", variant())


def adapter(**container: str) -> dict[str, Any]:
    return {
        "BaseInferenceComponentName": "alpha",
        "Container": {"ArtifactUrl": "s3://b/a.tar.gz", **container},
    }


SPECIFICATION = component("beta")["Specification"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"InferenceComponentName": "Alpha"},
            f'Cannot create already existing inference component "{ARN}:inference-component/alpha".',
        ),
        ({"EndpointName": "x"}, f'Could not find endpoint "{ARN}:endpoint/x".'),
        ({"EndpointName": "r"}, "hosts models in its variants"),
        ({"VariantName": "x"}, "The variant name(s) x is/are not present in the endpoint."),
        ({"VariantName": None}, "must have a VariantName"),
        ({"RuntimeConfig": None}, "must have a RuntimeConfig"),
        ({"Specification": None}, "must have a Specification"),
        ({"Specification": without(SPECIFICATION, "Container")}, "a ModelName or a Container with an Image"),
        ({"Specification": SPECIFICATION | {"ModelName": "m"}}, "either ModelName or Container"),
        (
            {"Specification": without(SPECIFICATION, "ComputeResourceRequirements")},
            "ComputeResourceRequirements",
        ),
        (
            {
                "Specification": SPECIFICATION
                | {"ComputeResourceRequirements": {"MinMemoryRequiredInMb": 999_999}}
            },
            "MinMemoryRequiredInMb 999999 is more than an instance of ml.m5.xlarge has (16384)",
        ),
        (
            {
                "Specification": SPECIFICATION
                | {
                    "ComputeResourceRequirements": {
                        "MinMemoryRequiredInMb": 128,
                        "NumberOfAcceleratorDevicesRequired": 1,
                    }
                }
            },
            "NumberOfAcceleratorDevicesRequired 1 is more than",
        ),
        ({"Specification": SPECIFICATION | {"DataCacheConfig": {"EnableCaching": True}}}, "DataCacheConfig"),
        ({"Specification": adapter()}, "RuntimeConfig must not be given for an adapter"),
        (
            {"Specification": adapter(Image="i"), "RuntimeConfig": None},
            "must have an ArtifactUrl and no more",
        ),
        (
            {"Specification": adapter() | {"BaseInferenceComponentName": "x"}, "RuntimeConfig": None},
            f'Could not find inference component "{ARN}:inference-component/x".',
        ),
        (
            {"Specification": adapter(), "RuntimeConfig": None, "EndpointName": "r"},
            "on the endpoint of its base",
        ),
    ],
)
def test_creating_components(harness: SageMakerHarness, change: dict[str, Any], message: str) -> None:
    request = {key: value for key, value in (component("beta") | change).items() if value is not None}
    assert message in refusal(harness, "CreateInferenceComponent", **request).message


def test_an_adapter_waits_for_its_base(harness: SageMakerHarness) -> None:
    harness.sagemaker.store.components.get("alpha")["InferenceComponentStatus"] = "Updating"
    request = without(component("lora") | {"Specification": adapter()}, "RuntimeConfig")
    assert "is Updating, not InService" in refusal(harness, "CreateInferenceComponent", **request).message


def test_copies_are_limited_to_what_the_machine_bears(harness: SageMakerHarness) -> None:
    with pytest.raises(AwsApiError) as caught:
        harness.call("CreateInferenceComponent", **component("beta", copies=component_rules.MAX_COPIES))
    assert caught.value.code == "ResourceLimitExceeded"


@pytest.mark.parametrize("status", ["Creating", "Updating", "Deleting"])
@pytest.mark.parametrize(
    ("operation", "request_"),
    [
        ("UpdateInferenceComponent", {"RuntimeConfig": {"CopyCount": 2}}),
        ("UpdateInferenceComponentRuntimeConfig", {"DesiredRuntimeConfig": {"CopyCount": 2}}),
        ("DeleteInferenceComponent", {}),
    ],
)
def test_nothing_changes_a_component_in_progress(
    harness: SageMakerHarness, operation: str, request_: dict[str, Any], status: str
) -> None:
    harness.sagemaker.store.components.get("alpha")["InferenceComponentStatus"] = status
    error = refusal(harness, operation, InferenceComponentName="alpha", **request_)
    assert f'inference component "{ARN}:inference-component/alpha" in status {status}' in error.message


@pytest.mark.parametrize(
    "operation",
    ["DescribeInferenceComponent", "DeleteInferenceComponent", "UpdateInferenceComponent"],
)
def test_unknown_components(harness: SageMakerHarness, operation: str) -> None:
    message = refusal(harness, operation, InferenceComponentName="x").message
    assert message == f'Could not find inference component "{ARN}:inference-component/x".'


def test_an_endpoint_goes_after_its_components(harness: SageMakerHarness) -> None:
    message = refusal(harness, "DeleteEndpoint", EndpointName="e").message
    assert message.endswith("it hosts the inference component(s) alpha. Delete those first.")


def test_a_variant_with_components_stays_what_it_is(harness: SageMakerHarness) -> None:
    error = refusal(harness, "UpdateEndpoint", EndpointName="e", EndpointConfigName="realtime")
    assert "Variant all hosts the inference component alpha" in error.message


@pytest.mark.parametrize(
    ("endpoint", "change", "words"),
    [
        ("e", {"VariantName": "all", "DesiredInstanceCount": 2}, "set by its ManagedInstanceScaling"),
        ("r", {"VariantName": "champion", "DesiredInstanceCount": 0}, "at least 1"),
    ],
)
def test_instance_counts(
    harness: SageMakerHarness, endpoint: str, change: dict[str, Any], words: str
) -> None:
    error = refusal(
        harness,
        "UpdateEndpointWeightsAndCapacities",
        EndpointName=endpoint,
        DesiredWeightsAndCapacities=[change],
    )
    assert words in error.message


ROLLING = {"MaximumBatchSize": {"Type": "CAPACITY_PERCENT", "Value": 50}, "WaitIntervalInSeconds": 0}


@pytest.mark.parametrize(
    ("policy", "variants", "words"),
    [
        (
            ROLLING | {"MaximumBatchSize": {"Type": "CAPACITY_PERCENT", "Value": 4}},
            [variant(InitialInstanceCount=2)],
            "between 5 and 50",
        ),
        (ROLLING, [variant()], "more than 50 percent of a variant with 1 instance(s)"),
        (ROLLING, [serverless()], "not supported for serverless"),
    ],
)
def test_rolling_updates(harness: SageMakerHarness, policy: dict, variants: list, words: str) -> None:
    harness.config("d", *variants)
    error = refusal(
        harness,
        "UpdateEndpoint",
        EndpointName="r",
        EndpointConfigName="d",
        DeploymentConfig={"RollingUpdatePolicy": policy},
    )
    assert words in error.message


def test_a_rolling_update_has_one_variant(harness: SageMakerHarness) -> None:
    two = [variant(InitialInstanceCount=2), variant("challenger", InitialInstanceCount=2)]
    harness.config("ab", *two)
    record = harness.sagemaker.store.endpoints.get("r")
    record["Config"] = harness.call("DescribeEndpointConfig", EndpointConfigName="ab")
    error = refusal(
        harness,
        "UpdateEndpoint",
        EndpointName="r",
        EndpointConfigName="ab",
        DeploymentConfig={"RollingUpdatePolicy": ROLLING},
    )
    assert "not supported for endpoints with several production variants" in error.message


@pytest.mark.parametrize(
    "variants",
    [[variant("challenger")], [variant(InstanceType="ml.m5.xlarge")]],
    ids=["removed", "another instance type"],
)
def test_a_scaled_variant_is_neither_removed_nor_moved(harness: SageMakerHarness, variants: list) -> None:
    harness.config("d", *variants)
    harness.sagemaker.store.scaled_variants = lambda _endpoint: frozenset({"champion"})
    error = refusal(harness, "UpdateEndpoint", EndpointName="r", EndpointConfigName="d")
    assert error.message == (
        'The variant(s) "champion" must be deregistered as scalable targets with AWS Auto Scaling before '
        "they can be removed or have their instance type updated."
    )
