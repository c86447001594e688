"""How anything that goes wrong becomes the one error object callers see. The only place that decides it.

Raise `ApiError` where the cause is known; `to_api_error` turns every other exception into one.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from contracts.errors import STATUS_OF_TYPE, ErrorType, error_body


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
        return _from_validation(error.errors(include_url=False, include_context=False)[0])
    return ApiError("server_error", "The server failed to answer. The failure has been logged.")


def _from_validation(detail: ErrorDetails) -> ApiError:
    if detail["type"] == "json_invalid":
        return ApiError("invalid_request_error", "The body is not valid JSON.", code="invalid_json")
    param = _param(detail["loc"])
    if detail["type"] == "extra_forbidden":
        return ApiError(
            "invalid_request_error", f"Unknown field: {param}.", param=param, code="unknown_parameter"
        )
    if detail["type"] == "missing":
        return ApiError(
            "invalid_request_error",
            f"Missing field: {param}.",
            param=param,
            code="missing_parameter",
        )
    message = detail["msg"].removeprefix("Value error, ")
    where = f"Invalid value for {param}: " if param else "Invalid body: "
    return ApiError("invalid_request_error", where + message, param=param, code="invalid_value")


def _param(location: tuple[int | str, ...]) -> str | None:
    """`messages.0.content` for a pydantic location, without the names of union members."""
    names = [str(part) for part in location if isinstance(part, int) or not _is_union_member(part)]
    return ".".join(names) or None


def _is_union_member(part: str) -> bool:
    return part in {"str", "int", "float", "bool"} or "[" in part or part[:1].isupper()
