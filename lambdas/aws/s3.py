"""Objects of one bucket; encryption is the bucket's own default."""

from __future__ import annotations

import hashlib
import urllib.parse
from collections.abc import Iterator

from lambdas.aws import client as aws
from lambdas.aws.client import ATTEMPTS, with_retries


class StoreError(Exception):
    """S3 or SQS did not do what was asked; holds the status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class ObjectNotFoundError(StoreError):
    """There is no such object."""


class Bucket:
    """A bucket by name. `attempts`: how often a call is made at most; timeouts are in seconds."""

    def __init__(
        self, name: str, *, attempts: int = ATTEMPTS, connect_timeout: float = 2, read_timeout: float = 20
    ) -> None:
        self._name = name
        self._attempts = attempts
        self._client = aws.Client("s3", "s3", "s3", connect_timeout, read_timeout)

    def put(self, key: str, body: bytes) -> None:
        """Store JSON Lines as an object. Raises StoreError, or what the client raises."""
        self._open("PUT", key, body).read()

    def get(self, key: str) -> bytes:
        """A whole object. Raises StoreError, ObjectNotFoundError, or what the client raises."""
        return self._open("GET", key).read()

    def stream(self, key: str) -> Iterator[bytes]:
        """An object piece by piece; it has been found when this returns. Raises as `get` does."""
        return iter(self._open("GET", key))

    def delete(self, key: str) -> None:
        """Delete an object; one that is not there is no error. Raises StoreError."""
        self._open("DELETE", key).read()

    def _open(self, method: str, key: str, body: bytes = b"") -> aws.Reply:
        path = urllib.parse.quote(f"/{self._name}/{key}", safe="/-_.~")
        headers = {"x-amz-content-sha256": hashlib.sha256(body).hexdigest()}
        if method == "PUT":
            headers["content-type"] = "application/x-ndjson"

        def attempt() -> aws.Reply:
            reply = self._client.send(method, path, headers, body)
            if reply.status < 300:
                return reply
            reply.read()  # the reason in XML; read, so that the connection can be used again
            raise ObjectNotFoundError(404) if reply.status == 404 else StoreError(reply.status)

        # All three operations may be done twice without harm.
        return with_retries(attempt, is_transient, attempts=self._attempts)


def is_transient(error: Exception) -> bool:
    """No reply came, or a server error: the call may be repeated where doing it twice does no harm."""
    if isinstance(error, StoreError):
        return error.status >= 500
    return isinstance(error, aws.ConnectionFailedError | aws.ReadTimeoutError)
