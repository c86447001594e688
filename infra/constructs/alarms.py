"""CloudWatch alarms for on-call engineers: thresholds from the goals, one composite that pages once.

Each description names its section of the runbook, docs/monitoring.md. Missing data never
breaches: without traffic and without releases nothing is wrong.
"""

from __future__ import annotations

from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_sns as sns
from constructs import Construct

from contracts import metrics
from contracts.jobs import queue_name
from infra.constructs.published_metrics import PublishedMetrics
from infra.constructs.release_parameters import logical_id
from infra.settings import Settings

RUNBOOK = "docs/monitoring.md"
_ERROR_BUDGET_DIGITS = 6


class ServiceAlarms(Construct):
    """Exposes `all`, the alarms with the composite last, in the order of the dashboard."""

    def __init__(
        self, scope: Construct, id: str, *, settings: Settings, published: PublishedMetrics, topic: sns.ITopic
    ) -> None:
        super().__init__(scope, id)
        self._settings, self._published = settings, published
        goals = settings.goals
        budget = round(1 - goals.availability, _ERROR_BUDGET_DIGITS)
        paging = [
            self._alarm(
                "Availability",
                self._error_ratio(),
                budget,
                f"More than {budget:.4%} of requests fail on our side",
            ),
            self._alarm(
                "TimeToFirstToken",
                self._first_token(),
                float(goals.ttft_ms),
                f"The 95th percentile of the time to first token exceeds {goals.ttft_ms} ms",
            ),
            self._alarm(
                "Endpoint5xx",
                self._endpoint_errors(),
                budget,
                f"More than {budget:.4%} of the champion's invocations end in a 5xx",
            ),
        ]
        paging += [self._further(there, budget) for there in settings.further_endpoints]
        failed = self._alarm(
            "RefreshFailed",
            self._failed_releases(),
            0,
            "A release failed, was stopped or ran out of time",
            once=True,
        )
        rolled_back = self._alarm(
            "UpdateRolledBack",
            self._published.ours(metrics.UPDATES_ROLLED_BACK),
            0,
            "SageMaker took an update back: the endpoint serves the model before it",
            once=True,
        )
        rolled_back.add_alarm_action(actions.SnsAction(topic))
        undelivered = self._alarm(
            "JobsDlqNotEmpty",
            self._published.queue(
                queue_name(settings.prefix, dead=True), "ApproximateNumberOfMessagesVisible"
            ),
            0,
            "The jobs' dead-letter queue holds messages: no worker could process them",
            once=True,
        )
        undelivered.add_alarm_action(actions.SnsAction(topic))
        page = cloudwatch.CompositeAlarm(
            self,
            "Page",
            composite_alarm_name=f"{settings.prefix}-page",
            alarm_description=f"Callers are affected; one page covers all causes. Runbook: {RUNBOOK}#page",
            alarm_rule=cloudwatch.AlarmRule.any_of(
                *(cloudwatch.AlarmRule.from_alarm(one, cloudwatch.AlarmState.ALARM) for one in paging)
            ),
        )
        page.add_alarm_action(actions.SnsAction(topic))
        page.add_ok_action(actions.SnsAction(topic))
        self.all: list[cloudwatch.IAlarm] = [*paging, failed, rolled_back, undelivered, page]

    def _error_ratio(self) -> cloudwatch.MathExpression:
        """Seen from outside, so that a function that cannot even start counts; or from inside, where an error
        came after the reply had begun with status 200. Whichever is more."""
        refused = self._published.gateway("5XXError")
        broken = self._published.ours(metrics.ERRORS)
        return self._published.math(
            f"IF(requests >= {self._enough}, "
            "IF(FILL(broken, 0) > refused, FILL(broken, 0), refused) / requests, 0)",
            "error ratio",
            requests=self._published.gateway("Count"),
            refused=refused,
            broken=broken,
        )

    def _first_token(self) -> cloudwatch.MathExpression:
        return self._published.math(
            f"IF(requests >= {self._enough}, ttft, 0)",
            "time to first token, p95",
            requests=self._published.ours(metrics.REQUESTS),
            ttft=self._published.ours(metrics.TIME_TO_FIRST_TOKEN, "p95"),
        )

    def _further(self, there: Settings, budget: float) -> cloudwatch.Alarm:
        """The alarm on a further model's endpoint; they share the runbook's section."""
        return self._alarm(
            logical_id("Model5xx", there.model.name),
            self._endpoint_errors(self._published.of(there.endpoint_name)),
            budget,
            f"More than {budget:.4%} of the invocations of {there.model.name} end in a 5xx",
            name=f"model5xx-{there.serving_part.removeprefix('serving-')}",
            section="model5xx",
        )

    def _endpoint_errors(self, published: PublishedMetrics | None = None) -> cloudwatch.MathExpression:
        """SageMaker publishes 1 or 0 for each invocation: the average is the share."""
        of = published or self._published
        return of.math(
            f"IF(invocations >= {self._enough}, errors, 0)",
            "share of 5xx",
            invocations=of.sagemaker("Invocations"),
            errors=of.sagemaker("Invocation5XXErrors", "Average"),
        )

    def _failed_releases(self) -> cloudwatch.MathExpression:
        return self._published.math(
            "FILL(failed, 0) + FILL(late, 0) + FILL(stopped, 0)",
            "failed releases",
            failed=self._published.loop("ExecutionsFailed"),
            late=self._published.loop("ExecutionsTimedOut"),
            stopped=self._published.loop("ExecutionsAborted"),
        )

    @property
    def _enough(self) -> int:
        return self._settings.monitoring.minimum_requests

    def _alarm(
        self,
        id: str,
        metric: cloudwatch.IMetric,
        threshold: float,
        what: str,
        *,
        once: bool = False,
        name: str = "",
        section: str = "",
    ) -> cloudwatch.Alarm:
        spec = self._settings.monitoring
        name = name or alarm_name(id)
        return cloudwatch.Alarm(
            self,
            id,
            alarm_name=f"{self._settings.prefix}-{name}",
            alarm_description=f"{what}. Runbook: {RUNBOOK}#{section or name}",
            metric=metric,
            threshold=threshold,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            evaluation_periods=1 if once else spec.evaluation_periods,
            datapoints_to_alarm=1 if once else spec.datapoints_to_alarm,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )


def alarm_name(id: str) -> str:
    """`time-to-first-token` of `TimeToFirstToken`: in the alarm's name and as the runbook's anchor."""
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in id).lstrip("-")
