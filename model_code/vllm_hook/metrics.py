"""The hook's own series, added to the wrapped server's `/metrics` under the names that our server has too.

OpenTelemetry's names for generative AI: dots become underscores and the unit a suffix, times are in seconds.
"""

from __future__ import annotations

import re
import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_CACHE_USE = re.compile(rb"^vllm:kv_cache_usage_perc(?:\{[^}]*\})? (\S+)$", re.MULTILINE)
_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536)
_MODEL = "gen_ai_request_model"


class HookMetrics:
    """Counts and times of what passed through."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._registry = CollectorRegistry()
        self._duration = self._times("gen_ai_server_request_duration", "Time to answer.")
        self._first = self._times(
            "gen_ai_server_time_to_first_token", "Time to the first token, queue included."
        )
        self._step = self._times(
            "gen_ai_server_time_per_output_token", "Mean time of a token after the first."
        )
        self._usage = Histogram(
            "gen_ai_client_token_usage",
            "Tokens per request.",
            [_MODEL, "gen_ai_token_type"],
            buckets=_TOKENS,
            registry=self._registry,
        )
        self._requests = self._counter("evergreen_requests", "Requests by HTTP status.", "status")
        self._rejected = self._counter("evergreen_rejections", "Requests refused for lack of room.", "reason")
        self._cancelled = self._counter("evergreen_cancellations", "Requests whose client went away.")
        self._queued = self._gauge("evergreen_queued_requests", "Requests that wait for a slot.")
        self._running = self._gauge("evergreen_running_requests", "Requests being computed.")
        self._cache = self._gauge("evergreen_cache_use_ratio", "Share of the key-value cache in use, 0 to 1.")
        self._cancelled.labels(model)  # a series that is not there yet reads as none, not as zero

    def _times(self, name: str, text: str) -> Histogram:
        histogram = Histogram(f"{name}_seconds", text, [_MODEL], buckets=_SECONDS, registry=self._registry)
        return histogram.labels(self._model)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, [_MODEL, *labels], registry=self._registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, [_MODEL], registry=self._registry).labels(self._model)

    def count_rejection(self, reason: str) -> None:
        """Count a request that found no room."""
        self._rejected.labels(self._model, reason).inc()

    def count_cancellation(self) -> None:
        """Count a request whose client went away."""
        self._cancelled.labels(self._model).inc()

    def observe(
        self,
        *,
        status: int,
        began: float,
        first: float | None,
        prompt_tokens: int | None,
        completion_tokens: int | None,
    ) -> None:
        """Count an answered request; times are readings of `time.perf_counter()`."""
        now = time.perf_counter()
        self._requests.labels(self._model, str(status)).inc()
        self._duration.observe(now - began)
        if first is not None:
            self._first.observe(first - began)
        if prompt_tokens is not None:
            self._usage.labels(self._model, "input").observe(prompt_tokens)
        if completion_tokens is not None:
            self._usage.labels(self._model, "output").observe(completion_tokens)
            if first is not None and completion_tokens > 1:
                self._step.observe((now - first) / (completion_tokens - 1))

    def append_to(self, text: bytes, *, queued: int, running: int) -> bytes:
        """The wrapped server's metrics and ours in one text."""
        found = _CACHE_USE.search(text)
        self._cache.set(float(found.group(1)) if found else 0.0)
        self._queued.set(queued)
        self._running.set(running)
        return text + (b"" if text.endswith(b"\n") or not text else b"\n") + generate_latest(self._registry)
