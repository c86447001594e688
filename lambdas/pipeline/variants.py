"""Which variant answers? The same user gets the same one for as long as an experiment lasts.

The split is read from the routing item, never from the endpoint: no describe call on the request path.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from typing import Protocol

from contracts.access import SCOPE_CHOOSE_VARIANT
from contracts.routing import ROUTING_CACHE_SECONDS, Routing
from lambdas.pipeline.request import Exchange
from lambdas.runtime.errors import ApiError
from lambdas.runtime.logs import Logger

HEADER = "x-evergreen-variant"
_VARIANT_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")


class RoutingSource(Protocol):
    """Where the split in force is kept."""

    def read(self) -> Routing | None:
        """The routing item; None where there is none."""


class CachedRouting:
    """A source asked at most once in ROUTING_CACHE_SECONDS; while it fails, its last word stays in force."""

    def __init__(
        self, source: RoutingSource, logger: Logger, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._source = source
        self._logger = logger
        self._clock = clock
        self._routing: Routing | None = None
        self._fresh_until = float("-inf")

    def read(self) -> Routing | None:
        """The split in force, at most ROUTING_CACHE_SECONDS old unless the source fails."""
        if self._clock() >= self._fresh_until:
            try:
                self._routing = self._source.read()
            except Exception as error:
                self._logger.failure("routing_unavailable", error)
            self._fresh_until = self._clock() + ROUTING_CACHE_SECONDS
        return self._routing


class ChooseVariant:
    """Fills `exchange.routing` and, during an experiment, `exchange.variant`."""

    def __init__(self, routing: RoutingSource) -> None:
        self._routing = routing

    def apply(self, exchange: Exchange) -> None:
        """Outside an experiment the endpoint's own weights decide. Raises ApiError for a wrong choice."""
        routing = exchange.routing = self._routing.read()
        if HEADER in exchange.incoming.headers:
            exchange.variant = _callers_choice(exchange)
            exchange.variant_is_the_callers = True
            return
        if routing is None or routing.experiment is None:
            return
        caller = exchange.the_caller
        # Two tenants may use the same user id: they are different people.
        user = f"{caller.tenant}/{exchange.the_request.user or caller.subject or caller.key_name}"
        exchange.variant = assign(routing, user)


def _callers_choice(exchange: Exchange) -> str:
    """A variant by name, for comparing variants: only with a key made for it, or experiments mean nothing."""
    if SCOPE_CHOOSE_VARIANT not in exchange.the_caller.scopes:
        raise ApiError(
            "permission_error",
            f"Naming a variant takes a key with the scope '{SCOPE_CHOOSE_VARIANT}'.",
            code="insufficient_scope",
        )
    name = exchange.incoming.headers[HEADER]
    if not _VARIANT_NAME.fullmatch(name):
        raise ApiError("invalid_request_error", "There is no such variant.", code="unknown_variant")
    return name


def assign(routing: Routing, user: str) -> str | None:
    """The variant of a user: a point in [0, 1) that depends on (experiment, user) alone, cut by the weights.

    None when no variant has weight. Raising a variant's weight only moves users towards it from its
    neighbours in the list.
    """
    total = sum(route.weight for route in routing.variants)
    if total <= 0:
        return None
    digest = hashlib.sha256(f"{routing.experiment}\0{user}".encode()).digest()
    point = int.from_bytes(digest[:8]) / 2**64 * total
    for route in routing.variants:
        if point < route.weight:
            return route.name
        point -= route.weight
    return next(route.name for route in reversed(routing.variants) if route.weight > 0)
