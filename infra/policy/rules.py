"""Our own rules for what may be deployed, beside the general pack: endpoints, roles, cost.

Each rule is a function from a template to findings, and says what to change. Pure: no CDK, no files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from infra.policy.template import Template, branches, items, resources, strings, variant_types
from infra.settings import instance_types

_CONFIG = "AWS::SageMaker::EndpointConfig"
_MODEL = "AWS::SageMaker::Model"
_ENDPOINT = "AWS::SageMaker::Endpoint"
_MOST_VARIABLES = 4_096
_LONG_NAME = 63


@dataclass(frozen=True)
class PolicyFinding:
    """One resource that breaks a rule; `location` is the property, `why` says what is wrong with it."""

    logical_id: str
    location: str
    why: str


@dataclass(frozen=True)
class PolicyRule:
    """A named rule: what it asks, how to satisfy it, and the check."""

    id: str
    asks: str
    fix: str
    check: Callable[[Template], Iterator[PolicyFinding]]


def _volume_key(template: Template) -> Iterator[PolicyFinding]:
    for logical_id, config in resources(template, _CONFIG):
        variants = items(config.get("ProductionVariants")) + items(config.get("ShadowProductionVariants"))
        types = sorted({name for variant in variants for name in variant_types(variant)})
        volumes = [name for name in types if not instance_types.has_instance_store(name)]
        if volumes and "KmsKeyId" not in config:
            why = f"the model volume of {', '.join(volumes)} has no KmsKeyId"
            yield PolicyFinding(logical_id, "KmsKeyId", why)
        if types and not volumes and "KmsKeyId" in config:
            why = f"{', '.join(types)} stores models on local NVMe, where SageMaker refuses a key"
            yield PolicyFinding(logical_id, "KmsKeyId", why)


def _rollback_alarms(template: Template) -> Iterator[PolicyFinding]:
    for logical_id, endpoint in resources(template, _ENDPOINT):
        for config in branches(endpoint.get("DeploymentConfig")):
            policy = config.get("BlueGreenUpdatePolicy", {})
            gradual = policy.get("TrafficRoutingConfiguration", {}).get("Type") in ("CANARY", "LINEAR")
            alarms = config.get("AutoRollbackConfiguration", {}).get("Alarms")
            if (gradual or "RollingUpdatePolicy" in config) and not alarms:
                location = "DeploymentConfig/AutoRollbackConfiguration"
                yield PolicyFinding(logical_id, location, "traffic shifts in steps without rollback alarms")


def _no_capture(template: Template) -> Iterator[PolicyFinding]:
    for logical_id, config in resources(template, _CONFIG):
        for capture in branches(config.get("DataCaptureConfig")):
            if capture.get("EnableCapture") is not False:
                yield PolicyFinding(
                    logical_id, "DataCaptureConfig", "prompts and answers are written unmasked"
                )


def _no_full_access(template: Template) -> Iterator[PolicyFinding]:
    types = ("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy", "AWS::IAM::Role")
    for logical_id, entity in resources(template, *types):
        inline = [policy["PolicyDocument"] for policy in entity.get("Policies", [])]
        for document in [*inline, *branches(entity.get("PolicyDocument"))]:
            for statement in document["Statement"]:
                wide = [action for action in strings(statement.get("Action", [])) if _is_wide(action)]
                if statement["Effect"] == "Allow" and (wide or "NotAction" in statement):
                    what = ", ".join(wide) or "everything but a few actions"
                    yield PolicyFinding(logical_id, "PolicyDocument", f"it allows {what}")
        for arn in entity.get("ManagedPolicyArns", []):
            if "FullAccess" in (text := json.dumps(arn)) or "AdministratorAccess" in text:
                yield PolicyFinding(
                    logical_id, "ManagedPolicyArns", "a managed policy grants a whole service"
                )


def _is_wide(action: str) -> bool:
    return action == "*" or action.endswith(":*")


def _unnamed(template: Template) -> Iterator[PolicyFinding]:
    for kind, name in ((_MODEL, "ModelName"), (_CONFIG, "EndpointConfigName")):
        for logical_id, properties in resources(template, kind):
            if name in properties:
                yield PolicyFinding(
                    logical_id, name, "every change replaces the resource, and the name is still taken"
                )


def _variables(template: Template) -> Iterator[PolicyFinding]:
    for logical_id, function in resources(template, "AWS::Lambda::Function"):
        variables = function.get("Environment", {}).get("Variables", {})
        size = sum(len(name) + _bytes(value) for name, value in variables.items())
        if size > _MOST_VARIABLES:
            why = f"its variables may take {size} bytes, and Lambda has room for {_MOST_VARIABLES}"
            yield PolicyFinding(logical_id, "Environment/Variables", why)


def _bytes(value: object) -> int:
    """Of a value, at most; what is known only at the deployment counts as a long name."""
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, dict) and "Fn::Join" in value:
        separator, parts = value["Fn::Join"]
        return sum(_bytes(part) for part in parts) + len(separator) * (len(parts) - 1)
    return _LONG_NAME


RULES = (
    PolicyRule(
        "endpoint-volume-key",
        "Model volumes are encrypted with our key where the instance has a volume.",
        "Set KmsKeyId on the endpoint config; leave it out for instances with local NVMe only.",
        _volume_key,
    ),
    PolicyRule(
        "rollback-alarms",
        "A gradual deployment has rollback alarms.",
        "Name alarms in AutoRollbackConfiguration, or shift all traffic at once.",
        _rollback_alarms,
    ),
    PolicyRule(
        "no-endpoint-capture",
        "The inference function records requests, masked; the endpoint does not.",
        "Remove DataCaptureConfig, or acknowledge the rule beside the config with the reason.",
        _no_capture,
    ),
    PolicyRule(
        "no-full-access",
        "Roles name their actions.",
        "List the actions that the code calls.",
        _no_full_access,
    ),
    PolicyRule(
        "no-physical-model-names",
        "Models and endpoint configs have no physical names.",
        "Remove the name; the endpoint has a fixed one.",
        _unnamed,
    ),
    PolicyRule(
        "function-variables",
        "A function's variables fit into Lambda's 4 kB.",
        "Fewer or shorter entries of models, guards and fallbacks.",
        _variables,
    ),
)
