"""Metrics of the server in Prometheus' format, named after OpenTelemetry's conventions for generative AI.

Convention version 1.38: `gen_ai.server.*` histograms in seconds, `gen_ai.client.token.usage` in tokens; dots
become underscores and the unit a suffix, as OpenTelemetry's Prometheus mapping has it.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536)


class Metrics:
    """All series of one server, on a registry of its own."""

    def __init__(self, model: str) -> None:
        self._registry = CollectorRegistry()
        self._labels = {"gen_ai_request_model": model}
        self.duration = self._histogram("gen_ai_server_request_duration_seconds", "Time to answer.", _SECONDS)
        self.first_token = self._histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "Time to the first token, queueing included.",
            _SECONDS,
        )
        self.per_token = self._histogram(
            "gen_ai_server_time_per_output_token_seconds", "Mean time of a token after the first.", _SECONDS
        )
        usage = self._histogram(
            "gen_ai_client_token_usage", "Tokens per request.", _TOKENS, "gen_ai_token_type"
        )
        self.input_tokens = usage.labels(*self._labels.values(), "input")
        self.output_tokens = usage.labels(*self._labels.values(), "output")
        self._requests = self._counter("evergreen_requests", "Requests by HTTP status.", "status")
        self._rejected = self._counter("evergreen_rejections", "Requests refused for lack of room.", "reason")
        self._cancelled = self._counter("evergreen_cancellations", "Requests whose client went away.")
        self._gauges = {
            name: self._gauge(f"evergreen_{name}", text)
            for name, text in {
                "queued_requests": "Requests that wait for a slot.",
                "running_requests": "Requests being computed.",
                "cache_use_ratio": "Share of the key-value cache in use, 0 to 1.",
            }.items()
        }

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *extra: str) -> Histogram:
        histogram = Histogram(name, text, [*self._labels, *extra], buckets=buckets, registry=self._registry)
        return histogram if extra else histogram.labels(**self._labels)

    def _counter(self, name: str, text: str, *extra: str) -> Counter:
        counter = Counter(name, text, [*self._labels, *extra], registry=self._registry)
        return counter if extra else counter.labels(**self._labels)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, list(self._labels), registry=self._registry).labels(**self._labels)

    def count_request(self, status: int) -> None:
        """Count an answered request."""
        self._requests.labels(**self._labels, status=str(status)).inc()

    def count_rejection(self, reason: str) -> None:
        """Count a request that found no room."""
        self._rejected.labels(**self._labels, reason=reason).inc()

    def count_cancellation(self) -> None:
        """Count a request whose client went away."""
        self._cancelled.inc()

    def render(self, *, queued: int, running: int, cache_use: float) -> bytes:
        """The text of `/metrics` with the load at this moment."""
        self._gauges["queued_requests"].set(queued)
        self._gauges["running_requests"].set(running)
        self._gauges["cache_use_ratio"].set(cache_use)
        return generate_latest(self._registry)
