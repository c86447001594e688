"""Machines that are always there: champion, challenger or shadow beside it, guarded updates, scaling.

Which variants exist follows from the release's phase; their weights and counts belong to the API. Where a
release has no experiments there is the champion alone.
"""

from __future__ import annotations

from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from contracts.routing import CHALLENGER, CHAMPION
from infra.constructs.autoscaling import CapacityBounds, FleetScaling
from infra.constructs.data_capture import CAPTURED, capture_config, grant_capture
from infra.constructs.hosting import Hosting, Properties, machines, only_if
from infra.constructs.inference_endpoint import InferenceEndpoint
from infra.constructs.release_parameters import ExperimentParameters, ReleaseParameters
from infra.constructs.rollback_alarms import RollbackAlarms, least
from infra.policy.acknowledge import acknowledge
from infra.settings.endpoint import RealtimeEndpoint
from infra.settings.rollout import GradualDeployment


class RealtimeInference(InferenceEndpoint):
    """An endpoint of the kind `realtime`."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        hosting: Hosting,
        spec: RealtimeEndpoint,
        release: ReleaseParameters,
    ) -> None:
        super().__init__(scope, id, hosting=hosting)
        self._hosting, self._spec = hosting, spec
        champion = hosting.model(self, "Champion", release.champion, isolated=spec.network_isolation)
        self.config = hosting.config(self, volume=spec.instances.has_volume)
        self.endpoint = hosting.endpoint(self, self.config)
        first = self._variant(CHAMPION, champion, 1.0)
        if isinstance(release, ExperimentParameters):
            self._experiment(release, first)
        else:
            self.config.add_property_override("ProductionVariants", [first])
            self.endpoint.add_property_override("DeploymentConfig", self._deployment())
        if spec.data_capture:
            self._capture(spec.data_capture.percent)
        if spec.scales:
            self._scale(release)

    def _experiment(self, release: ExperimentParameters, first: Properties) -> None:
        """Challenger and shadow under their conditions; guardrails where no variant comes or goes."""
        hosting, spec = self._hosting, self._spec
        challenger = hosting.model(self, "Challenger", release.challenger, isolated=spec.network_isolation)
        challenger.cfn_options.condition = release.has_challenger
        second = self._variant(CHALLENGER, challenger, spec.challenger_weight)
        mirror = self._variant(CHALLENGER, challenger, spec.shadow_percent / 100)
        self.config.add_property_override("ProductionVariants", [first, only_if(release.ab, second)])
        self.config.add_property_override("ShadowProductionVariants", only_if(release.shadow, [mirror]))
        deployment = self._deployment()
        guarded = release.guard([first, second, deployment, *hosting.container(release.champion)])
        self.endpoint.add_property_override("DeploymentConfig", only_if(guarded, deployment))

    def _variant(self, name: str, model: sagemaker.CfnModel, weight: float) -> Properties:
        spec = self._spec
        ami = getattr(spec.engine, "inference_ami_version", None)
        return {
            "VariantName": name,
            "ModelName": model.attr_model_name,
            "InitialInstanceCount": spec.instances.min,
            "InitialVariantWeight": weight,
            **self._hosting.timeouts,
            **machines(spec.instances, spec.routing, ami),
        }

    def _deployment(self) -> Properties:
        rollout = self._spec.deployment
        alarms: list[str] = []
        if isinstance(rollout, GradualDeployment):
            alarms = RollbackAlarms(
                self,
                "Rollback",
                rollout=rollout,
                least=least(self._spec.instances.min, self._spec.scaling.schedules),
                settings=self._hosting.settings,
                role=self._hosting.role,
                metric=self._of_champion,
            ).names
        return self._hosting.deployment(rollout, alarms)

    def _capture(self, percent: int) -> None:
        hosting = self._hosting
        bucket, key = hosting.records_store
        config = capture_config(bucket, key, percent)
        self.config.add_property_override("DataCaptureConfig", config)
        grant_capture(hosting.role, bucket, key)
        why = f"The settings ask for copies of traffic; they are encrypted under {CAPTURED} and expire."
        acknowledge(self.config, {"Evergreen::no-endpoint-capture": why})

    def _scale(self, release: ReleaseParameters) -> None:
        """A parameter turns scaling off for the one update that changes the instance type.

        The service refuses a new type while the variant is a scalable target.
        """
        spec, target = self._spec, self._hosting.settings.scaling_target
        if target is None:
            raise ValueError("settings without a scaling target")
        on = release.switch("Scaling", "`off` for an update that changes the instance type")
        FleetScaling(
            self,
            "Scaling",
            endpoint_name=self.name,
            bounds=CapacityBounds(spec.instances.min, spec.instances.max, spec.scaling.schedules),
            target=target,
            spec=spec.scaling,
            after=self.endpoint,
            condition=on,
        )
