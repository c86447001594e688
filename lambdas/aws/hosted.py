"""A model behind any URL that speaks the OpenAI API: a provider's, or a server of one's own.

The caller's user id and metadata stay here: the provider has no use for them. What the provider says of its
own keys and quotas stays here too: it is the operator's to know, not the caller's.
Sources: OpenAI API reference, "Errors"; RFC 9110, "Retry-After".
"""

from __future__ import annotations

import email.utils
import json
import time
import urllib.parse
from typing import Any

from contracts import container
from contracts.targets import OpenAITarget
from lambdas.aws import client as aws
from lambdas.aws import model_errors
from lambdas.aws.hosted_stream import HostedStream
from lambdas.aws.model_errors import ModelCallError
from lambdas.aws.sagemaker import SILENCE_TIMEOUT_SECONDS, ModelBytes
from lambdas.aws.secrets import CachedSecrets, SecretError
from lambdas.runtime.errors import ApiError

CONNECT_TIMEOUT_SECONDS = 5.0
LONGEST_RETRY_AFTER = 600
_PUBLIC_PREFIX = "/v1"
_NOT_PASSED_ON = ("user", "metadata")
_CALLERS_FAULT = {400, 413, 422}
_ROUTES_OF_STREAMS = {container.ROUTE_CHAT, container.ROUTE_COMPLETIONS}


class HostedModel:
    """One model at one URL. One attempt per call, and one more where a refused key has changed."""

    provider = "openai"  # as conventions of traces have it for whoever speaks this API

    def __init__(self, target: OpenAITarget, secrets: CachedSecrets) -> None:
        self._target = target
        self._secrets = secrets
        parts = urllib.parse.urlsplit(target.base_url)
        self._path = parts.path
        self._client = aws.HttpClient(target.base_url, CONNECT_TIMEOUT_SECONDS, SILENCE_TIMEOUT_SECONDS)

    def invoke(self, body: bytes, attributes: str, variant: str | None) -> ModelBytes | HostedStream:
        """Open a reply. Raises ModelCallError. `variant` means nothing here."""
        known = container.decode_attributes(attributes)
        route = known.get(container.ATTRIBUTE_ROUTE, container.ROUTE_CHAT)
        request = {**json.loads(body), "model": self._target.model}
        for name in _NOT_PASSED_ON:
            request.pop(name, None)
        content = json.dumps(request).encode()
        try:
            path = self._path + route.removeprefix(_PUBLIC_PREFIX)
            reply = self._authorized(path, content, container.trace_headers(known))
            if reply.status != 200:
                raise _refusal(reply)
        except aws.ReadTimeoutError as error:
            raise ModelCallError(model_errors.timed_out()) from error
        except (aws.ConnectionFailedError, aws.StreamInterruptedError) as error:
            raise model_errors.connection_failed() from error
        except SecretError as error:
            raise ModelCallError(
                model_errors.misconfigured("The secret of this model cannot be read")
            ) from error
        return HostedStream(reply) if route in _ROUTES_OF_STREAMS else ModelBytes(reply)

    def _authorized(self, path: str, content: bytes, trace: dict[str, str]) -> aws.Reply:
        name = self._target.secret
        if name is None:
            return self._send(path, content, trace, None)
        key = self._secrets.read(name)
        reply = self._send(path, content, trace, key)
        if reply.status != 401 or (newer := self._secrets.changed(name, key)) is None:
            return reply
        reply.close()
        return self._send(path, content, trace, newer)

    def _send(self, path: str, content: bytes, trace: dict[str, str], key: str | None) -> aws.Reply:
        headers = {
            "content-type": "application/json",
            "accept": "text/event-stream, application/json",
            **trace,
        }
        if key is not None:
            headers["authorization"] = f"Bearer {key}"
        return self._client.send("POST", path, headers, content)


def _refusal(reply: aws.Reply) -> ModelCallError:
    """What a reply with an error means to the caller."""
    detail = reply.json().get("error")
    fields = detail if isinstance(detail, dict) else {}
    message, param, code = (_text(fields.get(name)) for name in ("message", "param", "code"))
    status = reply.status
    if status in _CALLERS_FAULT:
        return ModelCallError(model_errors.refused_by_model(message, param, code, status))
    if status == 429 and code != "insufficient_quota":
        wait = retry_after(reply.header("retry-after")) or model_errors.RETRY_AFTER_BUSY
        text = "The provider of this model takes no more requests now."
        return ModelCallError(ApiError("rate_limit_error", text, code="throttled", retry_after=wait))
    if status in (408, 504):
        return ModelCallError(model_errors.timed_out(), retryable=True)
    if status >= 500:
        wait = retry_after(reply.header("retry-after")) or model_errors.RETRY_AFTER_BUSY
        return ModelCallError(model_errors.unavailable("The model is not available.", wait), retryable=True)
    if status in (401, 403):
        return ModelCallError(
            model_errors.misconfigured("The provider of this model refuses this API's own key")
        )
    if status == 404:
        return ModelCallError(model_errors.misconfigured("The provider does not know this model or route"))
    return ModelCallError(model_errors.misconfigured("The provider of this model refuses to serve this API"))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def retry_after(text: str | None) -> int | None:
    """The seconds of a `Retry-After`, a number or a date, bounded; None where it cannot be read."""
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    if seconds != seconds:  # not a number
        return None
    return int(min(max(seconds + 0.999, 1), LONGEST_RETRY_AFTER))
