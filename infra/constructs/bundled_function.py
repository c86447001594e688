"""A Lambda function of ours: bundled sources, a role of its own, a log group of its own, tracing.

The role starts with log writes and traces; whoever composes the function grants the rest.
"""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from infra.constructs.bundle import Bundle
from infra.constructs.log_group import LogGroup
from infra.policy.acknowledge import acknowledge
from infra.settings import Settings

_ARCHITECTURES = {"arm64": lambda_.Architecture.ARM_64, "x86_64": lambda_.Architecture.X86_64}
STREAM_BOOTSTRAP = "/var/task/lambdas/runtime/stream_bootstrap"


class BundledFunction(lambda_.Function):
    """The function `lambdas.<name>.handler.handler`. Streaming ones start through our bootstrap.

    `handler` names another one of the same folder; `pins` the requirements, where it has none of its own.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        name: str,
        settings: Settings,
        logs_key: kms.IKey,
        environment: dict[str, str],
        timeout: cdk.Duration,
        streaming: bool = False,
        reserved_concurrency: int | None = None,
        handler: str | None = None,
        pins: str = "",
    ) -> None:
        """Make the function, its role and its log group.

        Args:
            scope: The construct that owns the function.
            id: Its construct id; role and log group take it as a prefix.
            name: The folder below `lambdas/` that is bundled.
            pins: The lock `lambda-<pins>.txt` of another function that it shares.
            settings: Runtime, architecture, memory (MB) and log level are read from it.
            logs_key: Key of the log group.
            environment: Variables beside ENVIRONMENT and LOG_LEVEL.
            timeout: Longest invocation, 900 s at most.
            streaming: Whether the answer is streamed, through our bootstrap.
            reserved_concurrency: Most invocations at one moment; None for the account's limit.
            handler: Dotted path of the handler where several functions share one bundle.
        """
        spec = settings.functions
        common = {"ENVIRONMENT": settings.name, "LOG_LEVEL": spec.log_level}
        bootstrap = {"AWS_LAMBDA_EXEC_WRAPPER": STREAM_BOOTSTRAP} if streaming else {}
        log_group = LogGroup(scope, f"{id}Logs", settings=settings, key=logs_key)
        role = iam.Role(
            scope,
            f"{id}Role",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            description=f"Evergreen function {id.lower()}",
        )
        log_group.grant_append(role)
        super().__init__(
            scope,
            id,
            code=Bundle(
                name, spec.runtime_name, spec.architecture_name, host=settings.laptop, pins=pins
            ).code(),
            handler=handler or f"lambdas.{name}.handler.handler",
            runtime=lambda_.Runtime(spec.runtime_name, lambda_.RuntimeFamily.PYTHON),
            architecture=_ARCHITECTURES[spec.architecture_name],
            memory_size=spec.memory_mb,
            timeout=timeout,
            environment=common | environment | bootstrap,
            role=role,
            log_group=log_group,
            tracing=lambda_.Tracing.ACTIVE,
            reserved_concurrent_executions=reserved_concurrency,
        )
        acknowledge(
            role,
            {"AwsSolutions-IAM5[Resource::*]": "X-Ray's two write actions take no resource."},
        )
        if settings.laptop:
            acknowledge(
                self, {"AwsSolutions-L1": "The laptop runs the function on the Python that is installed."}
            )
