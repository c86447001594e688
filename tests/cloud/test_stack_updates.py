"""A serving stack changed by its parameters alone, as the refresh loop does it, while callers go on calling.

The template has the shape of the serving stack: a challenger behind a condition, in the same endpoint.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cloud.test_sagemaker import ACCOUNT, IMAGE, Emulator, until

STACK, ENDPOINT = "serving", "phased"


def model(name: str) -> dict[str, Any]:
    """A model whose container says its version."""
    return {
        "Type": "AWS::SageMaker::Model",
        "Properties": {
            "ExecutionRoleArn": f"arn:aws:iam::{ACCOUNT}:role/plain",
            "PrimaryContainer": {"Image": IMAGE, "Environment": {"FAKE_NAME": {"Ref": f"{name}Version"}}},
        },
    }


def variant(name: str, weight: float) -> dict[str, Any]:
    """A variant of one instance."""
    return {
        "VariantName": name.lower(),
        "ModelName": {"Fn::GetAtt": [name, "ModelName"]},
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 1,
        "InitialVariantWeight": weight,
    }


def template(**config: Any) -> str:
    """The stack; `config` are further properties of the endpoint's configuration."""
    nothing = {"Ref": "AWS::NoValue"}
    guarded = {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": {
        "Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}}}  # fmt: skip
    variants = [variant("Champion", 1), {"Fn::If": ["AbTest", variant("Challenger", 0.5), nothing]}]
    return json.dumps(
        {
            "Parameters": {
                "ChampionVersion": {"Type": "String"},
                "ChallengerVersion": {"Type": "String", "Default": ""},
                "Phase": {"Type": "String", "Default": "steady", "AllowedValues": ["steady", "ab"]},
                "DeploymentGuardrails": {"Type": "String", "Default": "use"},
                "BootstrapVersion": {
                    "Type": "AWS::SSM::Parameter::Value<String>",
                    "Default": "/bootstrap/version",
                },
            },
            "Conditions": {
                "AbTest": {"Fn::Equals": [{"Ref": "Phase"}, "ab"]},
                "UseGuardrails": {"Fn::Equals": [{"Ref": "DeploymentGuardrails"}, "use"]},
                "HasChallenger": {"Fn::Or": [{"Condition": "AbTest"}, {"Condition": "AbTest"}]},
            },
            "Resources": {
                "Champion": model("Champion"),
                "Challenger": model("Challenger") | {"Condition": "HasChallenger"},
                "Config": {
                    "Type": "AWS::SageMaker::EndpointConfig",
                    "Properties": {"ProductionVariants": variants, **config},
                },
                "Endpoint": {
                    "Type": "AWS::SageMaker::Endpoint",
                    "Properties": {
                        "EndpointName": ENDPOINT,
                        "EndpointConfigName": {"Fn::GetAtt": ["Config", "EndpointConfigName"]},
                        "RetainAllVariantProperties": True,
                        "DeploymentConfig": {"Fn::If": ["UseGuardrails", guarded, nothing]},
                    },
                },
            },
        }
    )


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    cloud = Emulator(tmp_path_factory.mktemp("stacks"))
    cloud.start()
    cloud.role("plain")
    cloud.aws("ssm").put_parameter(Name="/bootstrap/version", Value="30", Type="String")
    yield cloud
    cloud.end()


class Callers:
    """Somebody who calls without a pause; `answers` are the containers' names."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._enough = threading.Event()
        self.answers: list[str] = []
        self.errors: list[str] = []

    @contextlib.contextmanager
    def calling(self) -> Iterator[Callers]:
        thread = threading.Thread(target=self._call)
        thread.start()
        try:
            yield self
        finally:
            self._enough.set()
            thread.join()

    def _call(self) -> None:
        client = self._emulator.aws("sagemaker-runtime")
        while not self._enough.wait(0.02):
            try:
                reply = client.invoke_endpoint(EndpointName=ENDPOINT, Body=b'{"sleep": 0.05}')
                self.answers.append(json.loads(reply["Body"].read())["name"])
            except Exception as error:
                self.errors.append(str(error))


def update(emulator: Emulator, body: str | None = None, **changes: str) -> dict[str, Any]:
    """Change some parameters, and the template if there is a `body`; the stack once it rests."""
    cloudformation = emulator.aws("cloudformation")

    def finished() -> dict[str, Any] | None:
        (stack,) = cloudformation.describe_stacks(StackName=STACK)["Stacks"]
        return None if stack["StackStatus"].endswith("IN_PROGRESS") else dict(stack)

    (before,) = cloudformation.describe_stacks(StackName=STACK)["Stacks"]
    cloudformation.update_stack(
        StackName=STACK,
        **({"TemplateBody": body} if body else {"UsePreviousTemplate": True}),
        Parameters=[
            {"ParameterKey": name, "ParameterValue": changes[name]}
            if name in changes
            else {"ParameterKey": name, "UsePreviousValue": True}
            for name in (each["ParameterKey"] for each in before["Parameters"])
        ],
        Capabilities=["CAPABILITY_IAM"],
        ClientRequestToken="-".join(["token", *changes.values(), "template" if body else "same"]),
    )
    return dict(until(finished, "the stack rests"))


def variants(emulator: Emulator) -> dict[str, float]:
    """The endpoint's variants with their weights."""
    found = emulator.settled(ENDPOINT)
    assert found["EndpointStatus"] == "InService"
    return {each["VariantName"]: each["CurrentWeight"] for each in found["ProductionVariants"]}


def test_phases_change_without_losing_a_request(emulator: Emulator) -> None:
    cloudformation = emulator.aws("cloudformation")
    cloudformation.create_stack(
        StackName=STACK,
        TemplateBody=template(),
        Parameters=[{"ParameterKey": "ChampionVersion", "ParameterValue": "one"}],
    )
    cloudformation.get_waiter("stack_create_complete").wait(StackName=STACK, WaiterConfig={"Delay": 1})
    assert variants(emulator) == {"champion": 1.0}

    with Callers(emulator).calling() as callers:
        stack = update(emulator, ChallengerVersion="two", Phase="ab", DeploymentGuardrails="skip")
        assert stack["StackStatus"] == "UPDATE_COMPLETE"
        assert variants(emulator) == {"champion": 1.0, "challenger": 0.5}
        until(lambda: {"one", "two"} <= set(callers.answers), "both variants answer")
        set_by_name = {each["ParameterKey"]: each["ParameterValue"] for each in stack["Parameters"]}
        assert set_by_name["ChampionVersion"] == "one"

        # The new champion takes over, then the challenger's place is cleared.
        assert update(emulator, ChampionVersion="two")["StackStatus"] == "UPDATE_COMPLETE"
        until(lambda: set(callers.answers[-20:]) == {"two"}, "only the new version answers")
        stack = update(emulator, ChallengerVersion="", Phase="steady")
        assert stack["StackStatus"] == "UPDATE_COMPLETE"
        assert variants(emulator) == {"champion": 1.0}
    assert callers.errors == []
    models = emulator.aws("sagemaker").list_models()["Models"]
    assert len(models) == 1, "the challenger's model is deleted with its condition"


def test_weights_set_outside_survive_an_update(emulator: Emulator) -> None:
    update(emulator, ChallengerVersion="three", Phase="ab", DeploymentGuardrails="skip")
    emulator.aws("sagemaker").update_endpoint_weights_and_capacities(
        EndpointName=ENDPOINT,
        DesiredWeightsAndCapacities=[{"VariantName": "challenger", "DesiredWeight": 0.9}],
    )
    emulator.settled(ENDPOINT)
    assert update(emulator, ChampionVersion="four")["StackStatus"] == "UPDATE_COMPLETE"
    assert variants(emulator) == {"champion": 1.0, "challenger": 0.9}
    update(emulator, ChallengerVersion="", Phase="steady")


def test_a_deploy_in_the_middle_of_an_ab_test_carries_it_along(emulator: Emulator) -> None:
    """What `cdk deploy` does: another template, every parameter as it was."""
    update(emulator, ChallengerVersion="five", Phase="ab", DeploymentGuardrails="skip")
    sagemaker = emulator.aws("sagemaker")
    sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=ENDPOINT,
        DesiredWeightsAndCapacities=[
            {"VariantName": "champion", "DesiredWeight": 3.0, "DesiredInstanceCount": 2},
            {"VariantName": "challenger", "DesiredWeight": 0.7, "DesiredInstanceCount": 2},
        ],
    )

    def shown() -> dict[str, tuple[float, int]]:
        found = emulator.settled(ENDPOINT)
        assert found["EndpointStatus"] == "InService"
        return {
            each["VariantName"]: (each["CurrentWeight"], each["CurrentInstanceCount"])
            for each in found["ProductionVariants"]
        }

    def challenger() -> tuple[str, str]:
        config = sagemaker.describe_endpoint_config(
            EndpointConfigName=sagemaker.describe_endpoint(EndpointName=ENDPOINT)["EndpointConfigName"]
        )
        (one,) = [v for v in config["ProductionVariants"] if v["VariantName"] == "challenger"]
        answer = emulator.invoke(ENDPOINT, TargetVariant="challenger")["Answer"]["name"]
        return one["ModelName"], answer

    before, config = (shown(), challenger()), sagemaker.describe_endpoint(EndpointName=ENDPOINT)
    assert before[0] == {"champion": (3.0, 2), "challenger": (pytest.approx(0.7), 2)}
    body = template(MetricsConfig={"MetricPublishFrequencyInSeconds": 30})
    with Callers(emulator).calling() as callers:
        assert update(emulator, body)["StackStatus"] == "UPDATE_COMPLETE"
    assert callers.errors == []
    assert (shown(), challenger()) == before
    after = sagemaker.describe_endpoint(EndpointName=ENDPOINT)
    assert after["EndpointConfigName"] != config["EndpointConfigName"], "the deploy did change the endpoint"
    update(emulator, ChallengerVersion="", Phase="steady")


def test_an_update_that_changes_nothing_says_so(emulator: Emulator) -> None:
    with pytest.raises(Exception, match="No updates are to be performed"):
        update(emulator)
