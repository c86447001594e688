"""The CloudFormation types, called as CloudFormation would."""

from __future__ import annotations

import json
from typing import Any

import pytest

from local.sagemaker.cloudformation import (
    COMPONENT,
    CONFIG,
    ENDPOINT,
    MODEL,
    ResourceFailedError,
    SageMakerResources,
)
from tests.support.sagemaker import IMAGE, ROLE, SageMakerHarness, component, host, scenario, variant

ARN = "arn:aws:sagemaker:us-east-1:123456789012"


def model_properties(name: str, **environment: str) -> dict[str, Any]:
    return {
        "ExecutionRoleArn": ROLE,
        "PrimaryContainer": {"Image": IMAGE, "Environment": {"FAKE_NAME": name, **environment}},
        "Tags": [{"Key": "aws:cloudformation:stack-name", "Value": "s"}, {"Key": "team", "Value": "a"}],
    }


async def config_for(resources: SageMakerResources, name: str, **environment: str) -> str:
    """A model and a configuration with one variant; the configuration's name."""
    _, attributes = await resources.create(MODEL, "Champion", model_properties(name, **environment))
    # As templates do, with numbers in the shape of strings.
    one = variant(model=attributes["ModelName"], InitialInstanceCount="1", InitialVariantWeight="2.5")
    _, attributes = await resources.create(CONFIG, "Config", {"ProductionVariants": [one]})
    return attributes["EndpointConfigName"]


@scenario
async def test_a_stacks_resources_live_and_die(harness: SageMakerHarness) -> None:
    resources = SageMakerResources(harness.sagemaker)
    config = await config_for(resources, "first")
    properties = {"EndpointName": "Evergreen-x", "EndpointConfigName": config}
    physical_id, attributes = await resources.create(ENDPOINT, "Endpoint", properties)
    assert physical_id == f"{ARN}:endpoint/evergreen-x"
    assert attributes == {"EndpointName": "Evergreen-x"}
    described = harness.call("DescribeEndpoint", EndpointName="Evergreen-x")
    assert described["EndpointStatus"] == "InService"
    assert described["ProductionVariants"][0]["CurrentWeight"] == 2.5
    (model,) = harness.call("ListModels")["Models"]
    assert model["ModelName"].startswith("Champion-")
    assert harness.call("ListTags", ResourceArn=model["ModelArn"])["Tags"] == [{"Key": "team", "Value": "a"}]

    changed = properties | {"EndpointConfigName": await config_for(resources, "second")}
    assert await resources.update_endpoint(physical_id, properties, changed) == (physical_id, attributes)
    answer = await harness.invoke(endpoint="evergreen-x")
    assert json.loads(answer.body)["name"] == "second"

    for _ in range(2):  # deleting what is gone is no error
        await resources.delete(ENDPOINT, physical_id)
    assert harness.call("ListEndpoints")["Endpoints"] == []
    await resources.delete(CONFIG, f"{ARN}:endpoint-config/{config}")
    assert len(harness.call("ListEndpointConfigs")["EndpointConfigs"]) == 1


@scenario
async def test_tags_alone_touch_no_process(harness: SageMakerHarness) -> None:
    resources = SageMakerResources(harness.sagemaker)
    properties = {"EndpointName": "e", "EndpointConfigName": await config_for(resources, "m")}
    physical_id, _ = await resources.create(ENDPOINT, "Endpoint", properties)
    before = json.loads((await harness.invoke()).body)["pid"]
    await resources.update_endpoint(
        physical_id, properties, properties | {"Tags": [{"Key": "k", "Value": "v"}]}
    )
    assert json.loads((await harness.invoke()).body)["pid"] == before
    assert harness.call("ListTags", ResourceArn=physical_id)["Tags"] == [{"Key": "k", "Value": "v"}]


@scenario
async def test_an_endpoint_that_does_not_start_fails_and_leaves_no_name_taken(
    harness: SageMakerHarness,
) -> None:
    resources = SageMakerResources(harness.sagemaker)
    properties = {"EndpointName": "e", "EndpointConfigName": await config_for(resources, "m", FAKE_CRASH="1")}
    with pytest.raises(ResourceFailedError, match="the weights are damaged"):
        await resources.create(ENDPOINT, "Endpoint", properties)
    assert harness.call("ListEndpoints")["Endpoints"] == []


