"""One request in one container: opened, read piece by piece, closed exactly once.

While it is open its instance counts it as outstanding; closing it publishes its metrics. Knows HTTP to the
container and the service's errors about it; knows nothing of routing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import httpx

from local.sagemaker.errors import AwsApiError, unavailable
from local.sagemaker.instances.instance import CONNECT_TIMEOUT, EndpointInstance
from local.sagemaker.instances.metrics import MetricBuffer
from local.sagemaker.instances.pool import VariantPool
from local.sagemaker.store import Identity

WHOLE_SECONDS = 60.0
STREAM_SECONDS = 480.0
MAX_REPLY_BYTES = 25 * 1024 * 1024
MAX_ERROR_BYTES = 64 * 1024
NO_REPLY_STATUS = 503  # as which a call without any reply is counted
_TIMED_OUT = (
    "Your invocation timed out while waiting for a response from container primary. Review the latency "
    "metrics for each container in Amazon CloudWatch, resolve the issue, and try again."
)


@dataclass(frozen=True)
class ContainerRequest:
    """What a container is sent: `headers` is all that it sees of the caller's."""

    endpoint: str
    headers: Mapping[str, str]
    body: bytes
    streamed: bool
    seconds: float | None = None  # until it must be over; the service's own limit unless given


class ContainerUnreachableError(Exception):
    """The container took no connection, so the request may be given to another instance."""


