"""Rules over endpoints refuse what the service would, in any state of the parameters, and no neighbour."""

from __future__ import annotations

from typing import Any

import pytest

from infra.policy.endpoint_rules import ENDPOINT_RULES
from infra.policy.template import parameter_combinations
from infra.settings import load
from infra.settings.cost import challenger_most, estimate
from infra.settings.prices import price_table

BY_ID = {rule.id: rule for rule in ENDPOINT_RULES}
NO_VALUE = {"Ref": "AWS::NoValue"}
CONFIG, ENDPOINT = "AWS::SageMaker::EndpointConfig", "AWS::SageMaker::Endpoint"
TARGET, POLICY = "AWS::ApplicationAutoScaling::ScalableTarget", "AWS::ApplicationAutoScaling::ScalingPolicy"
ALARM = "AWS::CloudWatch::Alarm"
METRICS = {"EnableDetailedObservability": False, "MetricPublishFrequencyInSeconds": 60}
FLEET, COPIES = "sagemaker:variant:DesiredInstanceCount", "sagemaker:inference-component:DesiredCopyCount"

Resource = tuple[str, dict[str, Any]]


def template(**resources: Resource) -> dict[str, Any]:
    return {
        "Resources": {name: {"Type": kind, "Properties": more} for name, (kind, more) in resources.items()}
    }


def variant(name: str = "champion", **more: Any) -> dict[str, Any]:
    return {"VariantName": name, "ModelName": "m", "InstanceType": "ml.g6e.xlarge"} | more


def phased(shadow_when: str, ab_when: str) -> dict[str, Any]:
    """A challenger that comes in one phase, a shadow in another."""
    config = {
        "ProductionVariants": [variant(), {"Fn::If": ["Ab", variant("challenger"), NO_VALUE]}],
        "ShadowProductionVariants": {"Fn::If": ["Shadow", [variant("mirror")], NO_VALUE]},
    }
    return template(It=(CONFIG, config)) | {
        "Parameters": {"Phase": {"AllowedValues": ["steady", "shadow", "ab"]}},
        "Conditions": {
            "Ab": {"Fn::Equals": [{"Ref": "Phase"}, ab_when]},
            "Shadow": {"Fn::Equals": [{"Ref": "Phase"}, shadow_when]},
        },
    }


def rolling(*variants: dict[str, Any]) -> dict[str, Any]:
    return template(
        Config=(CONFIG, {"ProductionVariants": list(variants)}),
        It=(ENDPOINT, {"DeploymentConfig": {"RollingUpdatePolicy": {}}}),
    )


def guarded(*alarms: Any, **more: Resource) -> dict[str, Any]:
    rollback = {"Alarms": [{"AlarmName": alarm} for alarm in alarms]}
    return template(It=(ENDPOINT, {"DeploymentConfig": {"AutoRollbackConfiguration": rollback}}), **more)


def alarm_on(value: Any) -> Resource:
    return ALARM, {"Dimensions": [{"Name": "EndpointName", "Value": value}]}


def config(*variants: dict[str, Any], **more: Any) -> dict[str, Any]:
    return template(It=(CONFIG, {"ProductionVariants": list(variants), "MetricsConfig": METRICS} | more))


def tracked(dimension: str, metric: str) -> dict[str, Any]:
    tracking = {"PredefinedMetricSpecification": {"PredefinedMetricType": metric}}
    policy = {"PolicyType": "TargetTrackingScaling", "ScalingTargetId": {"Ref": "Target"}}
    return template(
        Target=(TARGET, {"ScalableDimension": dimension, "MinCapacity": 1}),
        It=(POLICY, policy | {"TargetTrackingScalingPolicyConfiguration": tracking}),
    )


def woken(least: int, *, alarm: bool = True, step: bool = True, nightly: int = 1) -> dict[str, Any]:
    actions = [{"ScalableTargetAction": {"MinCapacity": nightly}}]
    kind = "StepScaling" if step else "TargetTrackingScaling"
    return template(
        It=(TARGET, {"ScalableDimension": COPIES, "MinCapacity": least, "ScheduledActions": actions}),
        Wake=(POLICY, {"PolicyType": kind, "ScalingTargetId": {"Ref": "It"}}),
        Asleep=(ALARM, {"AlarmActions": [{"Ref": "Wake"}] if alarm else []}),
    )


SLEEPY = {"ManagedInstanceScaling": {"MinInstanceCount": 0}}
SERVERLESS = {"VariantName": "champion", "ModelName": "m", "ServerlessConfig": {"MemorySizeInMB": 1024}}
HIGH = "SageMakerVariantConcurrentRequestsPerModelHighResolution"

