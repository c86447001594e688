"""How long the caller is willing to wait: the model is told, and stops when nobody waits any more."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from lambdas.pipeline.request import Exchange
from lambdas.runtime.errors import ApiError

HEADER = "x-request-timeout"
LONGEST_SECONDS = 900.0


class Patience:
    """Fills `exchange.patience_ends_at` (milliseconds since the epoch) from the header, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock

    def apply(self, exchange: Exchange) -> None:
        """Raises ApiError 400 for what is no number of seconds between 0 and LONGEST_SECONDS."""
        text = exchange.incoming.headers.get(HEADER)
        if text is None:
            return
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        if not 0 < seconds <= LONGEST_SECONDS:
            raise ApiError(
                "invalid_request_error",
                f"The header {HEADER} must hold seconds, above 0 and up to {LONGEST_SECONDS:.0f}.",
                param=HEADER,
                code="invalid_value",
            )
        exchange.patience_ends_at = int(exchange.incoming.received_at * 1000 + seconds * 1000)
