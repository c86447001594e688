"""Scalable targets and policies: machines, copies and what serverless keeps ready follow their load.

Out of zero it takes two policies: target tracking has no metric to track where nothing runs, so a step policy
answers the alarm that somebody called in vain. Targets depend on what they scale; the service acts under its
service-linked role.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_applicationautoscaling as scaling
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from contracts.metrics import SAGEMAKER_NAMESPACE
from contracts.routing import CHAMPION
from infra.settings.scaling import (
    BacklogScalingSettings,
    ProvisionedConcurrencyScaling,
    ScalingSchedule,
    ScalingSettings,
)

_Policy = scaling.CfnScalingPolicy
_MACHINES = "sagemaker:variant:DesiredInstanceCount"
_COPIES = "sagemaker:inference-component:DesiredCopyCount"
_READY = "sagemaker:variant:DesiredProvisionedConcurrency"
_OF_MACHINES = {
    "concurrent_requests": "SageMakerVariantConcurrentRequestsPerModelHighResolution",
    "invocations": "SageMakerVariantInvocationsPerInstance",
}
_OF_COPIES = {
    "concurrent_requests": "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution",
    "invocations": "SageMakerInferenceComponentInvocationsPerCopy",
}

_OF_READY = "SageMakerVariantProvisionedConcurrencyUtilization"


@dataclass(frozen=True)
class CapacityBounds:
    """Between which numbers a target moves, and when these change."""

    least: int
    most: int
    schedules: Sequence[ScalingSchedule] = ()

    @property
    def may_be_none(self) -> bool:
        """Whether there are times without a single one."""
        return min([self.least, *(schedule.min for schedule in self.schedules)]) == 0


class _Target(Construct):
    """A scalable target. Exposes `target`."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        resource_id: str,
        dimension: str,
        bounds: CapacityBounds,
        after: cdk.CfnResource,
        condition: cdk.CfnCondition | None = None,
    ) -> None:
        super().__init__(scope, id)
        self._condition = condition
        self.target = scaling.CfnScalableTarget(
            self,
            "Target",
            service_namespace="sagemaker",
            resource_id=resource_id,
            scalable_dimension=dimension,
            min_capacity=bounds.least,
            max_capacity=bounds.most,
            scheduled_actions=[_action(schedule) for schedule in bounds.schedules] or None,
        )
        self.target.node.add_dependency(after)
        self.target.cfn_options.condition = condition

    def track(
        self,
        name: str,
        *,
        target: float,
        pauses: ScalingSettings | BacklogScalingSettings | ProvisionedConcurrencyScaling,
        predefined: str | None = None,
        custom: scaling.CfnScalingPolicy.CustomizedMetricSpecificationProperty | None = None,
    ) -> None:
        """Hold a metric at its target."""
        policy = _Policy(
            self,
            "Track",
            policy_name=name,
            policy_type="TargetTrackingScaling",
            scaling_target_id=self.target.ref,
            target_tracking_scaling_policy_configuration=_Policy.TargetTrackingScalingPolicyConfigurationProperty(
                target_value=target,
                scale_in_cooldown=pauses.scale_in_seconds,
                scale_out_cooldown=pauses.scale_out_seconds,
                predefined_metric_specification=_Policy.PredefinedMetricSpecificationProperty(
                    predefined_metric_type=predefined
                )
                if predefined
                else None,
                customized_metric_specification=custom,
            ),
        )
        policy.cfn_options.condition = self._condition

    def wake(self, name: str, *, metric: str, dimensions: dict[str, str], what: str, pause: int) -> None:
        """Add one when `metric` says that somebody was there in vain."""
        policy = _Policy(
            self,
            "Wake",
            policy_name=name,
            policy_type="StepScaling",
            scaling_target_id=self.target.ref,
            step_scaling_policy_configuration=_Policy.StepScalingPolicyConfigurationProperty(
                adjustment_type="ChangeInCapacity",
                metric_aggregation_type="Maximum",
                cooldown=pause,
                step_adjustments=[
                    _Policy.StepAdjustmentProperty(metric_interval_lower_bound=0, scaling_adjustment=1)
                ],
            ),
        )
        cloudwatch.CfnAlarm(
            self,
            "Asleep",
            alarm_description=what,
            namespace=SAGEMAKER_NAMESPACE,
            metric_name=metric,
            dimensions=[
                cloudwatch.CfnAlarm.DimensionProperty(name=key, value=value)
                for key, value in dimensions.items()
            ],
            statistic="Maximum",
            period=60,
            evaluation_periods=1,
            threshold=1,
            comparison_operator="GreaterThanOrEqualToThreshold",
            treat_missing_data="missing",
            alarm_actions=[policy.ref],
        )


