"""An answer on its way from one event loop to another: in order, never far ahead, held up by nobody."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator

import pytest

from local.cloud.lambda_service.response_sinks import _PIECES_AHEAD, StreamRelay

PIECES = 5 * _PIECES_AHEAD
SECONDS = 30


@pytest.fixture
def other_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop on a thread of its own, as the pool has."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join(SECONDS)


async def writing(relay: StreamRelay, written: list[int]) -> None:
    await relay.head("text/plain", True)
    for number in range(PIECES):
        await relay.piece(b"%d" % number)
        written.append(number)
    await relay.done()


def read(
    loop: asyncio.AbstractEventLoop, reading: Callable[[StreamRelay, list[int]], Awaitable[list[bytes]]]
) -> tuple[list[bytes], list[int]]:
    """What a reader got, and what the writer had written when it had ended."""

    async def both() -> tuple[list[bytes], list[int]]:
        relay, written = StreamRelay(asyncio.get_running_loop()), list[int]()
        writer = asyncio.run_coroutine_threadsafe(writing(relay, written), loop)
        got = await reading(relay, written)
        await asyncio.wait_for(asyncio.wrap_future(writer), SECONDS)
        return got, written

    return asyncio.run(both())


def test_pieces_arrive_in_order_and_a_slow_reader_is_waited_for(
    other_loop: asyncio.AbstractEventLoop,
) -> None:
    async def slowly(relay: StreamRelay, written: list[int]) -> list[bytes]:
        assert await relay.started_content_type() == "text/plain"
        got = []
        async for piece in relay:
            got.append(piece)
            if len(got) % 50 == 0:
                await asyncio.sleep(0.05)
            # The head counts too, and one piece may just have been written.
            assert len(written) <= len(got) + _PIECES_AHEAD + 1
        return got

    got, written = read(other_loop, slowly)
    assert got == [b"%d" % number for number in range(PIECES)]
    assert len(written) == PIECES


def test_a_reader_that_leaves_holds_nobody_up(other_loop: asyncio.AbstractEventLoop) -> None:
    async def briefly(relay: StreamRelay, written: list[int]) -> list[bytes]:
        await relay.started_content_type()
        first = await anext(relay)
        for _ in range(1000):
            await asyncio.sleep(0.01)
            if len(written) >= _PIECES_AHEAD - 2:  # the writer is about to wait
                break
        await relay.aclose()
        return [first]

    got, written = read(other_loop, briefly)
    assert got == [b"0"]
    assert len(written) == PIECES
