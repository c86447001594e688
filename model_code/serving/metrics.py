"""Metrics of the server in Prometheus' format, named after OpenTelemetry's conventions for generative AI.

The convention's version and its names stand in `contracts.metrics`. Dots become underscores and the unit a
suffix, as OpenTelemetry's Prometheus mapping has it; times are in seconds here.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from contracts import metrics as names
from model_code.serving.engines.base import EngineStats

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536)


class Metrics:
    """All series of one server, on a registry of its own."""

    def __init__(self, model: str) -> None:
        self._registry = CollectorRegistry()
        self._labels = {"gen_ai_request_model": model}
        self.duration = self._histogram(_seconds(names.DURATION), "Time to answer.", _SECONDS)
        self.first_token = self._histogram(
            _seconds(names.TIME_TO_FIRST_TOKEN), "Time to the first token, queueing included.", _SECONDS
        )
        self.per_token = self._histogram(
            _seconds(names.TIME_PER_OUTPUT_TOKEN), "Mean time of a token after the first.", _SECONDS
        )
        usage = self._histogram(_flat(names.TOKEN_USAGE), "Tokens per request.", _TOKENS, "gen_ai_token_type")
        self.input_tokens = usage.labels(*self._labels.values(), "input")
        self.output_tokens = usage.labels(*self._labels.values(), "output")
        self._requests = self._counter("evergreen_requests", "Requests by HTTP status.", "status")
        self._rejected = self._counter("evergreen_rejections", "Requests refused for lack of room.", "reason")
        self._cancelled = self._counter("evergreen_cancellations", "Requests whose client went away.")
        self._released = self._counter("evergreen_memory_releases", "Times that memory was given back.")
        self._gauges = {
            name: self._gauge(f"evergreen_{name}", text)
            for name, text in {
                "queued_requests": "Requests that wait for a slot.",
                "queued_tokens": "Tokens that the waiting requests may come to hold.",
                "running_requests": "Answers being computed.",
                "slots": "Answers that may be computed at once; fewer than set after memory ran out.",
                "batch_size": "Requests that the engine's last step computed.",
                "engine_steps": "Forward passes since the start.",
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

    def count_release(self) -> None:
        """Count that an idle engine has given memory back."""
        self._released.inc()

    def render(
        self, stats: EngineStats, *, queued: int, queued_tokens: int, running: int, slots: int
    ) -> bytes:
        """The text of `/metrics` with the load at this moment."""
        values: dict[str, float] = {
            "queued_requests": queued,
            "queued_tokens": queued_tokens,
            "running_requests": running,
            "slots": slots,
            "batch_size": stats.batch,
            "engine_steps": stats.steps,
            "cache_use_ratio": stats.cache_use,
        }
        for name, value in values.items():
            self._gauges[name].set(value)
        return generate_latest(self._registry)


def _flat(name: str) -> str:
    return name.replace(".", "_")


def _seconds(name: str) -> str:
    return f"{_flat(name)}_seconds"
