"""Machines and copies that may all go: inference components on an endpoint whose variant names no model.

A base component holds the model, adapter components use it. Callers name the component. While no copy is
there calls fail, and the failure is what starts the first one.
"""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from contracts.routing import CHAMPION
from infra.constructs.autoscaling import CapacityBounds, CopyScaling
from infra.constructs.hosting import Hosting, machines, rollback
from infra.constructs.inference_endpoint import InferenceEndpoint
from infra.constructs.release_parameters import ReleaseParameters, logical_id
from infra.constructs.rollback_alarms import RollbackAlarms, least
from infra.settings.catalogue import AdapterModel
from infra.settings.components import ScaleToZeroEndpoint
from infra.settings.deadlines import LONGEST_UPDATE_SECONDS

_Component = sagemaker.CfnInferenceComponent
_LORA = {"vllm": {"SM_VLLM_ENABLE_LORA": "true"}}


class ComponentInference(InferenceEndpoint):
    """An endpoint of the kind `scale_to_zero`. Exposes `base` and `adapters`, the components."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        hosting: Hosting,
        spec: ScaleToZeroEndpoint,
        release: ReleaseParameters,
    ) -> None:
        super().__init__(scope, id, hosting=hosting)
        self._hosting, self._spec = hosting, spec
        self._names = hosting.settings.component_names
        self.config = hosting.config(self, volume=spec.instances.has_volume)
        self.config.execution_role_arn = hosting.role.role_arn
        self.config.enable_network_isolation = spec.network_isolation
        if hosting.network:
            network = hosting.network.config()
            self.config.vpc_config = sagemaker.CfnEndpointConfig.VpcConfigProperty(
                security_group_ids=network.security_group_ids, subnets=network.subnets
            )
        self.config.node.add_dependency(hosting.role)
        self.config.add_property_override("ProductionVariants", [self._variant()])
        self.endpoint = hosting.endpoint(self, self.config)
        further = hosting.settings.component_adapters
        lora = _LORA.get(spec.engine.kind, {}) if spec.adapters or further else {}
        model = hosting.model(self, "Champion", release.champion, isolated=spec.network_isolation, more=lora)
        self.base = self._base(model)
        self._versions: dict[str, str] = {}
        self.adapters = [
            self._adapter(adapter.name, name, adapter.source, adapter.source)
            for adapter, name in zip(spec.adapters, self._names[1:], strict=False)
        ]
        self.adapters += [self._released(adapter, release) for adapter in further]
        self._scale()

    @property
    def adapter_versions(self) -> dict[str, str]:
        """See the base."""
        return self._versions

    @property
    def function_environment(self) -> dict[str, str]:
        """The component that callers mean: an endpoint of components answers no call without a name."""
        return {"INFERENCE_COMPONENT": self._names[0]}

    @property
    def callable_arns(self) -> list[str]:
        """The endpoint, and each component by name."""
        stack = cdk.Stack.of(self)
        return [
            self.arn,
            *(
                stack.format_arn(service="sagemaker", resource="inference-component", resource_name=name)
                for name in self._names
            ),
        ]

    def metric_of_component(self, name: str, statistic: str) -> cloudwatch.Metric:
        """A metric that SageMaker publishes for the base component."""
        return self._metric(name, {"InferenceComponentName": self._names[0]}, statistic)

    def _variant(self) -> dict[str, object]:
        spec = self._spec
        return {
            "VariantName": CHAMPION,
            "InitialInstanceCount": max(1, spec.instances.min),
            "ManagedInstanceScaling": {
                "Status": "ENABLED",
                "MinInstanceCount": spec.instances.min,
                "MaxInstanceCount": spec.instances.max,
            },
            **self._hosting.timeouts,
            **machines(spec.instances, spec.routing, getattr(spec.engine, "inference_ami_version", None)),
        }

    def _base(self, model: sagemaker.CfnModel) -> sagemaker.CfnInferenceComponent:
        spec, rollout = self._spec, self._spec.deployment
        alarms = RollbackAlarms(
            self,
            "Rollback",
            rollout=rollout,
            least=least(spec.copies.min, spec.scaling.schedules),
            settings=self._hosting.settings,
            role=self._hosting.role,
            metric=self.metric_of_component,
            errors_only=True,
        )
        timeouts = self._hosting.settings
        base = _Component(
            self,
            "Base",
            inference_component_name=self._names[0],
            endpoint_name=self.name,
            variant_name=CHAMPION,
            specification=_Component.InferenceComponentSpecificationProperty(
                model_name=model.attr_model_name,
                compute_resource_requirements=_Component.InferenceComponentComputeResourceRequirementsProperty(
                    min_memory_required_in_mb=spec.copies.memory_mb,
                    number_of_accelerator_devices_required=spec.copies.accelerators or None,
                    number_of_cpu_cores_required=spec.copies.cpu_cores,
                ),
                startup_parameters=_Component.InferenceComponentStartupParametersProperty(
                    model_data_download_timeout_in_seconds=timeouts.download_timeout_seconds,
                    container_startup_health_check_timeout_in_seconds=timeouts.startup_timeout_seconds,
                ),
            ),
            runtime_config=_Component.InferenceComponentRuntimeConfigProperty(
                copy_count=max(1, spec.copies.min)  # the first copy proves that the model starts
            ),
        )
        base.add_property_override(
            "DeploymentConfig",
            {
                "RollingUpdatePolicy": {
                    "MaximumBatchSize": {"Type": "CAPACITY_PERCENT", "Value": rollout.batch_percent},
                    "WaitIntervalInSeconds": rollout.bake_seconds,
                    "MaximumExecutionTimeoutInSeconds": min(LONGEST_UPDATE_SECONDS, timeouts.update_seconds),
                },
                "AutoRollbackConfiguration": rollback(alarms.names),
            },
        )
        base.node.add_dependency(self.endpoint)
        return base

    def _released(self, adapter: AdapterModel, release: ReleaseParameters) -> sagemaker.CfnInferenceComponent:
        """A component whose archive is a parameter: under `models/` of our bucket, or as the settings say."""
        settings = self._hosting.settings
        artefact = release.adapter(adapter.part, source=adapter.source, version=adapter.version)
        self._versions[settings.adapter_version_parameter(adapter)] = artefact.version
        name = settings.adapter_component(adapter)
        assert name is not None
        return self._adapter(adapter.part, name, artefact.uri, adapter.source)

    def _adapter(self, part: str, name: str, uri: str, source: str | None) -> sagemaker.CfnInferenceComponent:
        if source:
            bucket, _, key = source.removeprefix("s3://").partition("/")
            self._hosting.role.allow_read(bucket, key)
        component = _Component(
            self,
            logical_id("Adapter", part),
            inference_component_name=name,
            endpoint_name=self.name,
            specification=_Component.InferenceComponentSpecificationProperty(
                base_inference_component_name=self._names[0],
                container=_Component.InferenceComponentContainerSpecificationProperty(artifact_url=uri),
            ),
        )
        component.node.add_dependency(self.base)
        return component

    def _scale(self) -> None:
        spec, target = self._spec, self._hosting.settings.scaling_target
        if target is None:
            raise ValueError("settings without a scaling target")
        CopyScaling(
            self,
            "Scaling",
            component_name=self._names[0],
            bounds=CapacityBounds(spec.copies.min, spec.copies.max, spec.scaling.schedules),
            target=target,
            spec=spec.scaling,
            after=self.base,
        )
