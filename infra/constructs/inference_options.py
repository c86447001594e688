"""Optional features of the API: guards, fallbacks, hosted models, tracing, JWT issuers.

Each adds permissions, and a variable where it has one of its own.
"""

from __future__ import annotations

import json

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_

from infra.settings import Settings
from infra.settings.catalogue import BedrockModel, OpenAIModel
from infra.settings.fallback import BedrockFallback, EndpointFallback
from infra.settings.tracing import Otlp, XRay


def configure_jwt_issuers(authorizer: lambda_.Function, settings: Settings) -> None:
    """Give the authorizer the accepted JWT issuers."""
    if settings.gateway.jwt:
        issuers = [issuer.model_dump(exclude_none=True) for issuer in settings.gateway.jwt]
        authorizer.add_environment("JWT_ISSUERS", json.dumps(issuers))


def configure_guards(function: lambda_.Function, settings: Settings) -> None:
    """Switch the guards on; only Bedrock's take a permission."""
    guards = settings.guards.for_functions()
    if guards is None:
        return
    function.add_environment("GUARDS", guards.model_dump_json(exclude_defaults=True))
    if guards.bedrock is not None:
        arn = cdk.Stack.of(function).format_arn(
            service="bedrock", resource="guardrail", resource_name=guards.bedrock.guardrail_id
        )
        function.add_to_role_policy(iam.PolicyStatement(actions=["bedrock:ApplyGuardrail"], resources=[arn]))
    if guards.bedrock_checks is not None:  # the action knows no resource
        checks = iam.PolicyStatement(actions=["bedrock:InvokeGuardrailChecks"], resources=["*"])
        function.add_to_role_policy(checks)


def configure_tracing(function: lambda_.Function, settings: Settings) -> None:
    """Tell the function where spans go; X-Ray's endpoint for them has an action of its own."""
    target = settings.tracing
    if target is None:
        return
    function.add_environment("TRACING", target.for_functions().model_dump_json(exclude_defaults=True))
    if isinstance(target, XRay):  # the action knows no resource
        function.add_to_role_policy(iam.PolicyStatement(actions=["xray:PutSpans"], resources=["*"]))
    elif isinstance(target, Otlp) and target.secret:
        function.add_to_role_policy(_read_secret(cdk.Stack.of(function), target.secret))


def configure_fallbacks(function: lambda_.Function, settings: Settings) -> None:
    """Give the function its fallback targets, and permission to call these only."""
    chain = settings.fallback_chain
    if not chain:
        return
    targets = [target.model_dump(exclude_none=True) for target in chain]
    function.add_environment("FALLBACKS", json.dumps(targets))
    for target in chain:
        function.add_to_role_policy(_call(cdk.Stack.of(function), target))


def configure_hosted_models(function: lambda_.Function, settings: Settings) -> None:
    """Permission to call the catalogue's Bedrock models and to read its providers' keys, and no others."""
    stack = cdk.Stack.of(function)
    for entry in settings.models:
        if isinstance(entry, BedrockModel):
            function.add_to_role_policy(_call_bedrock(stack, entry.model_id, entry.region))
        elif isinstance(entry, OpenAIModel) and entry.secret:
            function.add_to_role_policy(_read_secret(stack, entry.secret))


def _read_secret(stack: cdk.Stack, secret: str) -> iam.PolicyStatement:
    """Of a secret by its name or ARN."""
    if not secret.startswith("arn:"):
        # Secrets Manager adds six characters of its own to a name.
        secret = stack.format_arn(
            service="secretsmanager",
            resource="secret",
            resource_name=f"{secret}-??????",
            arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
        )
    return iam.PolicyStatement(actions=["secretsmanager:GetSecretValue"], resources=[secret])


def _call(stack: cdk.Stack, target: EndpointFallback | BedrockFallback) -> iam.PolicyStatement:
    if isinstance(target, EndpointFallback):
        arn = stack.format_arn(
            service="sagemaker",
            region=target.region,
            resource="endpoint",
            resource_name=target.endpoint_name.lower(),
        )
        return iam.PolicyStatement(actions=["sagemaker:InvokeEndpointWithResponseStream"], resources=[arn])
    return _call_bedrock(stack, target.model_id, target.region)


def _call_bedrock(stack: cdk.Stack, model_id: str, region: str | None) -> iam.PolicyStatement:
    arn = stack.format_arn(
        service="bedrock",
        region=region,
        account="",
        resource="foundation-model",
        resource_name=model_id,
    )
    # The OpenAI-compatible route is authorised as the corresponding invocation, whole or streamed.
    actions = ["bedrock:InvokeModel", "bedrock:InvokeModelWithResponseStream"]
    return iam.PolicyStatement(actions=actions, resources=[arn])
