"""What a failed call to the model means to the caller. Pure: SageMaker's answer in, an `ApiError` out.

Source: SageMaker Runtime API reference, InvokeEndpointWithResponseStream, "Errors". A container's own error
comes as ModelError (424) with the true status and body inside; throttling can come as 400 without a message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from pydantic import ValidationError

from contracts.errors import ErrorReply, ErrorType, statuses_of
from lambdas.runtime.errors import ApiError

RETRY_AFTER_BUSY = 2
RETRY_AFTER_WAKING = 15
RETRY_AFTER_ASLEEP = 60
UPSTREAM_REFUSED = "upstream_refused"
_NO_COPY = "no capacity"  # "Inference Component has no capacity to process this request."
_THROTTLED = {"ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded"}
_UNAVAILABLE = {
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "InternalFailure",
    "InternalDependencyException",
}


@dataclass
class ModelCallError(Exception):
    """A call that failed. `retryable`: nothing was generated and another instance may well answer."""

    api_error: ApiError
    retryable: bool = False

    @property
    def is_outage(self) -> bool:
        """The endpoint was down or silent, rather than busy or unwilling."""
        return self.retryable or self.api_error.type == "timeout_error"


class VariantNotFoundError(Exception):
    """The endpoint has no variant of the name asked for (any more)."""


def from_service(
    code: str,
    http_status: int,
    message: str | None,
    original_status: int | None = None,
    original_message: str | None = None,
) -> ModelCallError:
    """The failure that an error reply of SageMaker Runtime stands for."""
    if code == "ModelError":
        return ModelCallError(from_container(original_status or 500, original_message or ""))
    if code == "ModelNotReadyException":
        return ModelCallError(unavailable("The model is starting. Try again shortly.", RETRY_AFTER_WAKING))
    if code in _THROTTLED or http_status == 429 or (http_status == 400 and not message):
        error = ApiError(
            "rate_limit_error", "Too many requests.", code="throttled", retry_after=RETRY_AFTER_BUSY
        )
        return ModelCallError(error)
    if code in _UNAVAILABLE or http_status >= 500:
        return ModelCallError(unavailable("The model is not available.", RETRY_AFTER_BUSY), retryable=True)
    if code in {"ValidationError", "ValidationException"}:
        if message and _NO_COPY in message.lower():
            # The call itself is what starts the first copy.
            return ModelCallError(
                unavailable("The model was asleep and is being started.", RETRY_AFTER_ASLEEP)
            )
        # The request was checked before: what SageMaker refuses now is an endpoint that is not there.
        return ModelCallError(unavailable("The model is not deployed.", RETRY_AFTER_WAKING))
    return ModelCallError(ApiError("server_error", "The call to the model failed.", code="model_call_failed"))


def from_container(status: int, body: str) -> ApiError:
    """The container's own error: taken over where it speaks our error object, else told by its status."""
    try:
        inside = ErrorReply.model_validate_json(body).error
    except ValidationError:
        inside = None
    if inside is None or inside.type not in get_args(ErrorType):
        return _by_status(status)
    kind: ErrorType = inside.type  # type: ignore[assignment]
    busy = kind in {"overloaded_error", "rate_limit_error"}
    return ApiError(
        kind,
        inside.message,
        param=inside.param,
        code=inside.code,
        # Any other would contradict the body, or the document that we publish.
        status=status if status in statuses_of(kind) else 0,
        retry_after=RETRY_AFTER_BUSY if busy else None,
    )


def connection_failed() -> ModelCallError:
    """No reply came, or the connection broke before one."""
    return ModelCallError(unavailable("The model cannot be reached.", RETRY_AFTER_BUSY), retryable=True)


def timed_out() -> ApiError:
    """The model was silent for too long."""
    return ApiError("timeout_error", "The model did not answer in time.", code="model_timeout")


def interrupted() -> ApiError:
    """The answer broke off."""
    return ApiError("server_error", "The answer broke off before its end.", code="stream_interrupted")


def garbage() -> ApiError:
    """The model's reply is not what the protocol says."""
    return ApiError("server_error", "The model sent an answer that cannot be read.", code="bad_model_answer")


def _by_status(status: int) -> ApiError:
    if status in (429, 503):
        return unavailable("The model is busy.", RETRY_AFTER_BUSY)
    if status in (408, 504):
        return timed_out()
    if 400 <= status < 500:
        kept = status if status in statuses_of("invalid_request_error") else 0
        return ApiError("invalid_request_error", "The model refused the request.", status=kept)
    return ApiError("server_error", "The model failed to answer.", code="model_error")


def unavailable(message: str, retry_after: int) -> ApiError:
    """The model cannot answer now and may later; `retry_after` is in seconds."""
    return ApiError("overloaded_error", message, code="model_unavailable", retry_after=retry_after)


def refused_by_model(message: str | None, param: str | None, code: str | None, status: int) -> ApiError:
    """A hosted model's refusal of the request itself, in its own words where it has any."""
    kept = status if status in statuses_of("invalid_request_error") else 0
    text = message or "The model refused the request."
    return ApiError("invalid_request_error", text, param=param, code=code or "refused_by_model", status=kept)


def misconfigured(what: str) -> ApiError:
    """A hosted model that this environment cannot call as it is set up: nothing that a caller can change."""
    return ApiError(
        "server_error",
        f"{what}. Your own key and request are fine: whoever runs this API has to change its catalogue.",
        code=UPSTREAM_REFUSED,
        status=502,
    )
