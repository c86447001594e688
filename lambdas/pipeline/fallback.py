"""The fallback chain: targets in order, the next one asked only while those before it cannot answer.

Falling back happens before the first event of an answer or not at all. A request that is wrong is wrong
everywhere, so only what another endpoint could do better leads on. But a stand-in that knows no tools, say,
refuses what the endpoint itself would take: its refusal is not the caller's to hear.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from contracts.chat import ChatRequest
from contracts.fallback import FALLBACK_VARIANT
from lambdas.pipeline.model_calls import ModelStream
from lambdas.pipeline.request import Exchange
from lambdas.runtime.errors import ApiError
from lambdas.runtime.logs import Logger

A = TypeVar("A")


class Calls(Protocol):
    """Calls to one endpoint, or to a chain of them."""

    def open(self, exchange: Exchange, read: Callable[[ModelStream], A]) -> A:
        """What `read` makes of an open reply. Raises ApiError."""


@dataclass(frozen=True)
class FallbackTarget:
    """One more target; `name` is for the log."""

    name: str
    calls: Calls


class FallbackChain:
    """Calls to the endpoint itself, then along the links."""

    def __init__(self, first: Calls, links: Sequence[FallbackTarget], logger: Logger) -> None:
        self._first = first
        self._links = links
        self._logger = logger

    def open(self, exchange: Exchange, read: Callable[[ModelStream], A]) -> A:
        """See Calls.open. The error raised in the end is the first endpoint's: it is the one asked for."""
        try:
            return self._first.open(exchange, read)
        except ApiError as error:
            if exchange.variant_is_the_callers or not _worth_falling_back(error):
                raise
            first_error = error
        as_asked = exchange.variant, exchange.routing, exchange.model_version
        for link in self._links:
            exchange.variant, exchange.routing = None, None
            try:
                answer = link.calls.open(exchange, read)
            except ApiError as error:
                if (
                    not error.is_server_error
                    and not _worth_falling_back(error)
                    and not _not_everybodys(exchange)
                ):
                    raise
                # What is wrong with a stand-in is nothing that the caller could change.
                self._logger.warning("fallback_failed", to=link.name, error_code=error.code)
                continue
            exchange.variant = FALLBACK_VARIANT
            self._logger.warning("fallback_used", to=link.name, after=first_error.code)
            return answer
        exchange.variant, exchange.routing, exchange.model_version = as_asked
        raise first_error


def _not_everybodys(exchange: Exchange) -> bool:
    """Whether the request asks for what not every model can do."""
    request = exchange.request
    return isinstance(request, ChatRequest) and bool(
        request.tools or request.response_format or request.logprobs or request.answers > 1
    )


def _worth_falling_back(error: ApiError) -> bool:
    """Full, starting, down, silent or throttled: another endpoint may be none of these."""
    return error.type in {"overloaded_error", "timeout_error"} or error.code == "throttled"