REFUSED = [
    ("shadow-single-variant", phased("ab", "ab")),
    ("shadow-single-variant", config(variant(), variant())),
    ("shadow-single-variant", config(*(variant(f"v{n}") for n in range(11)))),
    ("retain-variant-properties", template(It=(ENDPOINT, {}))),
    ("retain-variant-properties", template(It=(ENDPOINT, {"RetainAllVariantProperties": False}))),
    ("rolling-one-variant", rolling(variant(), variant("challenger"))),
    ("rolling-one-variant", rolling(SERVERLESS)),
    ("rollback-alarms-literal", guarded(*(f"alarm-{n}" for n in range(11)))),
    ("rollback-alarms-literal", guarded({"Ref": "Bad"}, Bad=alarm_on({"Ref": "Endpoint"}))),
    ("explicit-metrics-config", config(variant(), MetricsConfig={"MetricPublishFrequencyInSeconds": 60})),
    (
        "inference-ami-accelerator",
        config(variant(InferenceAmiVersion="al2-ami-sagemaker-inference-neuron-2")),
    ),
    ("scaling-metric", tracked(COPIES, HIGH)),
    ("scale-from-zero-policy", woken(0, alarm=False)),
    ("scale-from-zero-policy", woken(0, step=False)),
    ("scale-from-zero-policy", woken(1, nightly=0, alarm=False)),
    ("scale-to-zero-components", config(variant(**SLEEPY))),
    ("serverless-excluded-properties", config(SERVERLESS, VpcConfig={})),
    ("serverless-excluded-properties", config(SERVERLESS | {"InstanceType": "ml.c7i.large"})),
]
ACCEPTED = [
    ("shadow-single-variant", phased("shadow", "ab")),
    ("shadow-single-variant", config(*(variant(f"v{n}") for n in range(10)))),
    ("retain-variant-properties", template(It=(ENDPOINT, {"RetainAllVariantProperties": True}))),
    ("rolling-one-variant", rolling(variant())),
    ("rollback-alarms-literal", guarded(*(f"alarm-{n}" for n in range(10)))),
    ("rollback-alarms-literal", guarded({"Ref": "Good"}, Good=alarm_on("evergreen-prod"))),
    ("explicit-metrics-config", config(variant())),
    (
        "inference-ami-accelerator",
        config(variant(InferenceAmiVersion="al2023-ami-sagemaker-inference-gpu-4-1")),
    ),
    ("scaling-metric", tracked(FLEET, HIGH)),
    ("scale-from-zero-policy", woken(0)),
    ("scale-from-zero-policy", woken(1, alarm=False)),
    (
        "scale-to-zero-components",
        config({"VariantName": "champion", "InstanceType": "ml.g6e.xlarge"} | SLEEPY),
    ),
    ("scale-to-zero-components", config(variant(ManagedInstanceScaling={"MinInstanceCount": 1}))),
    ("serverless-excluded-properties", config(SERVERLESS)),
]


@pytest.mark.parametrize(("rule", "given"), REFUSED)
def test_refused(rule, given):
    (finding,) = BY_ID[rule].check(given)

    assert finding.logical_id == "It"
    assert finding.why


@pytest.mark.parametrize(("rule", "given"), ACCEPTED)
def test_accepted(rule, given):
    assert list(BY_ID[rule].check(given)) == []


def test_every_rule_has_both_cases():
    assert {rule for rule, _ in REFUSED} == {rule for rule, _ in ACCEPTED} == set(BY_ID)


def test_parameter_combinations_are_the_states_that_parameters_allow():
    counted = [
        (len(config["ProductionVariants"]), len(config.get("ShadowProductionVariants", [])))
        for world in parameter_combinations(phased("shadow", "ab"))
        for config in [world["Resources"]["It"]["Properties"]]
    ]

    assert counted == [(1, 0), (1, 1), (2, 0)]


def test_a_resource_whose_condition_does_not_hold_is_not_in_the_world():
    given = phased("shadow", "ab")
    given["Resources"]["It"]["Condition"] = "Both"
    given["Conditions"]["Both"] = {"Fn::And": [{"Condition": "Ab"}, {"Fn::Not": [{"Condition": "Shadow"}]}]}

    assert [list(world["Resources"]) for world in parameter_combinations(given)] == [[], [], ["It"]]


def test_the_estimate_counts_the_least_the_most_and_a_challenger():
    told = estimate(load("prod"))

    # 2 to 4 machines at 2.605 USD for 730 hours; a challenger of 2.
    assert told.least == pytest.approx(3803.3)
    assert told.most == pytest.approx(7606.6)
    assert told.with_challenger == pytest.approx(11_409.9)
    assert "3,803 USD a month at least, 7,607 at full size, 11,410 with a challenger" in told.sentence()
    assert str(price_table().checked) in told.sentence()


def test_an_unknown_price_is_said():
    settings = load("prod")
    machines = settings.endpoint.instances.model_copy(update={"type": "ml.p6-b200.48xlarge"})
    endpoint = settings.endpoint.model_copy(update={"instances": machines})

    told = estimate(settings.model_copy(update={"endpoint": endpoint}))

    assert told.most is None
    assert "no price is known" in told.sentence()


@pytest.mark.parametrize(("least", "most", "grows_to"), [(2, 4, 2), (2, 9, 5), (3, 4, 3), (1, 1, 1)])
def test_a_challenger_grows_to_half_of_the_fleet(least, most, grows_to):
    assert challenger_most(least, most) == grows_to
