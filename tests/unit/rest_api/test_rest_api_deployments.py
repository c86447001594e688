"""A deployment is a snapshot, a stage is not; and what CloudFormation's emulation drops is put back."""

from __future__ import annotations

import json

import pytest

from local.cloud.adapter_types import RestApi
from local.cloud.rest_api.configuration import ConfigurationError
from local.cloud.rest_api.deployments import Deployments
from local.cloud.rest_api.dropped_properties import (
    restore_method,
    restore_rest_api,
    restore_stage,
    restore_validator,
)


@pytest.fixture
def live():
    """An API of one method in the control plane's hands, not deployed yet."""
    method = {"httpMethod": "GET", "methodIntegration": {"type": "MOCK", "uri": ""}}
    return RestApi(
        api={"id": "api1", "name": "evergreen", "apiKeySource": "HEADER"},
        resources={"r1": {"id": "r1", "path": "/x", "resourceMethods": {"GET": method}}},
        stages={"live": {"stageName": "live", "deploymentId": "d1"}},
    )


@pytest.fixture
def deployments(live):
    return Deployments(lambda api_id: live if api_id == "api1" else None)


def paths(deployments):
    return sorted(path for path, _ in deployments.find("api1", "live").api.methods)


def add_route(live, path):
    live.resources[path] = {"id": path, "path": path, "resourceMethods": {"GET": {"httpMethod": "GET"}}}


def test_a_change_shows_only_with_the_next_deployment(live, deployments):
    deployments.snapshot("api1", "d1")
    add_route(live, "/y")
    assert paths(deployments) == ["/x"]
    deployments.snapshot("api1", "d2")
    assert paths(deployments) == ["/x"]
    live.stages["live"]["deploymentId"] = "d2"
    assert paths(deployments) == ["/x", "/y"]
    live.stages["live"]["deploymentId"] = "d1"
    assert paths(deployments) == ["/x"]


def test_a_stages_own_settings_act_at_once(live, deployments):
    deployments.snapshot("api1", "d1")
    live.stages["live"]["variables"] = {"colour": "green"}
    assert deployments.find("api1", "live").stage.variables == {"colour": "green"}


def test_a_deployment_is_parsed_once(deployments):
    deployments.snapshot("api1", "d1")
    assert deployments.find("api1", "live").api is deployments.find("api1", "live").api


def test_what_is_not_there_serves_nothing(live, deployments):
    deployments.snapshot("api1", "d1")
    assert deployments.find("other", "live") is None
    assert deployments.find("api1", "other") is None
    live.api["disableExecuteApiEndpoint"] = True
    assert deployments.find("api1", "live") is None
    live.api["disableExecuteApiEndpoint"] = False
    assert deployments.find("api1", "live") is not None
    live.stages["live"]["deploymentId"] = ""
    assert deployments.find("api1", "live") is None


def test_snapshots_survive_a_restart(live, deployments):
    deployments.snapshot("api1", "d1")
    saved = json.loads(json.dumps(deployments.save()))
    add_route(live, "/y")
    restored = Deployments(lambda api_id: live)
    restored.load(saved)
    assert paths(restored) == ["/x"]


def test_old_snapshots_that_no_stage_serves_are_dropped(live, deployments):
    for number in range(1, 6):
        deployments.snapshot("api1", f"d{number}")
    assert sorted(deployments.save()) == ["api1/d1", "api1/d4", "api1/d5"]


@pytest.mark.parametrize(
    "guard", [{"authorizationType": "CUSTOM", "authorizerId": "gone"}, {"requestValidatorId": "gone"}]
)
def test_a_method_whose_guard_is_gone_is_not_served_unguarded(live, deployments, guard):
    live.resources["r1"]["resourceMethods"]["GET"].update(guard)
    deployments.snapshot("api1", "d1")
    with pytest.raises(ConfigurationError):
        deployments.find("api1", "live")


def test_dropped_properties_are_put_back(live):
    restore_rest_api(live, "api1", {"ApiKeySourceType": "AUTHORIZER"})
    restore_method(
        live,
        "m",
        {
            "ResourceId": "r1",
            "HttpMethod": "GET",
            "RequestValidatorId": "v1",
            "Integration": {"ResponseTransferMode": "STREAM"},
        },
    )
    restore_stage(
        live, "live", {"StageName": "live", "AccessLogSetting": {"DestinationArn": "arn", "Format": "f"}}
    )
    restore_validator(live, "v1", {"RestApiId": "api1", "ValidateRequestBody": "true"})
    method = live.resources["r1"]["resourceMethods"]["GET"]
    assert live.api["apiKeySource"] == "AUTHORIZER"
    assert live.validators["v1"]["validateRequestBody"] is True
    assert live.validators["v1"]["validateRequestParameters"] is False
    assert method["requestValidatorId"] == "v1"
    assert method["methodIntegration"]["responseTransferMode"] == "STREAM"
    assert live.stages["live"]["accessLogSettings"] == {"destinationArn": "arn", "format": "f"}


def test_a_property_taken_out_of_the_template_goes_back_to_its_default(live):
    method = live.resources["r1"]["resourceMethods"]["GET"]
    method["methodIntegration"]["responseTransferMode"] = "STREAM"
    restore_method(live, "m", {"ResourceId": "r1", "HttpMethod": "GET", "Integration": {"Type": "MOCK"}})
    restore_rest_api(live, "api1", {})
    assert method["methodIntegration"]["responseTransferMode"] == "BUFFERED"
    assert live.api["apiKeySource"] == "HEADER"
