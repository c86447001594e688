"""Makes a job of a request that the model has no room for, where its caller asked for that.

Asked for by the request header `x-evergreen-when-busy: job`. The reply is then 202 with the job and not 503.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol, cast

from contracts import metrics
from contracts.jobs import Route
from contracts.tasks import Task
from lambdas.pipeline.job_submission import job_of
from lambdas.pipeline.request import Exchange
from lambdas.runtime import http_event as requests
from lambdas.runtime.errors import ApiError
from lambdas.runtime.logs import Logger
from lambdas.runtime.metrics import MetricLine

HEADER = "x-evergreen-when-busy"
_JOB = "job"
_DELIVERY = ("stream", "stream_options")
_RETRY_AFTER_SECONDS = 15


class Jobs(Protocol):
    """Who makes jobs; see `lambdas.pipeline.job_submission.Submissions`."""

    def job(
        self,
        authorizer: Mapping[str, Any],
        route: Route,
        body: Mapping[str, Any],
        idempotency_key: str | None = None,
    ) -> Task: ...


class AsyncOffload:
    """Asked when a request fails before its answer has begun."""

    def __init__(self, jobs: Jobs, endpoint_name: str, logger: Logger) -> None:
        self._jobs, self._endpoint_name, self._logger = jobs, endpoint_name, logger

    def takes(self, exchange: Exchange, error: Exception) -> bool:
        """Whether the request is a job now; then status, headers and body are filled in.

        Where no job can be made the caller gets the failure that led here. Raises ApiError where the job is
        refused: too many are open, or the idempotency key was used before.
        """
        if exchange.incoming.headers.get(HEADER, "").strip().lower() != _JOB or not _is_for_now(error):
            return False
        if exchange.caller is None:
            return False  # whoever has not been let in has nothing to find the job by
        if exchange.variant_is_the_callers:
            return False  # a job goes to whichever variant its turn falls to
        request = json.loads(exchange.incoming.body)
        for name in _DELIVERY:
            request.pop(name, None)
        try:
            task = self._jobs.job(
                exchange.authorizer,
                cast(Route, exchange.operation.route),
                request,
                exchange.incoming.headers.get("idempotency-key"),
            )
        except ApiError:
            raise
        except Exception as failure:
            self._logger.failure("async_offload_failed", failure)
            return False
        line = MetricLine({metrics.DIM_ENDPOINT: self._endpoint_name})
        line.add({metrics.HANDED_OVER: (1, "Count")}, [[metrics.DIM_ENDPOINT]])
        line.emit(request_id=exchange.incoming.request_id)
        assert isinstance(error, ApiError)
        base = requests.SIGNED if exchange.incoming.principal else ""
        exchange.status, exchange.handed_over = 202, True
        exchange.headers |= {
            "content-type": "application/json",
            "location": f"{base}/v1/jobs/{task.id}",
            "retry-after": str(error.retry_after or _RETRY_AFTER_SECONDS),
        }
        exchange.body = iter([job_of(task, base).model_dump_json().encode()])
        return True


def _is_for_now(error: Exception) -> bool:
    """Full, asleep, starting, down or throttled: later it may well be answered."""
    if not isinstance(error, ApiError):
        return False
    return error.code == "throttled" or (
        error.type == "overloaded_error" and error.code != "guard_unavailable"
    )
