"""Rules for endpoints that hold whatever the settings say: what SageMaker would refuse after minutes.

Rules on variants check every combination of the parameters' allowed values. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from infra.policy.rules import PolicyFinding, PolicyRule
from infra.policy.template import Template, branches, items, parameter_combinations, resources, variant_types
from infra.settings import instance_types

_CONFIG, _ENDPOINT = "AWS::SageMaker::EndpointConfig", "AWS::SageMaker::Endpoint"
_COMPONENT, _TARGET = "AWS::SageMaker::InferenceComponent", "AWS::ApplicationAutoScaling::ScalableTarget"
_POLICY = "AWS::ApplicationAutoScaling::ScalingPolicy"
_ALARM = "AWS::CloudWatch::Alarm"
_MOST_VARIANTS, _MOST_ALARMS = 10, 10
_METRIC_OF_DIMENSION = {
    "sagemaker:variant:DesiredInstanceCount": (
        "SageMakerVariantInvocationsPerInstance",
        "SageMakerVariantConcurrentRequestsPerModelHighResolution",
    ),
    "sagemaker:inference-component:DesiredCopyCount": (
        "SageMakerInferenceComponentInvocationsPerCopy",
        "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution",
    ),
    "sagemaker:variant:DesiredProvisionedConcurrency": ("SageMakerVariantProvisionedConcurrencyUtilization",),
}


def _variants(template: Template) -> Iterator[PolicyFinding]:
    """For every combination of parameters: a shadow has exactly one production variant."""
    seen = set()
    for combination in parameter_combinations(template):
        for logical_id, config in resources(combination, _CONFIG):
            production, shadows = (
                config.get("ProductionVariants", []),
                config.get("ShadowProductionVariants", []),
            )
            names = [variant["VariantName"] for variant in (*production, *shadows)]
            why = ""
            if shadows and (len(production), len(shadows)) != (1, 1):
                why = f"{len(production)} production and {len(shadows)} shadow variants are combined"
            elif len(set(names)) != len(names):
                why = f"a variant name occurs twice: {', '.join(sorted(names))}"
            elif not 1 <= len(production) <= _MOST_VARIANTS:
                why = f"there are {len(production)} production variants"
            if why and (logical_id, why) not in seen:
                seen.add((logical_id, why))
                yield PolicyFinding(
                    logical_id, "ShadowProductionVariants" if shadows else "ProductionVariants", why
                )


def _retained(template: Template) -> Iterator[PolicyFinding]:
    for logical_id, endpoint in resources(template, _ENDPOINT):
        if endpoint.get("RetainAllVariantProperties") is not True:
            yield PolicyFinding(
                logical_id,
                "RetainAllVariantProperties",
                "an update resets weights and counts to their initial values",
            )


def _rolling(template: Template) -> Iterator[PolicyFinding]:
    for combination in parameter_combinations(template):
        several = any(
            len(config.get("ProductionVariants", [])) + len(config.get("ShadowProductionVariants", [])) > 1
            or any("ServerlessConfig" in variant for variant in config.get("ProductionVariants", []))
            for _, config in resources(combination, _CONFIG)
        )
        for logical_id, endpoint in resources(combination, _ENDPOINT):
            if several and "RollingUpdatePolicy" in endpoint.get("DeploymentConfig", {}):
                why = "a rolling update is excluded with several variants and serverless"
                yield PolicyFinding(logical_id, "DeploymentConfig/RollingUpdatePolicy", why)
                return


def _rollback(template: Template) -> Iterator[PolicyFinding]:
    """At most ten alarms, and those of this template name the endpoint literally: a reference would make them
    depend on the endpoint that is to depend on them."""
    alarms = dict(resources(template, _ALARM))
    for logical_id, owner in resources(template, _ENDPOINT, _COMPONENT):
        for config in branches(owner.get("DeploymentConfig")):
            named = [
                entry["AlarmName"] for entry in config.get("AutoRollbackConfiguration", {}).get("Alarms", [])
            ]
            place = "DeploymentConfig/AutoRollbackConfiguration"
            if len(named) > _MOST_ALARMS:
                yield PolicyFinding(
                    logical_id, place, f"{len(named)} alarms are named, and SageMaker accepts ten"
                )
            for name in named:
                alarm = alarms.get(name.get("Ref", "")) if isinstance(name, dict) else None
                if alarm and any(not isinstance(each["Value"], str) for each in alarm.get("Dimensions", [])):
                    yield PolicyFinding(
                        logical_id, place, f"the alarm {name['Ref']} does not name its endpoint literally"
                    )


def _metrics(template: Template) -> Iterator[PolicyFinding]:
    for logical_id, config in resources(template, _CONFIG):
        chosen = config.get("MetricsConfig", {})
        if not {"EnableDetailedObservability", "MetricPublishFrequencyInSeconds"} <= set(chosen):
            why = "without it SageMaker scrapes the container and bills for it"
            yield PolicyFinding(logical_id, "MetricsConfig", why)


def _inference_ami(template: Template) -> Iterator[PolicyFinding]:
    """InferenceAmiVersion names the accelerator it is for."""
    for logical_id, config in resources(template, _CONFIG):
        for variant in items(config.get("ProductionVariants")) + items(
            config.get("ShadowProductionVariants")
        ):
            version = variant.get("InferenceAmiVersion", "")
            for name in variant_types(variant):
                wanted = instance_types.accelerator(name)
                if version and f"-{wanted}-" not in version:
                    yield PolicyFinding(
                        logical_id, "ProductionVariants/InferenceAmiVersion", f"{version} is not for {name}"
                    )


def _tracked(template: Template) -> Iterator[PolicyFinding]:
    """A predefined metric is one that the target's dimension publishes."""
    targets = dict(resources(template, _TARGET))
    for logical_id, policy in resources(template, _POLICY):
        spec = policy.get("TargetTrackingScalingPolicyConfiguration", {}).get("PredefinedMetricSpecification")
        target = targets.get(policy.get("ScalingTargetId", {}).get("Ref", ""))
        if not spec or not target:
            continue
        published = _METRIC_OF_DIMENSION.get(target["ScalableDimension"], ())
        if spec["PredefinedMetricType"] not in published:
            why = f"{spec['PredefinedMetricType']} is not published for {target['ScalableDimension']}"
            yield PolicyFinding(logical_id, "TargetTrackingScalingPolicyConfiguration", why)


