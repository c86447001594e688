"""The two alarms that a target-tracking policy has, as the service creates them.

High: above the target for three periods. Low: below nine tenths of it for fifteen minutes, so that capacity
leaves later than it comes.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from local.autoscaling.ports import Alarm
from local.sagemaker.errors import invalid

HIGH_PERIODS = 3
LOW_SECONDS = 900
LOW_SHARE = 0.9


@dataclass(frozen=True)
class PredefinedMetric:
    """A metric that the service knows by name."""

    metric: str
    statistic: str
    period: int
    dimension: str


_VARIANT, _COMPONENT = (
    "sagemaker:variant:DesiredInstanceCount",
    "sagemaker:inference-component:DesiredCopyCount",
)
_PROVISIONED = "sagemaker:variant:DesiredProvisionedConcurrency"
PREDEFINED = {
    "SageMakerVariantInvocationsPerInstance": PredefinedMetric("InvocationsPerInstance", "Sum", 60, _VARIANT),
    "SageMakerVariantConcurrentRequestsPerModelHighResolution": PredefinedMetric(
        "ConcurrentRequestsPerModel", "Maximum", 10, _VARIANT
    ),
    "SageMakerInferenceComponentInvocationsPerCopy": PredefinedMetric(
        "InvocationsPerCopy", "Sum", 60, _COMPONENT
    ),
    "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution": PredefinedMetric(
        "ConcurrentRequestsPerCopy", "Maximum", 10, _COMPONENT
    ),
    "SageMakerVariantProvisionedConcurrencyUtilization": PredefinedMetric(
        "ServerlessProvisionedConcurrencyUtilization", "Maximum", 60, _PROVISIONED
    ),
}


def metric_of(policy: Mapping[str, Any], dimension: str, dimensions: Mapping[str, str]) -> dict[str, Any]:
    """What an alarm of this policy looks at, in PutMetricAlarm's fields; `dimensions` are those of the
    scaled resource. Raises AwsApiError for a metric that this kind of resource does not have."""
    predefined = policy.get("PredefinedMetricSpecification")
    customized = policy.get("CustomizedMetricSpecification")
    if (predefined is None) == (customized is None):
        raise invalid(
            "You must specify exactly one of PredefinedMetricSpecification and CustomizedMetricSpecification."
        )
    if predefined is None:
        return _customized(customized or {})
    name = predefined["PredefinedMetricType"]
    known = PREDEFINED.get(name)
    if known is None or known.dimension != dimension:
        raise invalid(f"The predefined metric type {name} is not valid for scalable dimension {dimension}.")
    if "ResourceLabel" in predefined:
        raise invalid(f"ResourceLabel must not be specified for the predefined metric type {name}.")
    return {
        "Namespace": "AWS/SageMaker",
        "MetricName": known.metric,
        "Dimensions": [{"Name": name, "Value": value} for name, value in dimensions.items()],
        "Statistic": known.statistic,
        "Period": known.period,
    }


def _customized(specification: Mapping[str, Any]) -> dict[str, Any]:
    if "Metrics" in specification:
        if {"MetricName", "Namespace", "Statistic", "Dimensions", "Unit"} & specification.keys():
            raise invalid("CustomizedMetricSpecification must have either Metrics or MetricName, not both.")
        return {"Metrics": [_query(query) for query in specification["Metrics"]]}
    for name in ("MetricName", "Namespace", "Statistic"):
        if not specification.get(name):
            raise invalid(f"CustomizedMetricSpecification must have {name}.")
    kept = ("MetricName", "Namespace", "Statistic", "Dimensions", "Unit")
    return {name: specification[name] for name in kept if name in specification} | {"Period": 60}


def _query(query: Mapping[str, Any]) -> dict[str, Any]:
    """A policy's metric query has no period: the service asks once a minute."""
    asked = dict(query)
    if "MetricStat" in asked:
        asked["MetricStat"] = {"Period": 60, **asked["MetricStat"]}
    return asked


def period_of(metric: Mapping[str, Any]) -> int:
    """Seconds between the metric's data points."""
    return int(metric.get("Period", 60))


def tracking_alarms(policy: Mapping[str, Any], metric: Mapping[str, Any]) -> list[Alarm]:
    """The alarms of a policy record, the high one first; only that one when it may not scale in."""
    configuration = policy["TargetTrackingScalingPolicyConfiguration"]
    target = float(configuration["TargetValue"])
    common = {
        **metric,
        "ActionsEnabled": True,
        "AlarmActions": [policy["PolicyARN"]],
        "AlarmDescription": f"DO NOT EDIT OR DELETE. For TargetTrackingScaling policy {policy['PolicyARN']}.",
    }
    high = common | {
        "AlarmName": _name(policy, "AlarmHigh"),
        "ComparisonOperator": "GreaterThanThreshold",
        "Threshold": target,
        "EvaluationPeriods": HIGH_PERIODS,
    }
    low = common | {
        "AlarmName": _name(policy, "AlarmLow"),
        "ComparisonOperator": "LessThanThreshold",
        "Threshold": target * LOW_SHARE,
        "EvaluationPeriods": LOW_SECONDS // period_of(metric),
    }
    return [high] if configuration.get("DisableScaleIn") else [high, low]


def _name(policy: Mapping[str, Any], kind: str) -> str:
    return f"TargetTracking-{policy['ResourceId']}-{kind}-{uuid.uuid4()}"
