"""The alarms that roll an update back. They watch SageMaker's own metrics of the variant that is replaced.

While traffic shifts the old and the new fleet publish under one name, so a fault of the new one shows diluted
by its share: thresholds and percentiles are derived from the share of the first step, which is at least one
machine. The alarms name the endpoint by literal dimensions and exist before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from contracts import metrics
from contracts.serving_state import ROLLBACK_ALARMS_OUTPUT
from infra.constructs.execution_role import ExecutionRole
from infra.settings import Settings
from infra.settings.rollout import OWN_ALARMS, GradualDeployment
from infra.settings.scaling import ScalingSchedule

_MICROSECONDS = 1000
_ERROR_SHARE = 0.05  # of the new version's own requests
_SLOW_FACTOR = 2.0  # times the goal for the time to first token


class RollbackAlarms(Construct):
    """Errors, time to first token and verdict. `names` goes into the deployment config.

    The endpoint's `role` may describe them. `metric` gives a SageMaker metric by name and statistic. Where
    there are neither streams' first chunks nor a verdict, `errors_only`. The new version begins with one of
    `least` machines, or copies, at any rate.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        rollout: GradualDeployment,
        least: int,
        settings: Settings,
        role: ExecutionRole,
        metric: Callable[[str, str], cloudwatch.Metric],
        errors_only: bool = False,
    ) -> None:
        super().__init__(scope, id)
        share = rollout.first_share(least)
        alarms = [
            self._alarm(
                "Errors",
                _errors(metric, rollout.minimum_failures),
                _ERROR_SHARE * share,
                f"More than {_ERROR_SHARE:.0%} of a {share:.0%} {rollout.kind}'s requests fail",
            )
        ]
        if not errors_only:
            alarms += [self._first_token(share, rollout, settings, metric), self._verdict(settings)]
        if len(alarms) > OWN_ALARMS:
            raise ValueError("OWN_ALARMS is lower than the number of alarms here")
        role.allow_rollback(alarms, further=bool(rollout.alarms))
        self.names = [*(alarm.alarm_name for alarm in alarms), *rollout.alarms]
        # Where an update was taken back, whoever looks for the cause reads the names here.
        cdk.CfnOutput(cdk.Stack.of(self), ROLLBACK_ALARMS_OUTPUT, value=",".join(self.names))

    def _first_token(
        self,
        share: float,
        rollout: GradualDeployment,
        settings: Settings,
        metric: Callable[[str, str], cloudwatch.Metric],
    ) -> cloudwatch.Alarm:
        # Half of the new version's requests being slow moves just this percentile of all requests.
        return self._alarm(
            "FirstToken",
            metric("FirstChunkLatency", f"p{100 - 100 * share / 2:g}"),
            _SLOW_FACTOR * settings.goals.ttft_ms * _MICROSECONDS,
            f"Half of a {share:.0%} {rollout.kind}'s first tokens take {_SLOW_FACTOR:g} times the goal",
            low_samples="ignore",  # a percentile of a handful of requests is the slowest of them
        )

    def _verdict(self, settings: Settings) -> cloudwatch.Alarm:
        """A verdict of the refresh loop rolls an update back as SageMaker's own metrics do."""
        return cloudwatch.Alarm(
            self,
            "Verdict",
            metric=cloudwatch.Metric(
                namespace=metrics.NAMESPACE,
                metric_name=metrics.RELEASE_VERDICT,
                dimensions_map={metrics.DIM_ENDPOINT: settings.endpoint_name},
                statistic="Minimum",
                period=cdk.Duration.minutes(1),
            ),
            threshold=0,
            evaluation_periods=1,
            comparison_operator=cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            alarm_description="The refresh loop's statistics found the new version worse",
        )

    def _alarm(
        self,
        id: str,
        metric: cloudwatch.IMetric,
        threshold: float,
        description: str,
        low_samples: str | None = None,
    ) -> cloudwatch.Alarm:
        return cloudwatch.Alarm(
            self,
            id,
            metric=metric,
            threshold=threshold,
            evaluation_periods=3,
            datapoints_to_alarm=2,  # one bad minute with few requests proves nothing
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            alarm_description=description,
            evaluate_low_sample_count_percentile=low_samples,
        )


def least(count: int, schedules: Sequence[ScalingSchedule]) -> int:
    """Machines or copies that there are at any time: the schedules' least counts too."""
    return min([count, *(schedule.min for schedule in schedules)])


def _errors(metric: Callable[[str, str], cloudwatch.Metric], least: int) -> cloudwatch.IMetric:
    """Share of failed requests; 0 in a minute with fewer than `least` of them."""
    if not least:
        return metric("Invocation5XXErrors", "Average")
    return cloudwatch.MathExpression(
        expression=f"IF(failed >= {least}, failed / requests, 0)",
        using_metrics={
            "failed": metric("Invocation5XXErrors", "Sum"),
            "requests": metric("Invocations", "Sum"),
        },
        period=cdk.Duration.minutes(1),
        label="Share of failed requests",
    )
