"""Rules for endpoints that hold whatever the settings say: what the service would refuse after minutes.

Where it matters, every state that a template's parameters allow is looked at, and not one of them. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from infra.policy.rules import PolicyFinding, PolicyRule
from infra.policy.template import Template, branches, items, resources, variant_types, worlds
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
    """In every state of the parameters: a shadow stands beside exactly one production variant."""
    seen = set()
    for world in worlds(template):
        for logical_id, config in resources(world, _CONFIG):
            production, shadows = (
                config.get("ProductionVariants", []),
                config.get("ShadowProductionVariants", []),
            )
            names = [variant["VariantName"] for variant in (*production, *shadows)]
            why = ""
            if shadows and (len(production), len(shadows)) != (1, 1):
                why = f"{len(production)} production and {len(shadows)} shadow variants stand together"
            elif len(set(names)) != len(names):
                why = f"a variant name stands twice: {', '.join(sorted(names))}"
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
                "an update puts weights and counts back to their first values",
            )


def _rolling(template: Template) -> Iterator[PolicyFinding]:
    for world in worlds(template):
        several = any(
            len(config.get("ProductionVariants", [])) + len(config.get("ShadowProductionVariants", [])) > 1
            or any("ServerlessConfig" in variant for variant in config.get("ProductionVariants", []))
            for _, config in resources(world, _CONFIG)
        )
        for logical_id, endpoint in resources(world, _ENDPOINT):
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
                    logical_id, place, f"{len(named)} alarms are named, and the service takes ten"
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
            why = "left out, the service scrapes the container and bills for it"
            yield PolicyFinding(logical_id, "MetricsConfig", why)


def _host_image(template: Template) -> Iterator[PolicyFinding]:
    """A host image is for the accelerator in its name."""
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


def _wakes(template: Template) -> Iterator[PolicyFinding]:
    """What may scale to zero has a step policy that an alarm calls: nothing is tracked where nothing runs."""
    alarms = json.dumps([alarm.get("AlarmActions", []) for _, alarm in resources(template, _ALARM)])
    waking = {
        policy["ScalingTargetId"]["Ref"]
        for logical_id, policy in resources(template, _POLICY)
        if policy["PolicyType"] == "StepScaling" and f'"{logical_id}"' in alarms
    }
    for logical_id, target in resources(template, _TARGET):
        lows = [target["MinCapacity"], *(_lows(target.get("ScheduledActions", [])))]
        if min(lows) == 0 and logical_id not in waking:
            yield PolicyFinding(logical_id, "MinCapacity", "nothing starts the first one again")


def _lows(actions: list[Any]) -> list[int]:
    return [action["ScalableTargetAction"].get("MinCapacity", 1) for action in actions]


def _idle(template: Template) -> Iterator[PolicyFinding]:
    """Managed scaling to zero machines is for variants that name no model."""
    for logical_id, config in resources(template, _CONFIG):
        for variant in items(config.get("ProductionVariants")):
            least = variant.get("ManagedInstanceScaling", {}).get("MinInstanceCount", 1)
            if least == 0 and "ModelName" in variant:
                yield PolicyFinding(
                    logical_id,
                    "ProductionVariants/ManagedInstanceScaling",
                    "only inference components go to zero",
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
        "shadow-or-ab",
        "A shadow variant stands beside exactly one production variant; names are distinct, ten at most.",
        "Make the shadow and the A/B challenger depend on exclusive conditions.",
        _variants,
    ),
    PolicyRule(
        "retain-live-values",
        "Live weights and instance counts survive an update.",
        "Set RetainAllVariantProperties.",
        _retained,
    ),
    PolicyRule(
        "rolling-one-variant",
        "Rolling updates are for endpoints of one variant with machines.",
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
        "metrics-chosen",
        "An endpoint config says which metrics it publishes.",
        "Set EnableDetailedObservability and MetricPublishFrequencyInSeconds.",
        _metrics,
    ),
    PolicyRule(
        "host-image",
        "The host image fits the machine's accelerator.",
        "Choose an InferenceAmiVersion for that accelerator, or leave it out.",
        _host_image,
    ),
    PolicyRule(
        "scaling-metric",
        "Target tracking follows a metric that the scaled resource publishes.",
        "Use the predefined metric of the dimension.",
        _tracked,
    ),
    PolicyRule(
        "zero-wakes",
        "What scales to zero is woken by a step policy and its alarm.",
        "Add a step policy whose alarm watches calls in vain, or raise MinCapacity.",
        _wakes,
    ),
    PolicyRule(
        "zero-components",
        "Only endpoints of inference components scale their machines to zero.",
        "Leave ModelName out and add inference components, or raise MinInstanceCount.",
        _idle,
    ),
    PolicyRule(
        "serverless-alone",
        "A serverless endpoint has no machines, network, capture or shadow.",
        "Remove the property, or choose another kind.",
        _serverless,
    ),
)
