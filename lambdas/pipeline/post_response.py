"""What happens once the reply has ended: the record is stored, the request counted. Nobody waits for it."""

from __future__ import annotations

from typing import Protocol

from contracts import metrics
from contracts.catalogue import ModelEntry
from contracts.records import InferenceRecord
from contracts.usage import Prices
from lambdas.pipeline.model_parts import Models
from lambdas.pipeline.request import Request, Response
from lambdas.runtime.logs import Logger
from lambdas.runtime.metrics import MetricLine, Unit

_UNKNOWN = "none"


class RecordSink(Protocol):
    """Where records are kept."""

    def store(self, record: InferenceRecord) -> None:
        """Keep one record for the time set. Raises when it could not be stored."""


class StoreRecord:
    """Stores the record of a request that was understood; others are counted only."""

    def __init__(self, sink: RecordSink, endpoint_name: str, models: Models, logger: Logger) -> None:
        self._sink = sink
        self._models = models
        self._endpoint_name = endpoint_name
        self._logger = logger

    def __call__(self, request: Request, response: Response) -> None:
        """A record that cannot be stored is logged and counted; the reply has long gone."""
        try:
            self._sink.store(record_of(request, response, self._models.parts(request.entry).prices))
        except Exception as error:  # noqa: BLE001 - the reply has gone
            self._logger.failure("record_write_failed", error)
            line = MetricLine({metrics.DIM_ENDPOINT: self._endpoint_name})
            line.add({metrics.RECORDS_LOST: (1, "Count")}, [[metrics.DIM_ENDPOINT]])
            line.emit(request_id=request.incoming.request_id)


def record_of(request: Request, response: Response, prices: Prices) -> InferenceRecord:
    """Counts, timings and cost of a request that was understood."""
    tokens = (response.prompt_tokens or 0, response.completion_tokens or 0)
    return InferenceRecord(
        request_id=request.incoming.request_id,
        tenant=request.principal.tenant,
        user=request.body.user,
        received_at=request.incoming.received_at,
        model=request.body.model,
        model_version=response.model_version,
        variant=response.variant,
        streamed=request.streamed,
        status=response.status,
        error_type=response.error_type,
        finish_reason=response.finish_reason,
        prompt_tokens=response.prompt_tokens,
        completion_tokens=response.completion_tokens,
        time_to_first_token_ms=response.time_to_first_token_ms,
        duration_ms=response.duration_ms,
        findings=[str(finding) for finding in response.guards.findings],
        guard_ms={guard: round(ms, 3) for guard, ms in response.guards.times.by_guard.items()},
        cached=response.is_cached,
        cost_nano_usd=0 if response.is_cached else prices.cost(*tokens),
    )


class PublishMetrics:
    """Writes one metric line and one log line per request."""

    def __init__(self, endpoint_name: str, default_version: str, logger: Logger) -> None:
        self._endpoint_name = endpoint_name
        self._default_version = default_version
        self._logger = logger

    def __call__(self, request_id: str, response: Response, entry: ModelEntry | None = None) -> None:
        """Errors count as the service's where the status is 500 or above; by type all of them count.

        A request counts under its model's endpoint, one without a model under the environment's.
        """
        endpoint = self._endpoint_name if entry is None else entry.measured_as
        model = None if entry is None else entry.name
        default_version = self._default_version if entry is None else entry.target.model_version
        line = MetricLine(
            {
                metrics.DIM_ENDPOINT: endpoint,
                metrics.DIM_VARIANT: response.variant or _UNKNOWN,
                metrics.DIM_MODEL_VERSION: response.model_version or default_version,
                metrics.DIM_ERROR_TYPE: response.error_type or _UNKNOWN,
            }
        )
        by_variant = [
            [metrics.DIM_ENDPOINT],
            [metrics.DIM_ENDPOINT, metrics.DIM_VARIANT, metrics.DIM_MODEL_VERSION],
        ]
        line.add(_measurements(response), by_variant)
        error = response.error
        errors: dict[str, tuple[float, Unit]] = {metrics.ERRORS: (0 if error is None else 1, "Count")}
        if error is None or error.is_server_error:
            line.add(errors, by_variant)
        if error is not None:
            line.add(errors, [[metrics.DIM_ENDPOINT, metrics.DIM_ERROR_TYPE]])
        line.emit(request_id=request_id, model=model)
        self._publish_guards(request_id, response, endpoint)
        self._logger.info(
            "request",
            status=response.status,
            error_type=response.error_type,
            error_code=error.code if error else None,
            model=model,
            variant=response.variant,
            model_version=response.model_version,
            finish_reason=response.finish_reason,
            findings=[str(finding) for finding in response.guards.findings],
            duration_ms=round(response.duration_ms, 1),
        )

    def _publish_guards(self, request_id: str, response: Response, endpoint: str) -> None:
        """The time each guard took, and how much it found, by itself."""
        for guard, milliseconds in response.guards.times.by_guard.items():
            found = sum(finding.guard == guard for finding in response.guards.findings)
            line = MetricLine({metrics.DIM_ENDPOINT: endpoint, metrics.DIM_GUARD: guard})
            values: dict[str, tuple[float, Unit]] = {
                metrics.GUARD_DURATION: (milliseconds, "Milliseconds"),
                metrics.GUARD_FINDINGS: (found, "Count"),
            }
            line.add(values, [[metrics.DIM_ENDPOINT, metrics.DIM_GUARD]])
            line.emit(request_id=request_id)


def _measurements(response: Response) -> dict[str, tuple[float, Unit]]:
    """What there is to measure; a value that was never reached is left out rather than counted as zero."""
    values: dict[str, tuple[float | None, Unit]] = {
        metrics.REQUESTS: (1, "Count"),
        metrics.DURATION: (response.duration_ms, "Milliseconds"),
        metrics.TIME_TO_FIRST_TOKEN: (response.time_to_first_token_ms, "Milliseconds"),
        metrics.TIME_PER_OUTPUT_TOKEN: (response.time_per_output_token_ms, "Milliseconds"),
        # A kept answer tells the usage it once had; nothing is used again.
        metrics.INPUT_TOKENS: (None if response.is_cached else response.prompt_tokens, "Count"),
        metrics.OUTPUT_TOKENS: (None if response.is_cached else response.completion_tokens, "Count"),
    }
    return {name: (value, unit) for name, (value, unit) in values.items() if value is not None}
