"""Parts that every kind of endpoint is put together from: model, machines, metrics, rollout.

Variants are plain dicts in CloudFormation's own terms: CDK's typed properties lose their names inside Fn::If.
Knows nothing of the kinds.
"""

from __future__ import annotations

from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from infra.constructs.container_environment import container_environment
from infra.constructs.encryption import EncryptionKey
from infra.constructs.execution_role import ExecutionRole
from infra.constructs.network import ContainerNetwork
from infra.constructs.release_parameters import Artefact
from infra.settings import Settings
from infra.settings.images import image_table
from infra.settings.machines import Machines
from infra.settings.rollout import AllAtOnceDeployment, CanaryDeployment, GradualDeployment, LinearDeployment

_ROUTING = {
    "least_outstanding": "LEAST_OUTSTANDING_REQUESTS",
    "prefix_aware": "PREFIX_AWARE",
    "random": "RANDOM",
}
Properties = dict[str, object]


@dataclass(frozen=True)
class Hosting:
    """What an endpoint is given: settings, the containers' role and network, where data may rest.

    Without `records` it keeps nothing of a request.
    """

    settings: Settings
    role: ExecutionRole
    volume_key: kms.IKey
    records: tuple[s3.IBucket, EncryptionKey] | None = None
    network: ContainerNetwork | None = None

    @property
    def records_store(self) -> tuple[s3.IBucket, EncryptionKey]:
        """Bucket and key of what is kept of requests. Raises ValueError where nothing may be kept."""
        if self.records is None:
            raise ValueError("an endpoint that keeps requests needs a bucket for them")
        return self.records

    def model(
        self,
        scope: Construct,
        id: str,
        artefact: Artefact,
        *,
        isolated: bool = True,
        archive: bool = False,
        more: dict[str, str] | None = None,
    ) -> sagemaker.CfnModel:
        """A model of the artefact in the settings' image; `archive` for one tar.gz in place of a prefix."""
        image, environment = self.container(artefact)
        source = sagemaker.CfnModel.ModelDataSourceProperty(
            s3_data_source=sagemaker.CfnModel.S3DataSourceProperty(
                s3_uri=artefact.uri, s3_data_type="S3Prefix", compression_type="None"
            )
        )
        model = sagemaker.CfnModel(
            scope,
            id,
            execution_role_arn=self.role.role_arn,
            enable_network_isolation=isolated or None,
            primary_container=sagemaker.CfnModel.ContainerDefinitionProperty(
                image=image,
                environment=environment | (more or {}),
                model_data_url=artefact.uri if archive else None,
                model_data_source=None if archive else source,
            ),
            vpc_config=self.network.config() if self.network else None,
        )
        # SageMaker looks at image and artefact when the model is created: the role's policy must be there.
        model.node.add_dependency(self.role)
        return model

    def container(self, artefact: Artefact) -> tuple[str, dict[str, str]]:
        """Image URI and environment of a container that serves the artefact."""
        engine, environment = self.settings.endpoint.engine, self.settings.environment
        uri = image_table().uri(engine.image, account=environment.account, region=environment.region)
        names = container_environment(
            engine,
            self.settings.model.name,
            artefact.version,
            artefact.digest,
            adapters=bool(self.settings.folder_adapters),
        )
        return uri, names

    def config(self, scope: Construct, *, volume: bool) -> sagemaker.CfnEndpointConfig:
        """A config without variants yet; metrics are chosen, since their default scrapes and is billed."""
        spec = self.settings.endpoint.monitoring
        return sagemaker.CfnEndpointConfig(
            scope,
            "Config",
            production_variants=[],
            kms_key_id=self.volume_key.key_arn if volume else None,
            metrics_config=sagemaker.CfnEndpointConfig.MetricsConfigProperty(
                enable_enhanced_metrics=True,
                enable_detailed_observability=spec.detailed_observability,
                metric_publish_frequency_in_seconds=spec.publish_seconds,
            ),
        )

    def endpoint(self, scope: Construct, config: sagemaker.CfnEndpointConfig) -> sagemaker.CfnEndpoint:
        """The endpoint with its fixed name: callers, alarms and policies know it without a reference."""
        return sagemaker.CfnEndpoint(
            scope,
            "Endpoint",
            endpoint_name=self.settings.endpoint_name,
            endpoint_config_name=config.attr_endpoint_config_name,
            # Without this an update puts weights and counts back to the config's initial values.
            retain_all_variant_properties=True,
        )

    @property
    def timeouts(self) -> Properties:
        """How long a machine may take to fetch the model and to start it."""
        return {
            "ModelDataDownloadTimeoutInSeconds": self.settings.download_timeout_seconds,
            "ContainerStartupHealthCheckTimeoutInSeconds": self.settings.startup_timeout_seconds,
        }

    def deployment(
        self, rollout: AllAtOnceDeployment | CanaryDeployment | LinearDeployment, alarms: list[str]
    ) -> Properties:
        """A second fleet beside the first; alarms roll a gradual shift back."""
        policy: Properties = {
            "TrafficRoutingConfiguration": _shift(rollout),
            "MaximumExecutionTimeoutInSeconds": self.settings.update_seconds,
        }
        if isinstance(rollout, GradualDeployment):
            return {"BlueGreenUpdatePolicy": policy, "AutoRollbackConfiguration": rollback(alarms)}
        return {"BlueGreenUpdatePolicy": policy | {"TerminationWaitInSeconds": rollout.bake_seconds}}


def machines(spec: Machines, routing: str, ami: str | None) -> Properties:
    """A variant's machines: one type or pools in order of preference, volume, reservation, host image."""
    optional: Properties = {
        "VolumeSizeInGB": spec.volume_gb,
        "InferenceAmiVersion": ami,
        "VariantInstanceProvisionTimeoutInSeconds": spec.capacity_wait_seconds,
        "CapacityReservationConfig": spec.reservation
        and {
            "CapacityReservationPreference": "capacity-reservations-only",
            "MlReservationArn": spec.reservation,
        },
    }
    if spec.alternatives:
        pools = [{"InstanceType": name, "Priority": place} for place, name in enumerate(spec.types, start=1)]
        types: Properties = {"InstancePools": pools}
    else:
        types = {"InstanceType": spec.type}
    return types | _given(optional) | {"RoutingConfig": {"RoutingStrategy": _ROUTING[routing]}}


def rollback(alarms: list[str]) -> Properties:
    """The rollback alarms in CloudFormation's form."""
    return {"Alarms": [{"AlarmName": name} for name in alarms]}


def only_if(condition: cdk.CfnCondition, value: object) -> Properties:
    """`value` where the condition holds, and nothing otherwise."""
    return {"Fn::If": [condition.logical_id, value, {"Ref": "AWS::NoValue"}]}


def _shift(rollout: AllAtOnceDeployment | CanaryDeployment | LinearDeployment) -> Properties:
    if isinstance(rollout, AllAtOnceDeployment):
        return {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}
    kind, name = (
        ("CANARY", "CanarySize") if isinstance(rollout, CanaryDeployment) else ("LINEAR", "LinearStepSize")
    )
    percent = rollout.canary_percent if isinstance(rollout, CanaryDeployment) else rollout.step_percent
    size = {"Type": "CAPACITY_PERCENT", "Value": percent}
    return {"Type": kind, name: size, "WaitIntervalInSeconds": rollout.bake_seconds}


def _given(values: Properties) -> Properties:
    return {key: value for key, value in values.items() if value is not None}
