"""Has this key anything left? Reserved before the model is asked, settled when the answer is over.

A request is charged with an estimate at once, in conditional writes, so parallel requests cannot all see
the same rest. Overspending is bounded by what single requests use beyond their estimates. What a process that
died had reserved stays charged until the day or month ends: the budget errs towards its limit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from contracts import metrics
from contracts.access import Principal
from contracts.embeddings import EmbeddingsRequest
from lambdas.aws.usage_ledger import Charge, QuotaExceededError, Spent
from lambdas.pipeline.limits import rate_limit_headers, refusal
from lambdas.pipeline.request import Exchange
from lambdas.runtime.logs import Logger
from lambdas.runtime.metrics import MetricLine

_BYTES_PER_TOKEN = 4
_ANSWER_ESTIMATE = 256


class Ledger(Protocol):
    """Where each key's days are kept. `day` is `YYYY-MM-DD`."""

    def reserve(self, caller: Principal, day: str, tokens: int, now: float) -> Spent:
        """Charge one request and these tokens, if they fit. `now`: seconds, epoch.

        Raises QuotaExceededError.
        """

    def settle(self, caller: Principal, day: str, charge: Charge) -> None:
        """Replace what was reserved by what was used."""


class ReserveBudget:
    """Fills `exchange.reserved_tokens`, `exchange.day` and the `x-ratelimit-…` headers of a limited key."""

    def __init__(
        self, ledger: Ledger, endpoint_name: str, logger: Logger, clock: Callable[[], float] = time.time
    ) -> None:
        self._ledger = ledger
        self._endpoint_name = endpoint_name
        self._logger = logger
        self._clock = clock

    def apply(self, exchange: Exchange) -> None:
        """Raises ApiError 429 naming the limit and when it resets.

        While the ledger cannot be asked requests pass unchecked, counted as such: the usage plan still holds.
        """
        caller = exchange.the_caller
        now = self._clock()
        exchange.day = time.strftime("%Y-%m-%d", time.gmtime(now))
        if not caller.is_limited:
            return
        # What a guard has refused costs nothing, but it was a request.
        tokens = 0 if exchange.is_answered else estimate(exchange)
        try:
            spent = self._ledger.reserve(caller, exchange.day, tokens, now)
        except QuotaExceededError as exhausted:
            exchange.headers.update(rate_limit_headers(caller, exhausted.spent, now, exhausted.limit))
            raise refusal(caller, exhausted, tokens, now) from None
        except Exception as error:
            self._logger.failure("budget_unchecked", error)
            line = MetricLine({metrics.DIM_ENDPOINT: self._endpoint_name})
            line.add({metrics.BUDGET_UNCHECKED: (1, "Count")}, [[metrics.DIM_ENDPOINT]])
            line.emit(request_id=exchange.incoming.request_id)
            return
        exchange.reserved_tokens = tokens
        exchange.reserved_nano_usd = spent.reserved_nano_usd
        exchange.headers.update(rate_limit_headers(caller, spent, now))


class SettleBudget:
    """Books what a request has used. Keys without limits are booked as well: they are billed by it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def apply(self, exchange: Exchange) -> None:
        """A request refused before it was reserved leaves no trace. Raises what the ledger raises."""
        caller, reserved = exchange.caller, exchange.reserved_tokens
        used_nothing = exchange.prompt_tokens is None and exchange.first_token_at is None
        if caller is None or not exchange.day or (reserved is None and used_nothing):
            return
        if exchange.cache_hit:  # a request like any other, but the model had no part in it
            self._ledger.settle(caller, exchange.day, Charge(0, 0, reserved))
            return
        charge = Charge(
            exchange.prompt_tokens or 0,
            # An answer that broke off told no usage: what was seen of it counts.
            exchange.completion_tokens if exchange.completion_tokens is not None else exchange.pieces,
            reserved,
            exchange.reserved_nano_usd,
            counts=not exchange.will_retry,
        )
        self._ledger.settle(caller, exchange.day, charge)


def estimate(exchange: Exchange) -> int:
    """Tokens a request will roughly use: by its size, and by its limit or a usual answer's length."""
    prompt = len(exchange.incoming.body) // _BYTES_PER_TOKEN
    if isinstance(exchange.request, EmbeddingsRequest):
        return prompt
    request = exchange.the_generation
    return prompt + request.answers * (request.token_limit or _ANSWER_ESTIMATE)
