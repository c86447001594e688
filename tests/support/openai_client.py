"""The official OpenAI client, whose requests the pipeline answers without a network between."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
from openai import OpenAI

from tests.support.front_door import AUTHORIZER, Door


class _Body(httpx.SyncByteStream):
    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces


class _PipelineTransport(httpx.BaseTransport):
    """Each request has an id of its own, as API Gateway gives it."""

    def __init__(self, door: Door, caller: Mapping[str, str]) -> None:
        self._door, self._caller = door, dict(caller)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        path, own = request.url.path, str(uuid.uuid4())
        reply = self._door.start(request.read(), route=path, request_id=own, headers={}, **self._caller)

        def pieces() -> Iterator[bytes]:
            yield from reply.body
            reply.after()

        return httpx.Response(reply.status, headers=dict(reply.headers), stream=_Body(pieces()))


def client_of(door: Door, caller: Mapping[str, str] = AUTHORIZER) -> OpenAI:
    """A client that asks as `caller`."""
    transport = _PipelineTransport(door, caller)
    http: Any = httpx.Client(transport=transport)
    return OpenAI(base_url="http://api.test/v1", api_key="eg-test", max_retries=0, http_client=http)
