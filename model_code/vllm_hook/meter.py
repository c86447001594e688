"""The hook's own series, added to the wrapped server's `/metrics` under the names that our server has too."""

from __future__ import annotations

import re
import time

from model_code.serving.metrics import Metrics

_CACHE_USE = re.compile(rb"^vllm:kv_cache_usage_perc(?:\{[^}]*\})? (\S+)$", re.MULTILINE)


class Meter:
    """Counts and times of what passed through."""

    def __init__(self, model: str) -> None:
        self._metrics = Metrics(model)

    def count_rejection(self, reason: str) -> None:
        """Count a request that found no room."""
        self._metrics.count_rejection(reason)

    def count_cancellation(self) -> None:
        """Count a request whose client went away."""
        self._metrics.count_cancellation()

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
        now, metrics = time.perf_counter(), self._metrics
        metrics.count_request(status)
        metrics.duration.observe(now - began)
        if first is not None:
            metrics.first_token.observe(first - began)
        if prompt_tokens is not None:
            metrics.input_tokens.observe(prompt_tokens)
        if completion_tokens is not None:
            metrics.output_tokens.observe(completion_tokens)
            if first is not None and completion_tokens > 1:
                metrics.per_token.observe((now - first) / (completion_tokens - 1))

    def added_to(self, text: bytes, *, queued: int, running: int) -> bytes:
        """The wrapped server's metrics and ours in one text."""
        found = _CACHE_USE.search(text)
        cache_use = float(found.group(1)) if found else 0.0
        ours = self._metrics.render(queued=queued, running=running, cache_use=cache_use)
        return text + (b"" if text.endswith(b"\n") or not text else b"\n") + ours
