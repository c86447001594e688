"""What happens once the reply has ended: the record is stored, the request counted. Nobody waits for it."""

from __future__ import annotations

from typing import Protocol

from contracts import metrics
from contracts.prices import Prices
from contracts.records import InferenceRecord
from lambdas.pipeline.request import STATUS_CLIENT_GONE, Exchange
from lambdas.runtime.logs import Logger
from lambdas.runtime.metrics import MetricLine, Unit

_UNKNOWN = "none"


class RecordSink(Protocol):
    """Where records are kept."""

    def store(self, record: InferenceRecord) -> None:
        """Keep one record for the time set. Raises when it could not be stored."""


class Record:
    """Stores the record of a request that was understood; others are counted only."""

    def __init__(self, sink: RecordSink, endpoint_name: str, prices: Prices, logger: Logger) -> None:
        self._sink = sink
        self._prices = prices
        self._endpoint_name = endpoint_name
        self._logger = logger

    def apply(self, exchange: Exchange) -> None:
        """A record that cannot be stored is logged and counted; the reply has long gone."""
        if exchange.request is None or exchange.caller is None:
            return
        try:
            self._sink.store(record_of(exchange, self._prices))
        except Exception as error:
            self._logger.failure("record_write_failed", error)
            line = MetricLine({metrics.DIM_ENDPOINT: self._endpoint_name})
            line.add({metrics.RECORDS_LOST: (1, "Count")}, [[metrics.DIM_ENDPOINT]])
            line.emit(request_id=exchange.incoming.request_id)


def record_of(exchange: Exchange, prices: Prices) -> InferenceRecord:
    """Counts, timings and cost of a request that was understood."""
    request, caller = exchange.the_request, exchange.the_caller
    tokens = (exchange.prompt_tokens or 0, exchange.completion_tokens or 0)
    return InferenceRecord(
        request_id=exchange.incoming.request_id,
        tenant=caller.tenant,
        user=request.user,
        received_at=exchange.incoming.received_at,
        model=request.model,
        model_version=exchange.model_version,
        variant=exchange.variant,
        streamed=exchange.streamed,
        status=exchange.status,
        error_type=error_type(exchange),
        finish_reason=exchange.finish_reason,
        prompt_tokens=exchange.prompt_tokens,
        completion_tokens=exchange.completion_tokens,
        time_to_first_token_ms=exchange.time_to_first_token_ms,
        duration_ms=exchange.duration_ms,
        findings=[str(finding) for finding in exchange.findings],
        guard_ms={guard: round(ms, 3) for guard, ms in exchange.guard_times.by_guard.items()},
        cached=exchange.cache_hit,
        cost_nano_usd=0 if exchange.cache_hit else prices.cost(*tokens),
    )


class PublishMetrics:
    """Writes one metric line and one log line per request."""

    def __init__(self, endpoint_name: str, default_version: str, logger: Logger) -> None:
        self._endpoint_name = endpoint_name
        self._default_version = default_version
        self._logger = logger

    def apply(self, exchange: Exchange) -> None:
        """Errors count as the service's where the status is 500 or above; by type all of them count."""
        line = MetricLine(
            {
                metrics.DIM_ENDPOINT: self._endpoint_name,
                metrics.DIM_VARIANT: exchange.variant or _UNKNOWN,
                metrics.DIM_MODEL_VERSION: exchange.model_version or self._default_version,
                metrics.DIM_ERROR_TYPE: error_type(exchange) or _UNKNOWN,
            }
        )
        by_variant = [
            [metrics.DIM_ENDPOINT],
            [metrics.DIM_ENDPOINT, metrics.DIM_VARIANT, metrics.DIM_MODEL_VERSION],
        ]
        line.add(_measurements(exchange), by_variant)
        error = exchange.error
        errors: dict[str, tuple[float, Unit]] = {metrics.ERRORS: (0 if error is None else 1, "Count")}
        if error is None or error.is_server_error:
            line.add(errors, by_variant)
        if error is not None:
            line.add(errors, [[metrics.DIM_ENDPOINT, metrics.DIM_ERROR_TYPE]])
        line.emit(request_id=exchange.incoming.request_id)
        self._publish_guards(exchange)
        self._logger.info(
            "request",
            status=exchange.status,
            error_type=error_type(exchange),
            error_code=error.code if error else None,
            variant=exchange.variant,
            model_version=exchange.model_version,
            finish_reason=exchange.finish_reason,
            findings=[str(finding) for finding in exchange.findings],
            duration_ms=round(exchange.duration_ms, 1),
        )

    def _publish_guards(self, exchange: Exchange) -> None:
        """The time each guard took, and how much it found, by itself."""
        for guard, milliseconds in exchange.guard_times.by_guard.items():
            found = sum(finding.guard == guard for finding in exchange.findings)
            line = MetricLine({metrics.DIM_ENDPOINT: self._endpoint_name, metrics.DIM_GUARD: guard})
            values: dict[str, tuple[float, Unit]] = {
                metrics.GUARD_DURATION: (milliseconds, "Milliseconds"),
                metrics.GUARD_FINDINGS: (found, "Count"),
            }
            line.add(values, [[metrics.DIM_ENDPOINT, metrics.DIM_GUARD]])
            line.emit(request_id=exchange.incoming.request_id)


def _measurements(exchange: Exchange) -> dict[str, tuple[float, Unit]]:
    """What there is to measure; a value that was never reached is left out rather than counted as zero."""
    values: dict[str, tuple[float | None, Unit]] = {
        metrics.REQUESTS: (1, "Count"),
        metrics.DURATION: (exchange.duration_ms, "Milliseconds"),
        metrics.TIME_TO_FIRST_TOKEN: (exchange.time_to_first_token_ms, "Milliseconds"),
        metrics.TIME_PER_OUTPUT_TOKEN: (exchange.time_per_output_token_ms, "Milliseconds"),
        # A kept answer tells the usage it once had; nothing is used again.
        metrics.INPUT_TOKENS: (None if exchange.cache_hit else exchange.prompt_tokens, "Count"),
        metrics.OUTPUT_TOKENS: (None if exchange.cache_hit else exchange.completion_tokens, "Count"),
    }
    return {name: (value, unit) for name, (value, unit) in values.items() if value is not None}


def error_type(exchange: Exchange) -> str | None:
    """The type of the error object sent, or `client_gone`; None for a request that ended well."""
    if exchange.error is not None:
        return exchange.error.type
    return "client_gone" if exchange.status == STATUS_CLIENT_GONE else None
