"""The serving stacks: an endpoint, the role its containers run under, and what a release may change.

The environment's own model has a stack that the release loop updates; each further model of `models` with an
endpoint of its own has one that deployments alone change.
"""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_kms as kms
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from infra.constructs.async_endpoint import AsyncInference
from infra.constructs.bounded_stack import BoundedStack
from infra.constructs.component_endpoint import ComponentInference
from infra.constructs.encryption import grant_volume
from infra.constructs.execution_role import ExecutionRole
from infra.constructs.hosting import Hosting
from infra.constructs.inference_endpoint import InferenceEndpoint
from infra.constructs.log_group import LogGroup
from infra.constructs.network import ContainerNetwork
from infra.constructs.realtime_endpoint import RealtimeInference
from infra.constructs.release_parameters import ExperimentParameters, ReleaseParameters, logical_id
from infra.constructs.serverless_endpoint import ServerlessInference
from infra.settings import Settings
from infra.settings.components import ScaleToZeroEndpoint
from infra.settings.endpoint import AsyncEndpoint, RealtimeEndpoint, ServerlessEndpoint
from infra.stacks.data import DataStack


class _Contents:
    """What a serving stack holds, whatever may update it. Exposes `endpoint`."""

    def __init__(self, stack: cdk.Stack, settings: Settings, data: DataStack, *, experiments: bool) -> None:
        # SageMaker writes under names of its own choice, and the role may not make a group: without one of
        # these, a container that does not start leaves no trace.
        names = {"EndpointLogs": f"/aws/sagemaker/Endpoints/{settings.endpoint_name}"} | {
            f"ComponentLogs-{component}": f"/aws/sagemaker/InferenceComponents/{component}"
            for component in settings.component_names
        }
        log_groups = [
            LogGroup(stack, part, settings=settings, key=data.logs_key, name=name)
            for part, name in names.items()
        ]
        role = ExecutionRole(
            stack,
            "ExecutionRole" if experiments else "ModelExecutionRole",
            settings=settings,
            artefacts=data.artefacts,
            artefacts_key=data.models_key,
            log_groups=log_groups,
        )
        hosting = Hosting(
            settings=settings,
            role=role,
            volume_key=data.models_key,
            records=(data.records_bucket, data.records_key),
            network=container_network(stack, settings, data.logs_key, role),
        )
        self.endpoint, release = _endpoint(stack, settings, hosting, experiments=experiments)
        # Other stacks read versions from here: an export could not change while it is in use.
        ssm.StringParameter(
            stack,
            "ChampionVersion",
            parameter_name=settings.version_parameter,
            string_value=release.champion.version,
            description="Version of the model that the champion variant serves",
        )
        for name, version in self.endpoint.adapter_versions.items():
            ssm.StringParameter(
                stack,
                logical_id("AdapterVersion", name),
                parameter_name=name,
                string_value=version,
                description="Version of an adapter that the endpoint serves",
            )
        cdk.CfnOutput(stack, "EndpointName", value=self.endpoint.name)


class ServingStack(BoundedStack):
    """The environment's own model, which the release loop updates. Exposes `endpoint`."""

    def __init__(
        self, scope: Construct, settings: Settings, env: cdk.Environment, *, data: DataStack
    ) -> None:
        super().__init__(scope, f"{settings.prefix}-{settings.serving_part}", env)
        self.endpoint = _Contents(self, settings, data, experiments=True).endpoint


class ModelServingStack(cdk.Stack):
    """A further model; `settings` are its endpoint's (`Settings.further_endpoints`). Exposes `endpoint`."""

    def __init__(
        self, scope: Construct, settings: Settings, env: cdk.Environment, *, data: DataStack
    ) -> None:
        super().__init__(scope, f"{settings.prefix}-{settings.serving_part}", env=env)
        self.endpoint = _Contents(self, settings, data, experiments=False).endpoint


def _endpoint(
    stack: cdk.Stack, settings: Settings, hosting: Hosting, *, experiments: bool
) -> tuple[InferenceEndpoint, ReleaseParameters]:
    """The endpoint of the settings' kind, and the parameters that release models onto it.

    With `experiments` a realtime endpoint may get a challenger.
    """
    spec, source, version = settings.endpoint, settings.model.source, settings.model.version
    if not isinstance(spec, ServerlessEndpoint) and spec.instances.has_volume:
        grant_volume(hosting.volume_key, hosting.role)
    match spec:
        case RealtimeEndpoint():
            kind = ExperimentParameters if experiments else ReleaseParameters
            release = kind(stack, source=source, version=version)
            return RealtimeInference(stack, "Inference", hosting=hosting, spec=spec, release=release), release
        case ScaleToZeroEndpoint():
            release = ReleaseParameters(stack, source=source, version=version)
            return ComponentInference(
                stack, "Inference", hosting=hosting, spec=spec, release=release
            ), release
        case AsyncEndpoint():
            release = ReleaseParameters(stack, source=source, version=version)
            queue = AsyncInference(stack, "Inference", hosting=hosting, spec=spec, release=release)
            for name, value in queue.places.items():
                cdk.CfnOutput(stack, name, value=value)
            return queue, release
        case ServerlessEndpoint():
            release = ReleaseParameters(stack, source=source, version=version, archive=True)
            return ServerlessInference(
                stack, "Inference", hosting=hosting, spec=spec, release=release
            ), release


def container_network(
    stack: cdk.Stack, settings: Settings, logs_key: kms.IKey, role: ExecutionRole
) -> ContainerNetwork | None:
    """The containers' own network, where settings ask for one."""
    spec = settings.endpoint
    if isinstance(spec, ServerlessEndpoint) or spec.vpc is None:
        return None
    network = ContainerNetwork(stack, "Network", settings=settings, spec=spec.vpc, logs_key=logs_key)
    network.grant_attach(role)
    return network
