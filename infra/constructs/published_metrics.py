"""Metrics that are really published, as CDK objects: ours, the endpoint's, the API's and the loop's.

Widgets and alarms take theirs from here alone, so that none watches a name or a set of dimensions that nobody
publishes. Latencies of SageMaker are in microseconds, all others in milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch

from contracts import metrics
from contracts.routing import CHAMPION


@dataclass(frozen=True)
class PublishedMetrics:
    """Metrics of one environment at one resolution."""

    endpoint: str
    api: str
    machine_arn: str
    period: cdk.Duration

    def of(self, endpoint: str) -> PublishedMetrics:
        """The same of another endpoint, or of a hosted model by its name."""
        return replace(self, endpoint=endpoint)

    def ours(self, name: str, statistic: str = "Sum", *, label: str | None = None) -> cloudwatch.Metric:
        """A metric of the functions over the whole endpoint. Raises ValueError where it has no such set."""
        if (metrics.DIM_ENDPOINT,) not in metrics.PUBLISHED[name]:
            raise ValueError(f"{name} is not published by endpoint alone")
        dimensions = {metrics.DIM_ENDPOINT: self.endpoint}
        return self._metric(metrics.NAMESPACE, name, dimensions, statistic, label)

    def ours_by(self, name: str, *dimensions: str, statistic: str = "Sum") -> cloudwatch.MathExpression:
        """One line for each value of `dimensions` (beside the endpoint): they are known only at run time."""
        names = (metrics.DIM_ENDPOINT, *dimensions)
        if names not in metrics.PUBLISHED[name]:
            raise ValueError(f"{name} is not published by {', '.join(names)}")
        schema = ",".join((metrics.NAMESPACE, *names))
        terms = f'MetricName="{name}" {metrics.DIM_ENDPOINT}="{self.endpoint}"'
        seconds = int(self.period.to_seconds())
        return cloudwatch.MathExpression(
            expression=f"SEARCH('{{{schema}}} {terms}', '{statistic}', {seconds})",
            using_metrics={},
            period=self.period,
            label="",
        )

    def sagemaker(
        self, name: str, statistic: str = "Sum", *, variant: str = CHAMPION, label: str | None = None
    ) -> cloudwatch.Metric:
        """A metric that the endpoint publishes for one variant."""
        dimensions = {"EndpointName": self.endpoint, "VariantName": variant}
        return self._metric(metrics.SAGEMAKER_NAMESPACE, name, dimensions, statistic, label)

    def gateway(self, name: str, statistic: str = "Sum", *, label: str | None = None) -> cloudwatch.Metric:
        """A metric of API Gateway over all routes."""
        return self._metric(metrics.API_NAMESPACE, name, {metrics.API_DIMENSION: self.api}, statistic, label)

    def loop(self, name: str, statistic: str = "Sum", *, label: str | None = None) -> cloudwatch.Metric:
        """A metric of the refresh loop's executions."""
        dimensions = {metrics.STATES_DIMENSION: self.machine_arn}
        return self._metric(metrics.STATES_NAMESPACE, name, dimensions, statistic, label)

    def queue(self, queue: str, name: str, statistic: str = "Maximum") -> cloudwatch.Metric:
        """A metric of a queue by the queue's name."""
        return self._metric(metrics.QUEUE_NAMESPACE, name, {metrics.QUEUE_DIMENSION: queue}, statistic, None)

    def math(self, expression: str, label: str, **using: cloudwatch.IMetric) -> cloudwatch.MathExpression:
        """An expression over other metrics."""
        return cloudwatch.MathExpression(
            expression=expression, using_metrics=using, period=self.period, label=label
        )

    def _metric(
        self, namespace: str, name: str, dimensions: dict[str, str], statistic: str, label: str | None
    ) -> cloudwatch.Metric:
        return cloudwatch.Metric(
            namespace=namespace,
            metric_name=name,
            dimensions_map=dimensions,
            statistic=statistic,
            period=self.period,
            label=label,
        )
