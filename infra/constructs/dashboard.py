"""One dashboard per environment: what callers get, what the endpoint does, how the refresh loop goes.

From top to bottom: are callers affected, which ones, since when, and which component fails.
"""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from contracts import metrics
from contracts.routing import CHALLENGER, CHAMPION
from infra.constructs.alarms import RUNBOOK
from infra.constructs.published_metrics import PublishedMetrics
from infra.settings import Settings
from infra.settings.catalogue import AdapterModel

_WHOLE, _THIRD = 24, 8
_VARIANTS = (CHAMPION, CHALLENGER)
_BY_VERSION = (metrics.DIM_VARIANT, metrics.DIM_MODEL_VERSION)
_PERCENTILES = ("p50", "p95", "p99")


class Dashboard(cloudwatch.Dashboard):
    """The dashboard `evergreen-<env>`."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        settings: Settings,
        published: PublishedMetrics,
        alarms: Sequence[cloudwatch.IAlarm],
    ) -> None:
        super().__init__(scope, id, dashboard_name=settings.prefix, default_interval=cdk.Duration.hours(3))
        self._published, self._goals, self._settings = published, settings.goals, settings
        self.add_widgets(
            cloudwatch.TextWidget(
                markdown=f"# {settings.prefix}\nWhat each alarm means and what to do: {RUNBOOK}",
                width=_WHOLE,
                height=2,
            )
        )
        self.add_widgets(
            cloudwatch.AlarmStatusWidget(alarms=list(alarms), title="Alarms", width=_WHOLE, height=3)
        )
        self._callers()
        self._tokens()
        self._endpoint()
        self._further_models()
        self._loop()

    def _callers(self) -> None:
        ours = self._published.ours
        self.add_widgets(
            self._graph("Requests by variant", [self._published.ours_by(metrics.REQUESTS, *_BY_VERSION)]),
            self._graph("Errors by type", [self._published.ours_by(metrics.ERRORS, metrics.DIM_ERROR_TYPE)]),
            self._graph(
                "Answers of the API",
                [
                    self._published.gateway("Count", label="requests"),
                    self._published.gateway("4XXError", label="4xx"),
                    self._published.gateway("5XXError", label="5xx"),
                ],
            ),
        )
        self.add_widgets(
            self._graph(
                "Time to first token, ms",
                [ours(metrics.TIME_TO_FIRST_TOKEN, p, label=p) for p in _PERCENTILES],
                goal=float(self._goals.ttft_ms),
            ),
            self._graph("Request duration, ms", [ours(metrics.DURATION, p, label=p) for p in _PERCENTILES]),
            self._graph(
                "Time per output token, ms",
                [ours(metrics.TIME_PER_OUTPUT_TOKEN, p, label=p) for p in _PERCENTILES],
            ),
        )

    def _tokens(self) -> None:
        by = self._published.ours_by
        self.add_widgets(
            self._graph("Input tokens by variant", [by(metrics.INPUT_TOKENS, *_BY_VERSION)]),
            self._graph("Output tokens by variant", [by(metrics.OUTPUT_TOKENS, *_BY_VERSION)]),
            self._graph(
                "Feedback score by variant",
                [by(metrics.FEEDBACK_SCORE, *_BY_VERSION, statistic="Average")],
            ),
        )

    def _endpoint(self) -> None:
        of = self._published.sagemaker
        self.add_widgets(
            self._graph(
                "Endpoint: invocations", [of("Invocations", variant=v, label=v) for v in _VARIANTS], width=6
            ),
            self._graph(
                "Endpoint: 5xx", [of("Invocation5XXErrors", variant=v, label=v) for v in _VARIANTS], width=6
            ),
            self._graph(
                "Endpoint: model latency p95, µs",
                [of("ModelLatency", "p95", variant=v, label=v) for v in _VARIANTS],
                width=6,
            ),
            self._graph(
                "Endpoint: requests in flight",
                [of("ConcurrentRequestsPerModel", "Maximum", variant=v, label=v) for v in _VARIANTS],
                width=6,
            ),
        )

    def _further_models(self) -> None:
        """A row for each further model: what callers get of it, and of an endpoint of ours what that does."""
        endpoints = {there.model.name: there.endpoint_name for there in self._settings.further_endpoints}
        for entry in self._settings.models:
            if isinstance(entry, AdapterModel):
                continue  # measured with its base, whose endpoint serves it
            of = self._published.of(endpoints.get(entry.name, entry.name))
            graphs = [
                self._graph(
                    f"{entry.name}: requests and errors",
                    [of.ours(metrics.REQUESTS, label="requests"), of.ours(metrics.ERRORS, label="errors")],
                    width=6,
                ),
                self._graph(
                    f"{entry.name}: tokens",
                    [
                        of.ours(metrics.INPUT_TOKENS, label="input"),
                        of.ours(metrics.OUTPUT_TOKENS, label="output"),
                    ],
                    width=6,
                ),
                self._graph(
                    f"{entry.name}: request duration, ms",
                    [of.ours(metrics.DURATION, p, label=p) for p in _PERCENTILES],
                    width=6,
                ),
            ]
            if entry.name in endpoints:
                lines = [
                    of.sagemaker("Invocations", label="invocations"),
                    of.sagemaker("Invocation5XXErrors", label="5xx"),
                ]
                graphs.append(self._graph(f"{entry.name}: endpoint", lines, width=6))
            self.add_widgets(*graphs)

    def _loop(self) -> None:
        loop = self._published.loop
        names = {
            "ExecutionsStarted": "started",
            "ExecutionsSucceeded": "succeeded",
            "ExecutionsFailed": "failed",
            "ExecutionsTimedOut": "timed out",
            "ExecutionsAborted": "stopped",
        }
        self.add_widgets(
            self._graph("Releases", [loop(name, label=label) for name, label in names.items()], width=_THIRD),
            self._graph("Release duration, ms", [loop("ExecutionTime", "Maximum", label="longest")]),
            self._graph(
                "Canary verdict: 1 promote, 0 open, -1 roll back",
                [self._published.ours(metrics.RELEASE_VERDICT, "Minimum", label="verdict")],
            ),
        )

    def _graph(
        self,
        title: str,
        lines: Sequence[cloudwatch.IMetric],
        *,
        goal: float | None = None,
        width: int = _THIRD,
    ) -> cloudwatch.GraphWidget:
        marks = [cloudwatch.HorizontalAnnotation(value=goal, label="goal")] if goal else []
        return cloudwatch.GraphWidget(
            title=title,
            left=list(lines),
            left_annotations=marks,
            left_y_axis=cloudwatch.YAxisProps(min=None if "verdict" in title else 0),
            period=self._published.period,
            width=width,
            height=6,
        )
