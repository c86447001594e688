"""What a stage serves is its deployment: a change to the API takes effect with a new one only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk.assertions import Template

from contracts.errors import STATUS_OF_TYPE
from infra.constructs import gateway_responses, inference_api
from infra.constructs.inference_api import InferenceApi
from infra.settings import Settings, load

Synthesize = Callable[..., dict[str, Any]]


def prod(**gateway: Any) -> Settings:
    """The settings of prod, with these of the gateway changed."""
    settings = load("prod").model_dump()
    settings["gateway"] |= gateway
    return Settings.model_validate(settings)


@pytest.fixture
def resources(context: dict[str, Any]) -> Synthesize:
    """`resources(**gateway)` synthesizes the API with these settings, and the flags of cdk.json."""

    def synthesize(**gateway: Any) -> dict[str, Any]:
        stack = cdk.Stack(cdk.App(context=context), "gateway")
        functions = {
            name: lambda_.Function(
                stack,
                name,
                runtime=lambda_.Runtime.PYTHON_3_13,
                handler="index.handler",
                code=lambda_.Code.from_inline("def handler(event, context): ..."),
            )
            for name in ("inference", "api", "jobs", "authorizer")
        }
        InferenceApi(stack, "Door", settings=prod(**gateway), logs_key=kms.Key(stack, "Key"), **functions)
        return dict(Template.from_stack(stack).to_json()["Resources"])

    return synthesize


def deployment(resources: dict[str, Any]) -> str:
    """The logical id of the one deployment, to which the stage points."""
    (name,) = [name for name, each in resources.items() if each["Type"] == "AWS::ApiGateway::Deployment"]
    (stage,) = [each for each in resources.values() if each["Type"] == "AWS::ApiGateway::Stage"]
    assert stage["Properties"]["DeploymentId"] == {"Ref": name}
    return name


def changed_kinds(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """Types of the resources whose properties differ."""
    return {
        each["Type"].removeprefix("AWS::ApiGateway::")
        for name, each in after.items()
        if name in before and before[name].get("Properties") != each.get("Properties")
    } - {"Stage"}


@pytest.mark.parametrize(
    ("gateway", "kinds"),
    [
        ({"authorizer_cache_seconds": 0}, {"Authorizer"}),
        ({"cors_origins": ["https://other.example.com"]}, {"Method", "GatewayResponse"}),
        ({"quota": {"limit": 7, "period": "DAY"}}, {"GatewayResponse", "UsagePlan"}),
    ],
)
def test_a_changed_setting_of_the_api_is_deployed(
    resources: Synthesize, gateway: dict[str, Any], kinds: set[str]
) -> None:
    before, after = resources(), resources(**gateway)
    assert changed_kinds(before, after) <= kinds
    assert changed_kinds(before, after) & {"Authorizer", "Method", "GatewayResponse"}
    assert deployment(before) != deployment(after)


@pytest.mark.parametrize("changed", ["Authorization", "x-api-key"])
def test_another_identity_source_is_deployed(
    resources: Synthesize, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    before = resources()
    source = staticmethod(lambda name: f"method.request.header.{'Other' * (name == changed)}{name}")
    monkeypatch.setattr(inference_api.apigateway.IdentitySource, "header", source)
    after = resources()
    assert changed_kinds(before, after) == {"Authorizer"}
    assert deployment(before) != deployment(after)


def test_another_error_body_is_deployed(resources: Synthesize, monkeypatch: pytest.MonkeyPatch) -> None:
    before = resources()
    monkeypatch.setitem(gateway_responses._MESSAGES, "invalid_api_key", "Another text.")
    after = resources()
    assert changed_kinds(before, after) == {"GatewayResponse"}
    assert deployment(before) != deployment(after)


def test_another_status_of_an_error_is_deployed(
    resources: Synthesize, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = resources()
    monkeypatch.setitem(STATUS_OF_TYPE, "rate_limit_error", 420)
    after = resources()
    assert changed_kinds(before, after) == {"GatewayResponse"}
    assert deployment(before) != deployment(after)


def test_nothing_changed_is_not_deployed_again(resources: Synthesize) -> None:
    assert deployment(resources()) == deployment(resources())


def test_all_that_a_deployment_copies_is_of_a_kind_tested_here(resources: Synthesize) -> None:
    """Who adds a model, a validator or the like shows here that its change is deployed."""
    kinds = {each["Type"] for each in resources().values() if each["Type"].startswith("AWS::ApiGateway::")}
    copied = {"RestApi", "Resource", "Method", "Authorizer", "GatewayResponse"}
    beside = {"Deployment", "Stage", "UsagePlan", "Account", "DomainName", "BasePathMapping"}
    assert {kind.removeprefix("AWS::ApiGateway::") for kind in kinds} <= copied | beside
