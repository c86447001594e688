"""Kept answers of `/v1/responses`: their own key may read and delete them, to any other there are none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from contracts.kept_response import KeptResponse
from contracts.response_objects import ModelResponse, ResponseDeleted
from lambdas.pipeline.job_submission import owner
from lambdas.runtime.errors import ApiError

_LONGEST_ID = 128


class ResponseRows(Protocol):
    """See `lambdas.aws.responses_table.ResponsesTable`."""

    def find(self, owner: str, id: str) -> KeptResponse | None: ...

    def remove(self, owner: str, id: str) -> None: ...


class StoredResponses:
    """The caller's kept answers."""

    def __init__(self, kept: ResponseRows) -> None:
        self._kept = kept

    def get(self, caller: Mapping[str, Any], id: str) -> ModelResponse:
        """An answer. Raises ApiError 404."""
        found = self._kept.find(owner(caller), id) if len(id) <= _LONGEST_ID else None
        if found is None:
            raise ApiError(
                "not_found_error",
                "There is no such answer, or none any more: it is kept for a time, for the key that asked.",
                code="response_not_found",
            )
        return found.response

    def delete(self, caller: Mapping[str, Any], id: str) -> ResponseDeleted:
        """Forget an answer, and the conversation up to it. Raises ApiError 404."""
        answer = self.get(caller, id)
        self._kept.remove(owner(caller), answer.id)
        return ResponseDeleted(id=answer.id)
