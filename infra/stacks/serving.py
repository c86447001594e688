"""The serving stack: the endpoint, the role its containers run under, and what a release may change."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from infra.constructs.execution_role import ExecutionRole
from infra.constructs.inference_endpoint import InferenceEndpoint
from infra.constructs.logs import LogGroup
from infra.constructs.release import Release
from infra.settings import Settings
from infra.stacks.data import DataStack


class ServingStack(cdk.Stack):
    """The endpoint and its release parameters."""

    def __init__(
        self, scope: Construct, settings: Settings, env: cdk.Environment, *, data: DataStack
    ) -> None:
        super().__init__(scope, f"{settings.prefix}-serving", env=env)
        release = Release(self, source=settings.model.source, version=settings.model.version)
        log_group = LogGroup(
            self,
            "EndpointLogs",
            settings=settings,
            key=data.logs_key,
            name=f"/aws/sagemaker/Endpoints/{settings.endpoint_name}",  # SageMaker's own choice of name
        )
        role = ExecutionRole(
            self,
            "ExecutionRole",
            settings=settings,
            artefacts=data.artefacts,
            artefacts_key=data.models_key,
            log_group=log_group,
        )
        self.endpoint = InferenceEndpoint(
            self, "Inference", settings=settings, release=release, role=role, volume_key=data.models_key
        )
        # Other stacks read the champion's version from here: an export could not change while it is in use.
        self.version_parameter = f"/{settings.prefix}/champion-version"
        ssm.StringParameter(
            self,
            "ChampionVersion",
            parameter_name=self.version_parameter,
            string_value=release.champion.version,
            description="Version of the model that the champion variant serves",
        )
        cdk.CfnOutput(self, "EndpointName", value=self.endpoint.name)
