"""Runs a request through the stages and hands the reply to the runtime.

Knows the order of things and what happens when one fails; what is done stands in the stages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from lambdas.pipeline import sse
from lambdas.pipeline.request import Exchange
from lambdas.runtime.errors import ApiError, to_api_error
from lambdas.runtime.logs import Logger
from lambdas.runtime.streaming import StreamingReply


class Stage(Protocol):
    """One step on the way to the answer. Raises ApiError to end the request with that error."""

    def apply(self, exchange: Exchange) -> None:
        """Read and write the exchange; a stage that works on the answer wraps `exchange.chunks`."""


class Rescue(Protocol):
    """What may still be done for a request whose answer could not begin."""

    def takes(self, exchange: Exchange, error: Exception) -> bool:
        """Whether there is another reply than the error, then in the exchange. May raise ApiError."""


class Pipeline:
    """`stages` lead to the answer, up to the first error; `post_response` run once the reply has ended."""

    def __init__(
        self,
        stages: Sequence[Stage],
        post_response: Sequence[Stage],
        logger: Logger,
        rescue: Rescue | None = None,
    ) -> None:
        self._rescue = rescue
        self._stages = stages
        self._afterwards = post_response
        self._logger = logger

    def answer(self, exchange: Exchange) -> StreamingReply:
        """The reply to a request. Never raises: whatever fails becomes the error object."""
        try:
            for stage in self._stages:
                stage.apply(exchange)
        except Exception as error:
            try:
                rescued = self._rescue is not None and self._rescue.takes(exchange, error)
            except ApiError as refusal:
                return self._refuse(exchange, self._note(exchange, refusal))
            if not rescued:
                return self._refuse(exchange, self._note(exchange, error))
        return self._reply(exchange, exchange.headers, self._deliver(exchange))

    def _refuse(self, exchange: Exchange, error: ApiError) -> StreamingReply:
        return self._reply(exchange, {**exchange.headers, **error.headers}, iter([error.body.encode()]))

    def _reply(self, exchange: Exchange, headers: dict[str, str], body: Iterator[bytes]) -> StreamingReply:
        named = {**headers, "x-request-id": exchange.incoming.request_id}
        if exchange.variant:
            named["x-evergreen-variant"] = exchange.variant
        return StreamingReply(exchange.status, named, body, after=lambda: self._finish(exchange))

    def _deliver(self, exchange: Exchange) -> Iterator[bytes]:
        """The answer's pieces; after the first one an error can only become an event on the stream."""
        try:
            yield from exchange.body
        except Exception as error:
            yield sse.event(self._note(exchange, error).body)
        exchange.ended = True

    def _note(self, exchange: Exchange, error: Exception) -> ApiError:
        api_error = to_api_error(error)
        exchange.fail(api_error)
        if api_error is not error and api_error.is_server_error:
            self._logger.failure("unhandled_exception", error)
        return api_error

    def _finish(self, exchange: Exchange) -> None:
        exchange.ended_at = exchange.clock()
        if exchange.error is None and not exchange.ended:
            # The runtime asked for no more pieces: whoever was to receive them has gone.
            exchange.abandon()
        for stage in (_Release(), *self._afterwards):
            try:
                stage.apply(exchange)
            except Exception as error:
                self._logger.failure("post_response_task_failed", error, stage=type(stage).__name__)


class _Release:
    """Lets go of the model's stream, so that a model whose caller has left stops generating."""

    def apply(self, exchange: Exchange) -> None:
        exchange.release()
