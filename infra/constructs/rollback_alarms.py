"""The alarms that take a bad canary back. They watch the service's own metrics of the champion variant.

During a canary the old and the new fleet publish under one variant name, so a fault of the canary shows
diluted by its share: thresholds and percentiles are derived from the share. The alarms name the endpoint
by literal dimensions and exist before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from infra.settings import Settings
from infra.settings.endpoint import Canary

if TYPE_CHECKING:
    from infra.constructs.inference_endpoint import InferenceEndpoint

_MICROSECONDS = 1000
_ERROR_SHARE = 0.05  # of the canary's own requests
_SLOW_FACTOR = 2.0  # times the goal for the time to first token


class RollbackAlarms(Construct):
    """Errors and time to first token of the canary. `names` goes into the deployment config."""

    def __init__(self, scope: Construct, id: str, *, endpoint: InferenceEndpoint, settings: Settings) -> None:
        super().__init__(scope, id)
        rollout = settings.endpoint.deployment
        if not isinstance(rollout, Canary):
            raise TypeError("rollback alarms belong to a canary deployment")
        share = rollout.canary_percent / 100
        # Half of the canary's requests being slow moves just this percentile of all requests.
        percentile = f"p{100 - 100 * share / 2:g}"
        alarms = [
            self._alarm(
                "Errors",
                endpoint.metric_error_rate(),
                _ERROR_SHARE * share,
                f"More than {_ERROR_SHARE:.0%} of a {share:.0%} canary's requests fail",
            ),
            self._alarm(
                "FirstToken",
                endpoint.metric_first_chunk_latency(percentile),
                _SLOW_FACTOR * settings.goals.ttft_ms * _MICROSECONDS,
                f"Half of a {share:.0%} canary's first tokens take {_SLOW_FACTOR:g} times the goal",
            ),
        ]
        self.names = [alarm.alarm_name for alarm in alarms]

    def _alarm(
        self, id: str, metric: cloudwatch.Metric, threshold: float, description: str
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
        )
