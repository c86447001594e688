"""AWS Secrets Manager: the keys by which hosted models are called. What is read is never logged.

Source: AWS Secrets Manager API reference, "GetSecretValue".
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from lambdas.aws import client as aws

API_KEY_FIELD = "api_key"
_REFRESH_SECONDS = 30.0
"""A secret that was read so lately is not read again: a key that is simply wrong must not cost calls."""


class SecretError(Exception):
    """A secret cannot be read, or holds no key; the text says why, never what it holds."""


class SecretSource(Protocol):
    """Where secrets are kept."""

    def read(self, name: str) -> str:
        """The key in a secret, by the secret's name or ARN. Raises SecretError."""


class SecretsManager:
    """The service itself."""

    def __init__(self) -> None:
        self._client = aws.Client("secretsmanager", "secretsmanager", "secretsmanager", 1, 5)

    def read(self, name: str) -> str:
        """See SecretSource.read."""
        try:
            reply = aws.with_retries(lambda: self._attempt(name), _is_transient)
        except (aws.ConnectionFailedError, aws.ReadTimeoutError, aws.StreamInterruptedError) as error:
            raise SecretError(type(error).__name__) from None
        return _key(reply)

    def _attempt(self, name: str) -> str:
        headers = {
            "content-type": "application/x-amz-json-1.1",
            "x-amz-target": "secretsmanager.GetSecretValue",
        }
        reply = self._client.send("POST", "/", headers, json.dumps({"SecretId": name}).encode())
        answer = reply.json()
        if reply.status != 200:
            raise SecretError(str(answer.get("__type", reply.status)).rpartition("#")[2])
        text = answer.get("SecretString")
        if not isinstance(text, str):
            raise SecretError("the secret holds no text")
        return text


def _is_transient(error: Exception) -> bool:
    return isinstance(error, aws.ConnectionFailedError | aws.ReadTimeoutError) or (
        isinstance(error, SecretError) and error.args[0] in {"InternalServiceError", "ThrottlingException"}
    )


def _key(text: str) -> str:
    """The secret's text, or its field `api_key` where it is a JSON object. Raises SecretError."""
    key = text.strip()
    if key.startswith("{"):
        try:
            found = json.loads(key).get(API_KEY_FIELD)
        except ValueError:
            raise SecretError("the secret is no valid JSON") from None
        if not isinstance(found, str):
            raise SecretError(f"the secret has no field '{API_KEY_FIELD}'")
        key = found.strip()
    if not key or not key.isascii() or not key.isprintable():
        raise SecretError("the secret holds nothing that can stand in a header")
    return key


@dataclass(frozen=True)
class _Kept:
    key: str
    read_at: float


class CachedSecrets:
    """Secrets read once per process, and again where one no longer opens what it should."""

    def __init__(self, source: SecretSource, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._clock = clock
        self._kept: dict[str, _Kept] = {}

    def read(self, name: str) -> str:
        """See SecretSource.read."""
        if (kept := self._kept.get(name)) is None:
            kept = self._kept[name] = _Kept(self._source.read(name), self._clock())
        return kept.key

    def changed(self, name: str, refused: str) -> str | None:
        """The key after `refused` was turned away; None where it is the same, or was read just now.

        Raises SecretError.
        """
        kept = self._kept.get(name)
        if kept is not None and kept.key == refused:
            if self._clock() - kept.read_at < _REFRESH_SECONDS:
                return None
            kept = self._kept[name] = _Kept(self._source.read(name), self._clock())
        key = self.read(name)
        return None if key == refused else key
