"""What AWS and its SDK refuse, as one sentence that says what to do next.

An operator reads these instead of a traceback. Knows nothing of a single command.
"""

from __future__ import annotations

from botocore import exceptions as sdk
from botocore.exceptions import BotoCoreError, ClientError

_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
_UNKNOWN_KEYS = {
    "AuthFailure",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError", "403"}
"""The caller lacks a right."""
_THROTTLED = {"Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException"}
_CLOCK = {"RequestTimeTooSkewed", "RequestInTheFuture"}
_SIGN_IN = "sign in (`aws sso login`, or set AWS_PROFILE or AWS_ACCESS_KEY_ID) and run the command again"
_RENEW = (
    "renew them (`aws sso login`, or new session keys) and run the command again: it goes on where it ended"
)

_MISSING = (
    sdk.NoCredentialsError,
    sdk.PartialCredentialsError,
    sdk.CredentialRetrievalError,
)
_SIGNED_OUT = (sdk.SSOError, sdk.TokenRetrievalError)
_OFFLINE = (
    sdk.EndpointConnectionError,
    sdk.ConnectTimeoutError,
    sdk.ConnectionClosedError,
    sdk.HTTPClientError,
    sdk.ProxyConnectionError,
)


def explain(error: BotoCoreError | ClientError) -> str:
    """One sentence with the cause and the next step, for any failure of a call to AWS."""
    if isinstance(error, ClientError):
        return _refused(error)
    if isinstance(error, sdk.ProfileNotFound):
        return f"{_flat(error)}: set AWS_PROFILE to a profile of ~/.aws/config."
    if isinstance(error, _SIGNED_OUT):
        return f"The sign-in of the AWS credentials has expired: {_RENEW}."
    if isinstance(error, _MISSING):
        return f"There are no AWS credentials: {_SIGN_IN}."
    if isinstance(error, sdk.NoRegionError):
        return "No AWS region is known: name one in the settings file, `environment.region`."
    if isinstance(error, _OFFLINE):
        return f"AWS cannot be reached ({_flat(error)}): check the network, proxy and region, and try again."
    return f"The AWS SDK failed: {_flat(error)}."


def code_of(error: ClientError) -> str:
    """The service's own name of the error."""
    return str(error.response.get("Error", {}).get("Code", ""))


def message_of(error: ClientError) -> str:
    """The service's own words, on one line, without a full stop at the end."""
    text = str(error.response.get("Error", {}).get("Message") or code_of(error))
    return " ".join(text.split()).rstrip(".")


def _refused(error: ClientError) -> str:
    code, action = code_of(error), error.operation_name
    if code in _EXPIRED:
        return f"The AWS credentials have expired: {_RENEW}."
    if code in _UNKNOWN_KEYS:
        return (
            f"AWS does not accept these credentials ({code}): check AWS_PROFILE and the keys, and that the "
            "account has the region switched on."
        )
    if code in DENIED:
        return f"These credentials may not do this: {message_of(error)} (at {action}); ask for that right."
    if code in _CLOCK:
        return "This machine's clock is wrong, so AWS refuses its signatures: set it and try again."
    if code in _THROTTLED:
        return f"AWS asks to slow down ({action}: {message_of(error)}): wait a minute and try again."
    return f"{action} failed: {message_of(error)} ({code})."


def _flat(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