class ContainerCall:
    """A request under way."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        metric_buffer: MetricBuffer,
        identity: Identity,
        pool: VariantPool,
        instance: EndpointInstance,
        request: ContainerRequest,
        received: float,
    ) -> None:
        """Count the request as outstanding on its instance; `open` sends it.

        Args:
            client: Sends the request.
            metric_buffer: Gets the call's metrics when it is closed.
            identity: The account and region that errors name.
            pool: The instance's pool.
            instance: Takes the request.
            request: What the container is sent.
            received: When the service got the request, in seconds of `time.perf_counter`.
        """
        self.request = request
        self._pool = pool
        self._client = client
        self._metric_buffer = metric_buffer
        self._identity = identity
        self._instance = instance
        self._received = received
        self._fleet_size = len(pool.instances)
        self._sent = time.perf_counter()
        self._first_chunk: float | None = None
        self._limit = request.seconds or (STREAM_SECONDS if request.streamed else WHOLE_SECONDS)
        self._deadline = asyncio.get_running_loop().time() + self._limit
        self._response: httpx.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None
        self._open = True
        instance.begin_request()

    @property
    def status(self) -> int:
        """The container's HTTP status."""
        return self._reply.status_code

    def header(self, name: str) -> str | None:
        """A header of the container's reply."""
        value: str | None = self._reply.headers.get(name)
        return value

    @property
    def _reply(self) -> httpx.Response:
        if self._response is None:
            raise RuntimeError("the call is not open")
        return self._response

    async def open(self) -> None:
        """Send the request and return when the reply's head is there. The call is closed when this raises.

        Raises:
            ContainerUnreachableError: the container took no connection.
            AwsApiError: the container closed the connection or took too long.
        """
        timeout = httpx.Timeout(None, connect=CONNECT_TIMEOUT)
        outgoing = httpx.Request(
            "POST",
            f"{self._instance.url}/invocations",
            headers=dict(self.request.headers),
            content=self.request.body,
            extensions={"timeout": timeout.as_dict()},
        )
        try:
            async with asyncio.timeout_at(self._deadline):
                if delay := self._pool.faults.delay(self._pool.location):
                    await asyncio.sleep(delay)
                if status := self._pool.faults.error(self._pool.location):
                    self._response = httpx.Response(status, stream=httpx.ByteStream(b"a fault was asked for"))
                else:
                    self._response = await self._client.send(outgoing, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            self._instance.mark_unreachable()
            self._release()
            raise ContainerUnreachableError(str(error)) from error
        except TimeoutError as error:
            await self.close(model_error=True)
            raise self._broken(error) from error
        except httpx.HTTPError as error:
            # Nothing of an answer was there yet: like an instance that is gone, not like a model's error.
            self._instance.mark_unreachable()
            await self.close(model_error=True)
            raise unavailable("The container closed the connection before it answered.") from error
        except asyncio.CancelledError:
            await self.close()
            raise
        self._chunks = self._response.aiter_raw()

    async def read_whole(self) -> bytes:
        """The rest of the reply; closes the call. Raises AwsApiError like `open`."""
        pieces, size = [], 0
        limit = MAX_REPLY_BYTES if self.status < 400 else MAX_ERROR_BYTES
        failed = True
        try:
            while (chunk := await self.next_chunk()) is not None:
                size += len(chunk)
                if size > limit and self.status < 400:
                    raise self.model_error(0, f"The reply is larger than {MAX_REPLY_BYTES} bytes.")
                if size > limit:
                    break
                pieces.append(chunk)
            failed = not 200 <= self.status < 300
            return b"".join(pieces)
        except (httpx.HTTPError, TimeoutError) as error:
            raise self._broken(error) from error
        finally:
            await self.close(model_error=failed)

    async def next_chunk(self) -> bytes | None:
        """The next piece as it arrived, None at the end. Raises httpx.HTTPError or TimeoutError."""
        if self._chunks is None:
            raise RuntimeError("the call is not open")
        async with asyncio.timeout_at(self._deadline):
            chunk = await anext(self._chunks, None)
        if chunk is not None and self._first_chunk is None:
            self._first_chunk = time.perf_counter()
        return chunk

    async def close(self, *, model_error: bool = False, broke_midstream: bool = False) -> None:
        """End the call; a container that is still answering sees its connection closed. Idempotent."""
        if not self._open:
            return
        self._release()
        self._publish(model_error, broke_midstream)
        if self._response is not None:
            await self._response.aclose()

    def model_error(self, status: int, text: str) -> AwsApiError:
        """The service's ModelError about a reply of the container (status 0: there was none)."""
        identity, group = self._identity, self._pool.location.log_group
        side = "client" if 400 <= status < 500 else "server"
        message = (
            f'Received {side} error ({status}) from primary with message "{text}". See '
            f"https://{identity.region}.console.aws.amazon.com/cloudwatch/home?region={identity.region}"
            f"#logEventViewer:group={group} in account {identity.account} for more information."
        )
        return AwsApiError(
            "ModelError",
            message,
            424,
            OriginalStatusCode=status,
            OriginalMessage=text,
            LogStreamArn=f"arn:aws:logs:{identity.region}:{identity.account}:log-group:{group}",
        )

    def _broken(self, error: Exception) -> AwsApiError:
        timed_out = isinstance(error, TimeoutError)
        return self.model_error(0, _TIMED_OUT if timed_out else "The container closed the connection.")

    def _release(self) -> None:
        self._open = False
        self._instance.end_request()

    def _publish(self, model_error: bool, broke_midstream: bool) -> None:
        now = time.perf_counter()
        status = self._response.status_code if self._response is not None else NO_REPLY_STATUS
        values = {
            "Invocations": 1.0,
            "InvocationsPerInstance": 1.0 / max(1, self._fleet_size),
            "Invocation4XXErrors": float(400 <= status < 500),
            "Invocation5XXErrors": float(status >= 500),
            "InvocationModelErrors": float(model_error),
            "ModelLatency": _microseconds(now - self._sent),
            "OverheadLatency": _microseconds(self._sent - self._received),
        }
        if self.request.streamed:
            values["MidStreamErrors"] = float(broke_midstream)
            if self._first_chunk is not None:
                values["FirstChunkLatency"] = _microseconds(self._first_chunk - self._received)
                values["FirstChunkModelLatency"] = _microseconds(self._first_chunk - self._sent)
        self._metric_buffer.record(self._pool.location, values)


def _microseconds(seconds: float) -> float:
    return round(seconds * 1e6)
