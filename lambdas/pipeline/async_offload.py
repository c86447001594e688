"""Makes a job of a request that the model has no room for, where its caller asked for that.

Asked for by the request header `Prefer: respond-async` (RFC 7240). The reply is then 202 with the job and not
503; with `wait=N` also where the model has not begun to answer within N seconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol, cast, get_args

from contracts import metrics
from contracts.jobs import Route as JobRoute
from contracts.tasks import Task
from lambdas.pipeline.job_submission import job_of
from lambdas.pipeline.preferences import Preferences
from lambdas.pipeline.request import Request, Response, Route
from lambdas.runtime.errors import ApiError
from lambdas.runtime.http_event import SIGNED
from lambdas.runtime.logs import Logger
from lambdas.runtime.metrics import MetricLine

_DELIVERY = ("stream", "stream_options")
_RETRY_AFTER_SECONDS = 15


class Jobs(Protocol):
    """Who makes jobs; see `lambdas.pipeline.job_submission.Submissions`."""

    def job(
        self,
        authorizer: Mapping[str, Any],
        route: JobRoute,
        body: Mapping[str, Any],
        idempotency_key: str | None = None,
    ) -> Task: ...


class AsyncOffload:
    """Asked when a request fails before its answer has begun."""

    def __init__(self, jobs: Jobs, endpoint_name: str, logger: Logger) -> None:
        self._jobs, self._endpoint_name, self._logger = jobs, endpoint_name, logger

    def __call__(self, request: Request, route: Route, error: Exception, response: Response) -> bytes | None:
        """The body of the reply where the request is a job now, and status and headers; else None.

        Where no job can be made the caller gets the failure that led here. Raises ApiError where the job is
        refused: too many are open, or the idempotency key was used before.
        """
        preferences = Preferences.of(request.incoming)
        if not preferences.respond_async or not isinstance(error, ApiError):
            return None
        has_waited = preferences.wait is not None and error.type == "timeout_error"
        if not (has_waited or _is_for_now(error)):
            return None
        if route.is_callers_choice:
            return None  # a job goes to whichever variant its turn falls to
        if request.operation.route not in get_args(JobRoute):
            return None
        body = json.loads(request.incoming.body)
        for name in _DELIVERY:
            body.pop(name, None)
        try:
            task = self._jobs.job(
                request.context,
                cast(JobRoute, request.operation.route),
                body,
                request.incoming.headers.get("idempotency-key"),
            )
        except ApiError:
            raise
        except Exception as failure:  # noqa: BLE001 - the caller gets the first failure
            self._logger.failure("async_offload_failed", failure)
            return None
        line = MetricLine({metrics.DIM_ENDPOINT: self._endpoint_name})
        line.add({metrics.HANDED_OVER: (1, "Count")}, [[metrics.DIM_ENDPOINT]])
        line.emit(request_id=request.incoming.request_id)
        base = SIGNED if request.incoming.principal else ""
        response.status, response.is_offloaded = 202, True
        response.headers |= {
            "content-type": "application/json",
            "location": f"{base}/v1/jobs/{task.id}",
            "preference-applied": preferences.applied,
            "retry-after": str(error.retry_after or _RETRY_AFTER_SECONDS),
        }
        return job_of(task, base).model_dump_json().encode()


def _is_for_now(error: ApiError) -> bool:
    """Full, asleep, starting, down or throttled: later it may well be answered."""
    return error.code == "throttled" or (
        error.type == "overloaded_error" and error.code != "guard_unavailable"
    )
