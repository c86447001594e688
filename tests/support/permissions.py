"""A template's permissions and endpoint configuration as short lines that a reviewer can read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

DOCUMENTS = {
    "AWS::IAM::Policy": "PolicyDocument",
    "AWS::IAM::ManagedPolicy": "PolicyDocument",
    "AWS::KMS::Key": "KeyPolicy",
    "AWS::S3::BucketPolicy": "PolicyDocument",
    "AWS::SNS::TopicPolicy": "PolicyDocument",
    "AWS::SQS::QueuePolicy": "PolicyDocument",
    "AWS::ApiGateway::RestApi": "Policy",
}
"""Where the policy document of a resource type stands; roles and function permissions are read apart."""
CONFIGURATION = (
    "AWS::SageMaker::EndpointConfig",
    "AWS::SageMaker::Endpoint",
    "AWS::SageMaker::InferenceComponent",
)


def lines(template: dict[str, Any]) -> list[str]:
    """Every statement, function permission and endpoint property of a template, one line each, in order."""
    found: list[str] = []
    for name, resource in sorted(template["Resources"].items()):
        properties = resource.get("Properties", {})
        found += [f"{name}: {line}" for line in _resource(resource["Type"], properties)]
    return found


def _resource(kind: str, properties: dict[str, Any]) -> Iterator[str]:
    if kind == "AWS::IAM::Role":
        for statement in properties["AssumeRolePolicyDocument"]["Statement"]:
            yield "assumed by " + _statement(statement)
        for policy in properties.get("Policies", []):
            yield from map(_statement, policy["PolicyDocument"]["Statement"])
        for arn in properties.get("ManagedPolicyArns", []):
            yield f"managed policy {short(arn)}"
        if boundary := properties.get("PermissionsBoundary"):
            yield f"bounded by {short(boundary)}, under {properties['Path']}"
    elif kind == "AWS::Lambda::Permission":
        source = short(properties.get("SourceArn", properties.get("SourceAccount", "anything")))
        yield f"{properties['Principal']} may {properties['Action']} from {source}"
    elif kind in CONFIGURATION:
        yield from _flat("", properties)
    elif document := properties.get(DOCUMENTS.get(kind, "")):
        yield from map(_statement, document["Statement"])


def _statement(statement: dict[str, Any]) -> str:
    words = [statement["Effect"], _list(statement.get("Action", statement.get("NotAction", "")))]
    if "Resource" in statement:
        words.append("on " + _list(statement["Resource"]))
    if principal := statement.get("Principal"):
        words.append("for " + short(principal))
    if condition := statement.get("Condition"):
        words.append("if " + short(condition))
    return " ".join(words)


def _flat(path: str, value: Any) -> Iterator[str]:
    """`a.b[0] = value` for every leaf; an intrinsic function is a leaf."""
    if isinstance(value, dict) and not _is_intrinsic(value):
        for key, entry in sorted(value.items()):
            yield from _flat(f"{path}.{key}" if path else key, entry)
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            yield from _flat(f"{path}[{index}]", entry)
    else:
        yield f"{path} = {short(value)}"


def _list(value: Any) -> str:
    return ", ".join(sorted(map(short, value))) if isinstance(value, list) else short(value)


def _is_intrinsic(value: dict[str, Any]) -> bool:
    return len(value) == 1 and next(iter(value)).startswith(("Fn::", "Ref"))


def short(value: Any) -> str:
    """An intrinsic function as it reads inside `Fn::Sub`; anything else as it stands."""
    match value:
        case {"Ref": name}:
            return f"${{{name}}}"
        case {"Fn::GetAtt": [name, attribute]}:
            return f"${{{name}.{attribute}}}"
        case {"Fn::Join": [separator, parts]} if isinstance(parts, list):
            return str(separator).join(map(short, parts))
        case {"Fn::ImportValue": name}:
            return f"${{import {_unhashed(short(name))}}}"
        case str():
            return value
        case _:
            return json.dumps(value, sort_keys=True)


def _unhashed(name: str) -> str:
    return re.sub(r"(?<=[A-Za-z])[0-9A-F]{8}(?=$|Arn|Ref)", "", name)
