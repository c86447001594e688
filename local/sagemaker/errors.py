"""The errors a caller of the control plane or the data plane sees, in AWS's codes, words and statuses."""

from __future__ import annotations

import json
from typing import Any


class AwsApiError(Exception):
    """An error reply: `code` is AWS's error code, `fields` are further members of the error's shape."""

    def __init__(self, code: str, message: str, status: int = 400, **fields: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.fields = fields

    def json_body(self) -> bytes:
        """The body of the control plane's protocol (AWS JSON 1.1): the code stands in `__type`."""
        return json.dumps({"__type": self.code, "message": self.message}).encode()

    def rest_body(self) -> bytes:
        """The body of the runtime's protocol (REST JSON): the code travels in `x-amzn-ErrorType`."""
        return json.dumps({"Message": self.message, **self.fields}).encode()


def invalid(message: str) -> AwsApiError:
    """The control plane's answer to nearly everything that it refuses."""
    return AwsApiError("ValidationException", message)


def unavailable(message: str) -> AwsApiError:
    """The runtime's answer when nothing can take the request now; a later try may succeed."""
    return AwsApiError("ServiceUnavailable", message, 503)


def limit_exceeded(message: str) -> AwsApiError:
    """A quota of the account, or of this laptop, stands in the way."""
    return AwsApiError("ResourceLimitExceeded", message)


def unsupported(feature: str) -> AwsApiError:
    """What AWS would do and this emulator does not: refused rather than accepted without effect."""
    return invalid(f"The laptop cloud does not support {feature}.")
