"""How anything that goes wrong becomes the one error object callers see. The only place that decides it.

Raise `ApiError` where the cause is known; `to_api_error` turns every other exception into one.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from contracts.errors import STATUS_OF_TYPE, ErrorType, error_body
from contracts.request_errors import first_fault


@dataclass
class ApiError(Exception):
    """A failure with everything its reply needs. `message` goes to the caller: never put secrets into it.

    `status` overrides the type's own status (413 is still an `invalid_request_error`); `retry_after` is in
    seconds and becomes the header of that name.
    """

    type: ErrorType
    message: str
    param: str | None = None
    code: str | None = None
    status: int = 0
    retry_after: int | None = None

    def __post_init__(self) -> None:
        super().__init__(self.type, self.code)
        self.status = self.status or STATUS_OF_TYPE[self.type]

    @property
    def body(self) -> str:
        """The JSON text of the reply or of the in-band error event."""
        return error_body(self.type, self.message, param=self.param, code=self.code)

    @property
    def headers(self) -> dict[str, str]:
        """Content type, and `retry-after` where waiting helps."""
        headers = {"content-type": "application/json"}
        if self.retry_after is not None:
            headers["retry-after"] = str(self.retry_after)
        return headers

    @property
    def is_server_error(self) -> bool:
        """True when the service failed, false when the caller has to change something."""
        return self.status >= 500


def to_api_error(error: Exception) -> ApiError:
    """The `ApiError` that stands for any exception; an unforeseen one says nothing of its inside."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ValidationError):
        fault = first_fault(error)
        return ApiError("invalid_request_error", fault.message, param=fault.param, code=fault.code)
    return ApiError("server_error", "The server failed to answer. The failure has been logged.")