def _scales_from_zero(template: Template) -> Iterator[PolicyFinding]:
    """A target that may scale to zero has a step policy with an alarm: tracking needs an instance."""
    alarms = json.dumps([alarm.get("AlarmActions", []) for _, alarm in resources(template, _ALARM)])
    scaled_from_zero = {
        policy["ScalingTargetId"]["Ref"]
        for logical_id, policy in resources(template, _POLICY)
        if policy["PolicyType"] == "StepScaling" and f'"{logical_id}"' in alarms
    }
    for logical_id, target in resources(template, _TARGET):
        lows = [target["MinCapacity"], *(_lows(target.get("ScheduledActions", [])))]
        if min(lows) == 0 and logical_id not in scaled_from_zero:
            yield PolicyFinding(logical_id, "MinCapacity", "no step policy scales it out from zero")


def _lows(actions: list[Any]) -> list[int]:
    return [action["ScalableTargetAction"].get("MinCapacity", 1) for action in actions]


def _scales_to_zero(template: Template) -> Iterator[PolicyFinding]:
    """Managed scaling to zero machines is for variants that name no model."""
    for logical_id, config in resources(template, _CONFIG):
        for variant in items(config.get("ProductionVariants")):
            least = variant.get("ManagedInstanceScaling", {}).get("MinInstanceCount", 1)
            if least == 0 and "ModelName" in variant:
                yield PolicyFinding(
                    logical_id,
                    "ProductionVariants/ManagedInstanceScaling",
                    "only inference components scale to zero",
                )


def _serverless(template: Template) -> Iterator[PolicyFinding]:
    for logical_id, config in resources(template, _CONFIG):
        for variant in items(config.get("ProductionVariants")):
            if "ServerlessConfig" not in variant:
                continue
            beside: list[str] = [
                key for key in ("DataCaptureConfig", "ShadowProductionVariants", "VpcConfig") if key in config
            ]
            beside += [
                key for key in ("InstanceType", "InstancePools", "InferenceAmiVersion") if key in variant
            ]
            if beside:
                yield PolicyFinding(
                    logical_id, beside[0], f"{beside[0]} is excluded from serverless endpoints"
                )


ENDPOINT_RULES = (
    PolicyRule(
        "shadow-single-variant",
        "A shadow variant has exactly one production variant; names are distinct, ten at most.",
        "Make the shadow and the A/B challenger depend on exclusive conditions.",
        _variants,
    ),
    PolicyRule(
        "retain-variant-properties",
        "An update keeps current weights and instance counts.",
        "Set RetainAllVariantProperties.",
        _retained,
    ),
    PolicyRule(
        "rolling-one-variant",
        "Rolling updates need an endpoint with one variant on instances.",
        "Use a canary or a linear shift.",
        _rolling,
    ),
    PolicyRule(
        "rollback-alarms-literal",
        "At most ten rollback alarms, each with literal dimensions.",
        "Name the endpoint by its fixed name; put several alarms under a composite.",
        _rollback,
    ),
    PolicyRule(
        "explicit-metrics-config",
        "An endpoint config says which metrics it publishes.",
        "Set EnableDetailedObservability and MetricPublishFrequencyInSeconds.",
        _metrics,
    ),
    PolicyRule(
        "inference-ami-accelerator",
        "InferenceAmiVersion matches the instance's accelerator.",
        "Choose an InferenceAmiVersion for that accelerator, or leave it out.",
        _inference_ami,
    ),
    PolicyRule(
        "scaling-metric",
        "Target tracking follows a metric that the scaled resource publishes.",
        "Use the predefined metric of the dimension.",
        _tracked,
    ),
    PolicyRule(
        "scale-from-zero-policy",
        "A target that scales to zero has a step policy with an alarm.",
        "Add a step policy whose alarm watches invocations without capacity, or raise MinCapacity.",
        _scales_from_zero,
    ),
    PolicyRule(
        "scale-to-zero-components",
        "Only endpoints of inference components scale their instances to zero.",
        "Leave ModelName out and add inference components, or raise MinInstanceCount.",
        _scales_to_zero,
    ),
    PolicyRule(
        "serverless-excluded-properties",
        "A serverless endpoint has no instances, network, capture or shadow.",
        "Remove the property, or choose another kind.",
        _serverless,
    ),
)
