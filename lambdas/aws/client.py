"""A small client for the calls on the request path: kept-alive connections, requests signed for AWS.

The SDK would do, but importing botocore and building two clients takes as long as all the rest of a cold
start together, and a call through it costs three times the processor time. What is left out is left out on
purpose: credentials and region come from the environment Lambda sets, there is no pagination, no query
string, no FIPS endpoint. Functions off the request path and commands use boto3. `bench/gateway/imports.py`
measures what the import costs.
"""

from __future__ import annotations

import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic_core import from_json

from lambdas.aws.signing import Credentials, CredentialScope, sign
from lambdas.runtime import environment
from lambdas.runtime.http_connection import HttpConnection, HttpProtocolError

if TYPE_CHECKING:
    import ssl

_MAX_IDLE_CONNECTIONS = 8
_PORTS = {"http": 80, "https": 443}


class ConnectionFailedError(Exception):
    """No reply came: no connection, or it broke before the first byte of one."""


class ReadTimeoutError(Exception):
    """A reply was due and nothing came within the time set."""


class StreamInterruptedError(Exception):
    """A reply began and broke off."""


class Reply:
    """An open reply. Read it to its end or close it; only then may its connection serve the next request."""

    def __init__(self, client: HttpClient, connection: HttpConnection) -> None:
        self._client = client
        self._connection = connection
        self._response = connection.response()
        self.status = self._response.status

    def header(self, name: str) -> str | None:
        """A header by its name in any case."""
        return self._response.headers.get(name.lower())

    def __iter__(self) -> Iterator[bytes]:
        """The body's bytes as they come. Raises ReadTimeoutError or StreamInterruptedError."""
        try:
            yield from self._response.pieces()
        except TimeoutError as error:
            self.close()
            raise ReadTimeoutError from error
        except (OSError, HttpProtocolError) as error:
            self.close()
            raise StreamInterruptedError from error
        self._client.take_back(self._connection)

    def read(self) -> bytes:
        """The whole body. Raises ReadTimeoutError or StreamInterruptedError."""
        return b"".join(self)

    def json(self) -> dict[str, Any]:
        """The whole body, parsed; empty where it is not an object. Raises as `read` does."""
        body = self.read()
        try:
            parsed = from_json(body)
        except ValueError:
            return {}
        return parsed if isinstance(parsed, dict) else {}

    def close(self) -> None:
        """Drop the connection, unless the reply has been read to its end."""
        if not self._response.is_read:
            self._connection.close()


class HttpClient:
    """One host, over kept-alive connections. `url` is its scheme and host; more of it is left out.

    `connect_timeout` and `read_timeout` (between bytes) are in seconds.
    """

    def __init__(self, url: str, connect_timeout: float, read_timeout: float) -> None:
        parts = urllib.parse.urlsplit(url)
        self._secure = parts.scheme == "https"
        self._host = parts.netloc
        self._address = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._idle: list[HttpConnection] = []
        self._tls: ssl.SSLContext | None = None

    def send(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """The reply to a request, whatever its status.

        Raises ConnectionFailedError or ReadTimeoutError.
        """
        connection = self._connect()
        try:
            connection.request(method, path, {**headers, "host": self._host}, body)
            return Reply(self, connection)
        except TimeoutError as error:
            connection.close()
            raise ReadTimeoutError from error
        except (OSError, HttpProtocolError) as error:
            connection.close()
            raise ConnectionFailedError from error

    def take_back(self, connection: HttpConnection) -> None:
        """Keep a connection whose reply has been read to its end."""
        if connection.is_open and len(self._idle) < _MAX_IDLE_CONNECTIONS:
            self._idle.append(connection)

    def _connect(self) -> HttpConnection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_stale:
                return connection
            connection.close()
        host, port = self._address
        connection = HttpConnection(
            host,
            port,
            connect_timeout=self._connect_timeout,
            read_timeout=self._read_timeout,
            tls=self._tls_context() if self._secure else None,
        )
        try:
            connection.connect()
        except OSError as error:
            raise ConnectionFailedError from error
        return connection

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            import ssl

            self._tls = ssl.create_default_context(cafile=environment.optional("AWS_CA_BUNDLE"))
        return self._tls


class Client(HttpClient):
    """One service in one region, this function's unless told otherwise; requests are signed.

    `connect_timeout` and `read_timeout` (between bytes) are in seconds.
    """

    def __init__(
        self,
        service: str,
        host_prefix: str,
        signing_name: str,
        connect_timeout: float,
        read_timeout: float,
        region: str | None = None,
    ) -> None:
        region = region or environment.optional("AWS_REGION") or environment.required("AWS_DEFAULT_REGION")
        super().__init__(_endpoint(service, host_prefix, region), connect_timeout, read_timeout)
        self._scope = CredentialScope(region, signing_name)

    def send(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """The reply to a signed request, whatever its status. Raises as HttpClient does."""
        with_host = {**headers, "host": self._host}
        signed = sign(method, path, with_host, body, _credentials(), self._scope, time.time())
        return super().send(method, path, signed, body)


def _endpoint(service: str, host_prefix: str, region: str) -> str:
    """Where a service is: as the SDKs have it, an environment variable first."""
    variable = "AWS_ENDPOINT_URL_" + service.upper().replace("-", "_")
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return (
        environment.optional(variable)
        or environment.optional("AWS_ENDPOINT_URL")
        or f"https://{host_prefix}.{region}.{suffix}"
    )


def _credentials() -> Credentials:
    """As Lambda sets them; read for each request, since a local runtime may renew them."""
    return Credentials(
        environment.required("AWS_ACCESS_KEY_ID"),
        environment.required("AWS_SECRET_ACCESS_KEY"),
        environment.optional("AWS_SESSION_TOKEN"),
    )


ATTEMPTS = 3
PAUSE_SECONDS = 0.05

A = TypeVar("A")


def with_retries(
    attempt: Callable[[], A],
    is_transient: Callable[[Exception], bool],
    *,
    attempts: int = ATTEMPTS,
) -> A:
    """What `attempt` returns; it is repeated with growing pauses while what it raises is transient.

    Raises what the last attempt raises, and at once what is not transient.
    """
    for number in range(1, attempts + 1):
        try:
            return attempt()
        except Exception as error:
            if number == attempts or not is_transient(error):
                raise
        time.sleep(PAUSE_SECONDS * 2 ** (number - 1))
    raise AssertionError("the last attempt returns or raises")
