"""More clients than slots, and clients that vanish: everybody who stays is answered, nothing leaks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.model_server import ENGINES, ServerProcess, chat
from tests.support.peers import HOOKED_PARAMS
from tests.support.waiting import until

CLIENTS = 500
SLOTS = 50
SECONDS = 300.0


@pytest.fixture(scope="module", params=[*ENGINES, *HOOKED_PARAMS])
def crowded(request: pytest.FixtureRequest, tiny_model: Path) -> Iterator[ServerProcess]:
    """A server with fifty slots and room for all others to wait."""
    with ServerProcess(
        tiny_model,
        EVERGREEN_ENGINE=request.param,
        EVERGREEN_MAX_RUNNING_REQUESTS=str(SLOTS),
        EVERGREEN_MAX_QUEUED_REQUESTS=str(CLIENTS),
    ) as process:
        yield process.wait_ready()


def connect(server: ServerProcess) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None)
    return httpx.AsyncClient(base_url=server.url, timeout=SECONDS, limits=limits)


def test_every_one_of_many_clients_is_answered(crowded: ServerProcess) -> None:
    async def scenario() -> list[httpx.Response]:
        async with connect(crowded) as client:
            requests = [client.post("/invocations", json=chat(max_tokens=6)) for _ in range(CLIENTS)]
            pings = [client.get("/ping") for _ in range(5)]
            return await asyncio.gather(*requests, *pings)

    replies = asyncio.run(scenario())
    assert {reply.status_code for reply in replies} == {200}
    assert crowded.metric("evergreen_running_requests") == 0


def test_clients_that_vanish_mid_stream_leave_nothing_behind(crowded: ServerProcess) -> None:
    before = crowded.metric("evergreen_cancellations_total")
    vanishing = 2 * SLOTS

    async def vanish(client: httpx.AsyncClient) -> None:
        body = chat(stream=True, max_tokens=7000)
        async with client.stream("POST", "/invocations", json=body) as reply:
            async for _line in reply.aiter_lines():
                return

    async def scenario() -> None:
        async with connect(crowded) as client:
            await asyncio.gather(*(vanish(client) for _ in range(vanishing)))

    asyncio.run(scenario())
    until(lambda: crowded.metric("evergreen_running_requests") == 0, "nothing runs any more", SECONDS)

    assert crowded.metric("evergreen_running_requests") == 0
    assert crowded.metric("evergreen_queued_requests") == 0
    assert crowded.metric("evergreen_cancellations_total") == before + vanishing
    assert httpx.post(f"{crowded.url}/invocations", json=chat(), timeout=SECONDS).status_code == 200