class FleetScaling(_Target):
    """The champion's machines follow its requests."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        endpoint_name: str,
        bounds: CapacityBounds,
        target: float,
        spec: ScalingSettings,
        after: cdk.CfnResource,
        condition: cdk.CfnCondition,
    ) -> None:
        what = variant_id(endpoint_name)
        super().__init__(
            scope, id, resource_id=what, dimension=_MACHINES, bounds=bounds, after=after, condition=condition
        )
        name = f"{endpoint_name}-{spec.metric.replace('_', '-')}"
        self.track(name, target=target, pauses=spec, predefined=_OF_MACHINES[spec.metric])


class ReadyConcurrencyScaling(_Target):
    """A serverless variant's provisioned concurrency follows how much of it is in use."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        endpoint_name: str,
        least: int,
        spec: ProvisionedConcurrencyScaling,
        after: cdk.CfnResource,
    ) -> None:
        what, bounds = variant_id(endpoint_name), CapacityBounds(least, spec.max, spec.schedules)
        super().__init__(scope, id, resource_id=what, dimension=_READY, bounds=bounds, after=after)
        self.track(f"{endpoint_name}-provisioned", target=spec.target, pauses=spec, predefined=_OF_READY)


class CopyScaling(_Target):
    """Copies of an inference component follow its requests, down to none and back."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        component_name: str,
        bounds: CapacityBounds,
        target: float,
        spec: ScalingSettings,
        after: cdk.CfnResource,
    ) -> None:
        what = f"inference-component/{component_name}"
        super().__init__(scope, id, resource_id=what, dimension=_COPIES, bounds=bounds, after=after)
        name = f"{component_name}-{spec.metric.replace('_', '-')}"
        self.track(name, target=target, pauses=spec, predefined=_OF_COPIES[spec.metric])
        if bounds.may_be_none:
            self.wake(
                f"{component_name}-wake",
                metric="NoCapacityInvocationFailures",
                dimensions={"InferenceComponentName": component_name},
                what="A call came while no copy was there: one is started",
                pause=spec.scale_out_seconds,
            )


class BacklogFleetScaling(_Target):
    """An asynchronous endpoint's machines follow its queue, down to none and back."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        endpoint_name: str,
        bounds: CapacityBounds,
        spec: BacklogScalingSettings,
        after: cdk.CfnResource,
    ) -> None:
        what = variant_id(endpoint_name)
        super().__init__(scope, id, resource_id=what, dimension=_MACHINES, bounds=bounds, after=after)
        self.track(
            f"{endpoint_name}-backlog",
            target=spec.backlog_per_instance,
            pauses=spec,
            custom=_Policy.CustomizedMetricSpecificationProperty(
                namespace=SAGEMAKER_NAMESPACE,
                metric_name="ApproximateBacklogSizePerInstance",
                dimensions=[_Policy.MetricDimensionProperty(name="EndpointName", value=endpoint_name)],
                statistic="Average",
            ),
        )
        if bounds.may_be_none:
            self.wake(
                f"{endpoint_name}-wake",
                metric="HasBacklogWithoutCapacity",
                dimensions={"EndpointName": endpoint_name},
                what="Requests wait and no machine is there: one is started",
                pause=spec.scale_out_seconds,
            )


def variant_id(endpoint_name: str) -> str:
    """How Application Auto Scaling names the champion's fleet."""
    return f"endpoint/{endpoint_name}/variant/{CHAMPION}"


def _action(schedule: ScalingSchedule) -> scaling.CfnScalableTarget.ScheduledActionProperty:
    return scaling.CfnScalableTarget.ScheduledActionProperty(
        scheduled_action_name=schedule.name,
        schedule=schedule.at,
        timezone=schedule.timezone,
        scalable_target_action=scaling.CfnScalableTarget.ScalableTargetActionProperty(
            min_capacity=schedule.min, max_capacity=schedule.max
        ),
    )
