"""API keys, throttles and quotas."""

from __future__ import annotations

import json

import pytest

from local.cloud.rest_api.usage_plans import UsageMeter
from tests.support.rest_api import header, uri

KEY = {"id": "k1", "name": "tenant", "value": "v" * 24, "enabled": True}
COVERED = [{"apiId": "api1", "stage": "live"}]
CALLER = {"x-api-key": KEY["value"]}


@pytest.fixture
def keyed(rest_api):
    """An API whose GET /x asks for a key; `keyed(throttle=…, quota=…)` gives the key a plan."""
    rest_api.route("GET", "/x", apiKeyRequired=True)
    rest_api.route("GET", "/free")

    def plan(*, keys=(KEY,), stages=COVERED, **limits):
        rest_api.raw_plans.append(({"id": "p1", "apiStages": stages, **limits}, list(keys)))
        return rest_api

    return plan


def statuses(rest_api, count, target="/x", headers=CALLER):
    return [rest_api.call("GET", target, headers).status for _ in range(count)]


def test_a_key_of_a_plan_is_let_in_and_named_to_the_function(keyed):
    identity = json.loads(keyed().call("GET", "/x", CALLER).body)["requestContext"]["identity"]
    assert (identity["apiKeyId"], identity["apiKey"]) == ("k1", KEY["value"])


@pytest.mark.parametrize("headers", [{}, {"x-api-key": "unknown"}, {"x-api-key": ""}])
def test_an_unknown_key_is_a_403(keyed, headers):
    reply = keyed().call("GET", "/x", headers)
    assert (reply.status, reply.body) == (403, b'{"message":"Forbidden"}')
    assert header(reply, "x-amzn-ErrorType") == ["ForbiddenException"]


@pytest.mark.parametrize("enabled", [False, "false"])
def test_a_disabled_key_is_a_403(keyed, enabled):
    assert statuses(keyed(keys=[{**KEY, "enabled": enabled}]), 1) == [403]


def test_a_key_without_a_plan_for_the_stage_is_a_403(rest_api, keyed):
    assert statuses(rest_api, 1) == [403]


def test_the_burst_is_spent_and_the_rate_refills_it(keyed):
    rest_api = keyed(throttle={"rateLimit": 2, "burstLimit": 3})
    assert statuses(rest_api, 4) == [200, 200, 200, 429]
    rest_api.now += 0.5
    assert statuses(rest_api, 2) == [200, 429]
    rest_api.now += 3600
    assert statuses(rest_api, 4) == [200, 200, 200, 429]


def test_a_throttled_call_says_so(keyed):
    reply = keyed(throttle={"rateLimit": 1, "burstLimit": 0}).call("GET", "/x", CALLER)
    assert (reply.status, reply.body) == (429, b'{"message":"Too Many Requests"}')
    assert header(reply, "x-amzn-ErrorType") == ["TooManyRequestsException"]


def test_each_key_has_its_own_bucket(keyed):
    other = {**KEY, "id": "k2", "value": "w" * 24}
    rest_api = keyed(keys=[KEY, other], throttle={"rateLimit": 1, "burstLimit": 1})
    assert statuses(rest_api, 2) == [200, 429]
    assert statuses(rest_api, 1, headers={"x-api-key": other["value"]}) == [200]


@pytest.mark.parametrize("limits", [{"rateLimit": 1, "burstLimit": 1}, {"RateLimit": 1, "BurstLimit": 1}])
def test_a_plan_may_limit_one_method(keyed, limits):
    rest_api = keyed(stages=[{**COVERED[0], "throttle": {"/x/GET": limits}}])
    rest_api.route("GET", "/z", apiKeyRequired=True)
    assert statuses(rest_api, 2) == [200, 429]
    assert statuses(rest_api, 2, "/z") == [200, 200]


@pytest.mark.parametrize("key", ["*/*", "/free/GET", "/~1free/GET"])
def test_a_stage_limits_everybody_alike(rest_api, key):
    rest_api.route("GET", "/free")
    rest_api.stage["methodSettings"] = {key: {"throttlingRateLimit": 1, "throttlingBurstLimit": 2}}
    assert statuses(rest_api, 3, "/free", {}) == [200, 200, 429]


def test_a_quota_ends_and_starts_again_with_its_period(keyed):
    rest_api = keyed(quota={"limit": 2, "period": "DAY"})
    assert statuses(rest_api, 3) == [200, 200, 429]
    reply = rest_api.call("GET", "/x", CALLER)
    assert reply.body == b'{"message":"Limit Exceeded"}'
    assert header(reply, "x-amzn-ErrorType") == ["LimitExceededException"]
    rest_api.now += 24 * 3600
    assert statuses(rest_api, 1) == [200]


def test_the_authorizer_may_name_the_key(keyed):
    """Given an API that takes its keys from the authorizer, the caller's own header counts for nothing."""
    rest_api = keyed()
    rest_api.api["apiKeySource"] = "AUTHORIZER"

    def authorize(event):
        caller = event["headers"]["authorization"]
        policy = {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
        return {
            "policyDocument": policy,
            "usageIdentifierKey": KEY["value"] if caller == "good" else "unknown",
        }

    rest_api.proxy(authorize)
    rest_api.authorizers.append(
        {
            "id": "a",
            "type": "REQUEST",
            "authorizerUri": uri("f0"),
            "identitySource": "method.request.header.authorization",
        }
    )
    rest_api.route("GET", "/x", authorizationType="CUSTOM", authorizerId="a", apiKeyRequired=True)
    assert rest_api.call("GET", "/x", {"authorization": "good"}).status == 200
    assert rest_api.call("GET", "/x", {"authorization": "bad", **CALLER}).status == 403


def test_quotas_survive_a_restart(rest_api, keyed):
    keyed(quota={"limit": 1, "period": "MONTH"})
    assert statuses(rest_api, 1) == [200]
    saved = json.loads(json.dumps(rest_api.meter.save()))
    rest_api.use(UsageMeter(lambda: rest_api.now))
    rest_api.meter.load(saved)
    assert statuses(rest_api, 1) == [429]
