"""The fallback chain: targets in order, the next one asked only while those before it cannot answer.

Falling back happens before the first event of an answer or not at all. A request that is wrong is wrong
everywhere, so only what another endpoint could do better leads on. But a fallback that knows no tools, say,
refuses what the endpoint itself would take: its refusal is not the caller's to hear.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from contracts.chat import ChatRequest
from contracts.fallback import FALLBACK_VARIANT
from lambdas.pipeline.model_calls import ModelStream
from lambdas.pipeline.operations import ModelRequest
from lambdas.pipeline.request import Admission, Response, Route
from lambdas.runtime.errors import ApiError
from lambdas.runtime.logs import Logger

A = TypeVar("A")


class Calls(Protocol):
    """Calls to one endpoint, or to a chain of them."""

    def open(self, admission: Admission, response: Response, read: Callable[[ModelStream], A]) -> A:
        """What `read` makes of an open reply. Raises ApiError."""


@dataclass(frozen=True)
class FallbackTarget:
    """One more target; `name` is for the log."""

    name: str
    calls: Calls


class FallbackChain:
    """Calls to the endpoint itself, then to the targets."""

    def __init__(self, first: Calls, targets: Sequence[FallbackTarget], logger: Logger) -> None:
        self._first = first
        self._targets = targets
        self._logger = logger

    def open(self, admission: Admission, response: Response, read: Callable[[ModelStream], A]) -> A:
        """See Calls.open. The error raised in the end is the first endpoint's: it is the one asked for."""
        try:
            return self._first.open(admission, response, read)
        except ApiError as error:
            if admission.route.is_callers_choice or not _worth_falling_back(error):
                raise
            first_error = error
        as_asked = response.variant, response.model_version
        elsewhere = replace(admission, route=Route())
        for target in self._targets:
            try:
                answer = target.calls.open(elsewhere, response, read)
            except ApiError as error:
                is_request_at_fault = not error.is_server_error and not _worth_falling_back(error)
                if is_request_at_fault and not _needs_more_than_text(admission.body):
                    raise
                # What is wrong with a fallback is nothing that the caller could change.
                self._logger.warning("fallback_failed", to=target.name, error_code=error.code)
                continue
            response.variant = FALLBACK_VARIANT
            self._logger.warning("fallback_used", to=target.name, after=first_error.code)
            return answer
        response.variant, response.model_version = as_asked
        raise first_error


def _needs_more_than_text(body: ModelRequest) -> bool:
    """Whether the request asks for what not every model can do."""
    return isinstance(body, ChatRequest) and bool(
        body.tools or body.response_format or body.logprobs or body.answers > 1
    )


def _worth_falling_back(error: ApiError) -> bool:
    """Full, starting, down, silent or throttled: another endpoint may be none of these."""
    return error.type in {"overloaded_error", "timeout_error"} or error.code == "throttled"