@scenario
async def test_an_update_that_does_not_start_fails_and_the_old_one_serves(harness: SageMakerHarness) -> None:
    resources = SageMakerResources(harness.sagemaker)
    properties = {"EndpointName": "e", "EndpointConfigName": await config_for(resources, "good")}
    physical_id, _ = await resources.create(ENDPOINT, "Endpoint", properties)
    broken = properties | {"EndpointConfigName": await config_for(resources, "bad", FAKE_CRASH="1")}
    with pytest.raises(ResourceFailedError, match="the weights are damaged"):
        await resources.update_endpoint(physical_id, properties, broken)
    assert json.loads((await harness.invoke()).body)["name"] == "good"


@scenario
async def test_live_weights_survive_a_stack_update_that_retains_them(harness: SageMakerHarness) -> None:
    resources = SageMakerResources(harness.sagemaker)
    properties = {
        "EndpointName": "e",
        "EndpointConfigName": await config_for(resources, "m"),
        "RetainAllVariantProperties": "true",
    }
    physical_id, _ = await resources.create(ENDPOINT, "Endpoint", properties)
    harness.call(
        "UpdateEndpointWeightsAndCapacities",
        EndpointName="e",
        DesiredWeightsAndCapacities=[{"VariantName": "champion", "DesiredWeight": 9.0}],
    )
    await harness.settled()
    changed = properties | {"EndpointConfigName": await config_for(resources, "m")}
    await resources.update_endpoint(physical_id, properties, changed)
    (champion,) = harness.call("DescribeEndpoint", EndpointName="e")["ProductionVariants"]
    assert champion["CurrentWeight"] == 9.0


@scenario
async def test_a_bad_property_names_the_reason(harness: SageMakerHarness) -> None:
    with pytest.raises(
        ResourceFailedError, match=r"Unknown field 'Colour'.*Service: SageMaker, Status Code: 400"
    ):
        await SageMakerResources(harness.sagemaker).create(
            MODEL, "M", model_properties("m") | {"Colour": "red"}
        )


@scenario
async def test_a_components_copies_change_without_replacing_them(harness: SageMakerHarness) -> None:
    resources = SageMakerResources(harness.sagemaker)
    harness.config("c", host(), ExecutionRoleArn=ROLE)
    await harness.endpoint()
    properties = component("alpha") | {"RuntimeConfig": {"CopyCount": "1"}}
    physical_id, attributes = await resources.create(COMPONENT, "Base", properties)
    assert physical_id == f"{ARN}:inference-component/alpha"
    assert attributes == {"InferenceComponentName": "alpha", "InferenceComponentArn": physical_id}

    async def answers() -> list[dict[str, Any]]:
        named = {"X_Amzn_SageMaker_Inference_Component": "alpha"}
        return [json.loads((await harness.invoke(**named)).body) for _ in range(30)]

    (first,) = {each["pid"] for each in await answers()}
    more = properties | {"RuntimeConfig": {"CopyCount": 2}}
    await resources.update_component(physical_id, properties, more)
    pids = {each["pid"] for each in await answers()}
    assert first in pids
    assert len(pids) == 2

    specification = more["Specification"]
    container = {"Image": IMAGE, "Environment": {"FAKE_NAME": "beta"}}
    changed = more | {"Specification": specification | {"Container": container}}
    await resources.update_component(physical_id, more, changed)
    assert {each["name"] for each in await answers()} == {"beta"}

    broken = changed | {
        "Specification": specification | {"Container": {"Image": IMAGE, "Environment": {"FAKE_CRASH": "1"}}}
    }
    with pytest.raises(ResourceFailedError, match="the weights are damaged"):
        await resources.update_component(physical_id, changed, broken)
    assert {each["name"] for each in await answers()} == {"beta"}
    for _ in range(2):  # deleting what is gone is no error
        await resources.delete(COMPONENT, physical_id)
    assert harness.call("ListInferenceComponents")["InferenceComponents"] == []
