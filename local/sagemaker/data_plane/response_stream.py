"""A container's streamed reply as the service's event stream, forwarded piece by piece."""

from __future__ import annotations

import logging
from typing import Self

import httpx

from local.sagemaker.data_plane import event_stream
from local.sagemaker.data_plane.container_call import ContainerCall

log = logging.getLogger(__name__)


class ResponseStream:
    """Iterates over encoded events. Closing it early closes the container's connection.

    A class, not a generator: closing a generator that was never started would not run its clean-up.
    """

    def __init__(self, call: ContainerCall) -> None:
        self._call = call
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._ended:
            raise StopAsyncIteration
        try:
            chunk = await self._call.next_chunk()
        except TimeoutError:
            return await self._end_with("The model took too long to stream.", "ModelInvocationTimeExceeded")
        except httpx.HTTPError:
            return await self._end_with("The container closed the connection.", "StreamBroken")
        if chunk is None:
            self._ended = True
            await self._call.close()
            raise StopAsyncIteration
        return event_stream.payload_parts(chunk)

    async def aclose(self) -> None:
        """The caller left, or has read everything."""
        self._ended = True
        await self._call.close()

    async def _end_with(self, text: str, code: str) -> bytes:
        self._ended = True
        await self._call.close(model_error=True, broke_midstream=True)
        return event_stream.model_stream_error(text, code)
