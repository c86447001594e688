"""A SageMaker endpoint around the CloudFormation resources: champion, challenger or shadow, guarded updates.

Models and configs are unnamed because every property of theirs replaces them; the endpoint's name is fixed,
so callers, alarms and policies know it without a reference.
"""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from contracts.metrics import SAGEMAKER_NAMESPACE
from contracts.routing import CHALLENGER, CHAMPION
from infra.constructs.container_environment import container_environment
from infra.constructs.release import Artefact, Release
from infra.constructs.rollback_alarms import RollbackAlarms
from infra.settings import Settings, instances
from infra.settings.endpoint import Canary
from infra.settings.images import image_table

_MIN_UPDATE_SECONDS, _MAX_UPDATE_SECONDS = 600, 28_800


class InferenceEndpoint(Construct):
    """The endpoint `evergreen-<env>`. Exposes `config` and `endpoint`, the CloudFormation resources."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        settings: Settings,
        release: Release,
        role: iam.IRole,
        volume_key: kms.IKey,
    ) -> None:
        super().__init__(scope, id)
        self._settings, self._spec, self._role = settings, settings.endpoint, role
        has_volume = not instances.has_instance_store(settings.endpoint.instances.type)
        if has_volume:
            _grant_volume(volume_key, role)
        self.name = settings.endpoint_name
        champion = self._model("Champion", release.champion)
        challenger = self._model("Challenger", release.challenger)
        challenger.cfn_options.condition = release.beside
        # SageMaker looks at image and artefact when the model is created: the role's policy must be there.
        champion.node.add_dependency(role)
        challenger.node.add_dependency(role)
        self.config = sagemaker.CfnEndpointConfig(
            self,
            "Config",
            production_variants=[],
            kms_key_id=volume_key.key_arn if has_volume else None,
            metrics_config=sagemaker.CfnEndpointConfig.MetricsConfigProperty(
                enable_enhanced_metrics=True,
                enable_detailed_observability=self._spec.monitoring.detailed_observability,
                metric_publish_frequency_in_seconds=self._spec.monitoring.publish_seconds,
            ),
        )
        self.endpoint = sagemaker.CfnEndpoint(
            self,
            "Endpoint",
            endpoint_name=self.name,
            endpoint_config_name=self.config.attr_endpoint_config_name,
            # Without this an update puts weights and counts back to the config's initial values.
            retain_all_variant_properties=True,
        )
        # What depends on a condition is written in CloudFormation's own terms: CDK's typed properties lose
        # their names inside Fn::If.
        weight, mirrored = self._spec.challenger_weight, self._spec.shadow_percent / 100
        self.config.add_property_override(
            "ProductionVariants",
            [
                self._variant(CHAMPION, champion, 1.0),
                _only_if(release.ab, self._variant(CHALLENGER, challenger, weight)),
            ],
        )
        self.config.add_property_override(
            "ShadowProductionVariants",
            _only_if(release.shadow, [self._variant(CHALLENGER, challenger, mirrored)]),
        )
        self.endpoint.add_property_override("DeploymentConfig", _only_if(release.guarded, self._deployment()))

    @property
    def arn(self) -> str:
        """The endpoint's ARN, known without a reference to the resource."""
        return cdk.Stack.of(self).format_arn(
            service="sagemaker", resource="endpoint", resource_name=self.name
        )

    def grant_invoke(self, grantee: iam.IGrantable) -> None:
        """Allow streamed calls of this endpoint, and of no other."""
        grantee.grant_principal.add_to_principal_policy(
            iam.PolicyStatement(actions=["sagemaker:InvokeEndpointWithResponseStream"], resources=[self.arn])
        )

    def metric(self, name: str, *, variant: str = CHAMPION, statistic: str = "Sum") -> cloudwatch.Metric:
        """A metric that SageMaker publishes for one variant; latencies are in microseconds."""
        return cloudwatch.Metric(
            namespace=SAGEMAKER_NAMESPACE,
            metric_name=name,
            dimensions_map={"EndpointName": self.name, "VariantName": variant},
            statistic=statistic,
            period=cdk.Duration.minutes(1),
        )

    def metric_invocations(self, variant: str = CHAMPION) -> cloudwatch.Metric:
        """Requests a variant received, per minute."""
        return self.metric("Invocations", variant=variant)

    def metric_error_rate(self, variant: str = CHAMPION) -> cloudwatch.Metric:
        """Share of a variant's requests that ended in a 5xx: SageMaker publishes 1 or 0 for each request."""
        return self.metric("Invocation5XXErrors", variant=variant, statistic="Average")

    def metric_first_chunk_latency(self, statistic: str, variant: str = CHAMPION) -> cloudwatch.Metric:
        """Microseconds from a streamed request's arrival to its first chunk."""
        return self.metric("FirstChunkLatency", variant=variant, statistic=statistic)

    def _model(self, id: str, artefact: Artefact) -> sagemaker.CfnModel:
        stack = cdk.Stack.of(self)
        engine = self._spec.engine
        environment = self._settings.environment
        return sagemaker.CfnModel(
            self,
            id,
            execution_role_arn=self._role.role_arn,
            enable_network_isolation=self._spec.network_isolation,
            primary_container=sagemaker.CfnModel.ContainerDefinitionProperty(
                image=image_table().uri(engine.image, account=environment.account, region=stack.region),
                environment=container_environment(
                    engine, self._settings.model.name, artefact.version, artefact.digest
                ),
                model_data_source=sagemaker.CfnModel.ModelDataSourceProperty(
                    s3_data_source=sagemaker.CfnModel.S3DataSourceProperty(
                        s3_uri=artefact.uri, s3_data_type="S3Prefix", compression_type="None"
                    )
                ),
            ),
        )

    def _variant(self, name: str, model: sagemaker.CfnModel, weight: float) -> dict[str, object]:
        machines = self._spec.instances
        optional = {
            "VolumeSizeInGB": machines.volume_gb,
            "InferenceAmiVersion": getattr(self._spec.engine, "inference_ami_version", None),
        }
        return {
            "VariantName": name,
            "ModelName": model.attr_model_name,
            "InstanceType": machines.type,
            "InitialInstanceCount": machines.min,
            "InitialVariantWeight": weight,
            "ModelDataDownloadTimeoutInSeconds": self._spec.model_download_timeout_seconds,
            "ContainerStartupHealthCheckTimeoutInSeconds": self._spec.startup_timeout_seconds,
            "RoutingConfig": {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
        } | {key: value for key, value in optional.items() if value is not None}

    def _deployment(self) -> dict[str, object]:
        """A second fleet beside the first; a canary shifts in two steps, and alarms take it back."""
        rollout = self._spec.deployment
        start = self._spec.model_download_timeout_seconds + self._spec.startup_timeout_seconds
        limit = min(_MAX_UPDATE_SECONDS, _MIN_UPDATE_SECONDS + start + 2 * rollout.bake_seconds)
        if not isinstance(rollout, Canary):
            shift = {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}
            policy = {
                "TrafficRoutingConfiguration": shift,
                "TerminationWaitInSeconds": rollout.bake_seconds,
                "MaximumExecutionTimeoutInSeconds": limit,
            }
            return {"BlueGreenUpdatePolicy": policy}
        alarms = RollbackAlarms(self, "Rollback", endpoint=self, settings=self._settings)
        shift = {
            "Type": "CANARY",
            "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": rollout.canary_percent},
            "WaitIntervalInSeconds": rollout.bake_seconds,
        }
        policy = {"TrafficRoutingConfiguration": shift, "MaximumExecutionTimeoutInSeconds": limit}
        return {
            "BlueGreenUpdatePolicy": policy,
            "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": name} for name in alarms.names]},
        }


def _grant_volume(key: kms.IKey, role: iam.IRole) -> None:
    """SageMaker opens the model volume's key through a grant that it makes in the role's name."""
    role.add_to_principal_policy(
        iam.PolicyStatement(
            actions=["kms:CreateGrant", "kms:DescribeKey"],
            resources=[key.key_arn],
            conditions={"Bool": {"kms:GrantIsForAWSResource": "true"}},
        )
    )


def _only_if(condition: cdk.CfnCondition, value: object) -> dict[str, object]:
    return {"Fn::If": [condition.logical_id, value, {"Ref": "AWS::NoValue"}]}
