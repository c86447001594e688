"""CloudWatch alarms of the second region: its endpoint receives requests, or fails them.

In its own region, on a topic of its own: alarms and their topics do not cross regions.
"""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_sns as sns
from constructs import Construct

from infra.constructs.alarms import RUNBOOK, alarm_name
from infra.constructs.published_metrics import PublishedMetrics
from infra.settings import Settings


class StandbyAlarms(Construct):
    """Two alarms on the second endpoint's own metrics."""

    def __init__(
        self, scope: Construct, id: str, *, settings: Settings, published: PublishedMetrics, topic: sns.ITopic
    ) -> None:
        super().__init__(scope, id)
        self._settings, self._topic = settings, topic
        place = settings.environment.region
        self._alarm(
            "InUse",
            published.sagemaker("Invocations"),
            0,
            f"The endpoint in {place} receives requests: the first region is full, starting or down",
            ends=True,
        )
        self._alarm(
            "Endpoint5xx",
            published.math(
                f"IF(invocations >= {settings.monitoring.minimum_requests}, errors, 0)",
                "share of 5xx",
                invocations=published.sagemaker("Invocations"),
                errors=published.sagemaker("Invocation5XXErrors", "Average"),
            ),
            1 - settings.goals.availability,
            f"More of the invocations of the endpoint in {place} end in a 5xx than the goal allows",
        )

    def _alarm(
        self, id: str, metric: cloudwatch.IMetric, threshold: float, what: str, *, ends: bool = False
    ) -> None:
        spec, name = self._settings.monitoring, alarm_name(id)
        alarm = cloudwatch.Alarm(
            self,
            id,
            alarm_name=f"{self._settings.prefix}-failover-{name}",
            alarm_description=f"{what}. Runbook: {RUNBOOK}#failover-{name}",
            metric=metric,
            threshold=round(threshold, 6),
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            evaluation_periods=1 if ends else spec.evaluation_periods,
            datapoints_to_alarm=1 if ends else spec.datapoints_to_alarm,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        alarm.add_alarm_action(actions.SnsAction(self._topic))
        if ends:
            alarm.add_ok_action(actions.SnsAction(self._topic))


def published_there(settings: Settings) -> PublishedMetrics:
    """Metrics of the second endpoint; its region has no API and no refresh loop."""
    return PublishedMetrics(
        endpoint=settings.endpoint_name,
        api="",
        machine_arn="",
        period=cdk.Duration.seconds(settings.monitoring.period_seconds),
    )
