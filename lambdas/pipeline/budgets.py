"""Has this key anything left? Reserved before the model is asked, settled when the answer is over.

A request is charged with an estimate at once, in conditional writes, so parallel requests cannot all see
the same rest. Overspending is bounded by what single requests use beyond their estimates. What a process that
died had reserved stays charged until the day or month ends: the budget errs towards its limit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from contracts import metrics
from contracts.access import Principal
from contracts.chat import ChatRequest
from contracts.texts import TextsRequest
from lambdas.aws.usage_ledger import Billed, Charge, PriceUnknownError, QuotaExceededError, Spent
from lambdas.pipeline.limits import rate_limit_headers, refusal
from lambdas.pipeline.model_parts import Models
from lambdas.pipeline.operations import ModelRequest
from lambdas.pipeline.request import Admission, Request, Response
from lambdas.runtime.errors import ApiError
from lambdas.runtime.logs import Logger
from lambdas.runtime.metrics import MetricLine

_BYTES_PER_TOKEN = 4
_ANSWER_ESTIMATE = 256
_IMAGE_ESTIMATE = 1_000


class Ledger(Protocol):
    """Where each key's days are kept. `day` is `YYYY-MM-DD`."""

    def reserve(self, caller: Principal, day: str, tokens: int, billed: Billed, now: float) -> Spent:
        """Charge one request and these tokens of a model, if they fit. `now`: seconds, epoch.

        Raises QuotaExceededError, and PriceUnknownError for a budget in dollars without a price.
        """

    def settle(self, caller: Principal, day: str, charge: Charge, billed: Billed) -> None:
        """Replace what was reserved by what was used."""


@dataclass(frozen=True)
class Reservation:
    """What was charged before the model is asked: tokens of the day, billionths of a dollar of the month."""

    tokens: int
    nano_usd: int = 0


class ReserveBudget:
    """Admission → Reservation, and the `x-ratelimit-…` headers of a limited key."""

    def __init__(
        self,
        ledger: Ledger,
        models: Models,
        endpoint_name: str,
        logger: Logger,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._models = models
        self._endpoint_name = endpoint_name
        self._logger = logger
        self._clock = clock

    def day(self) -> str:
        """The day (UTC) on which a request is booked now."""
        return time.strftime("%Y-%m-%d", time.gmtime(self._clock()))

    def __call__(self, admission: Admission, day: str, response: Response) -> Reservation | None:
        """None where there is no limit. Raises ApiError 429 naming the limit and when it resets, and 403 for
        a budget in dollars where the model has no price.

        While the ledger cannot be asked requests pass unchecked, counted as such: the usage plan still holds.
        """
        request = admission.request
        principal, now = request.principal, self._clock()
        if not principal.is_limited and request.entry.name not in principal.model_budgets:
            return None
        # What is refused or given again costs nothing, but it was a request.
        tokens = estimate(len(request.incoming.body), admission.body) if response.from_model else 0
        try:
            spent = self._ledger.reserve(principal, day, tokens, billed(request, self._models), now)
        except QuotaExceededError as exceeded:
            if exceeded.model is None:  # the headers tell of the key's own limits
                response.headers.update(rate_limit_headers(principal, exceeded.spent, now, exceeded.limit))
            raise refusal(principal, exceeded, tokens, now) from None
        except PriceUnknownError:
            raise ApiError(
                "permission_error",
                "This key has a budget in US dollars, but the model has no price to count it by. Whoever "
                "runs this API has to set the model's token prices, or to give the key a budget in tokens.",
                code="budget_without_price",
            ) from None
        except Exception as error:  # noqa: BLE001 - without the ledger requests pass
            self._logger.failure("budget_unchecked", error)
            line = MetricLine({metrics.DIM_ENDPOINT: self._endpoint_name})
            line.add({metrics.BUDGET_UNCHECKED: (1, "Count")}, [[metrics.DIM_ENDPOINT]])
            line.emit(request_id=request.incoming.request_id)
            return None
        response.headers.update(rate_limit_headers(principal, spent, now))
        return Reservation(tokens, spent.reserved_nano_usd)


class SettleBudget:
    """Books what a request has used. Keys without limits are booked as well: they are billed by it."""

    def __init__(self, ledger: Ledger, models: Models) -> None:
        self._ledger = ledger
        self._models = models

    def __call__(
        self, request: Request, day: str, reservation: Reservation | None, response: Response
    ) -> None:
        """A request that failed before anything was reserved leaves no trace, nor does one that became a job;
        one that guards refused is a request. Raises what the ledger raises."""
        used_nothing = response.prompt_tokens is None and response.first_token_at is None
        if reservation is None and used_nothing and (response.error is not None or response.is_offloaded):
            return
        reserved = reservation.tokens if reservation else None
        to = billed(request, self._models)
        if response.is_cached:  # a request like any other, but the model had no part in it
            self._ledger.settle(request.principal, day, Charge(0, 0, reserved), to)
            return
        charge = Charge(
            response.prompt_tokens or 0,
            # An answer that broke off told no usage: what was seen of it counts.
            response.completion_tokens if response.completion_tokens is not None else response.pieces,
            reserved,
            reservation.nano_usd if reservation else 0,
            # The same request may be asked once more later, and counts then.
            counts=not (response.is_offloaded or request.incoming.will_retry(response.status)),
        )
        self._ledger.settle(request.principal, day, charge, to)


def billed(request: Request, models: Models) -> Billed:
    """What a request is charged for."""
    return Billed(request.entry.name, models.parts(request.entry).prices)


def estimate(body_bytes: int, body: ModelRequest) -> int:
    """Tokens a request will roughly use: by its size, and by its limit or a usual answer's length.

    A request may be longer than its body: what it only refers to is read as well.
    """
    if isinstance(body, ChatRequest):
        images = body.images.values()  # their bytes are many, and no measure of what they are read as
        body_bytes = max(body_bytes - sum(map(len, images)), body.characters)
        body_bytes += len(images) * _IMAGE_ESTIMATE * _BYTES_PER_TOKEN
    prompt = body_bytes // _BYTES_PER_TOKEN
    if isinstance(body, TextsRequest):
        return max(prompt, body.characters // _BYTES_PER_TOKEN)
    return prompt + body.answers * (body.token_limit or _ANSWER_ESTIMATE)
