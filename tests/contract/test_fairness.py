"""Nobody starves: long prompts are computed in pieces, and a full server still answers pings."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.model_server import ENGINES, ServerProcess, chat

PROMPT_TOKENS = 6000
STEP_TOKENS = 512
SLOTS = 4
SECONDS = 300.0


@pytest.fixture(scope="module", params=ENGINES)
def roomy(request: pytest.FixtureRequest, tiny_model: Path) -> Iterator[ServerProcess]:
    """A server with a few slots and the model's whole context; little may wait."""
    with ServerProcess(
        tiny_model,
        EVERGREEN_ENGINE=request.param,
        EVERGREEN_MAX_RUNNING_REQUESTS=str(SLOTS),
        EVERGREEN_MAX_QUEUED_TOKENS="700",
    ) as process:
        yield process.wait_ready()


class Running:
    """A stream that is read in a thread; `chunks` counts what has come."""

    def __init__(self, server: ServerProcess, tokens: int = 8000) -> None:
        self._server = server
        self._body = chat(stream=True, max_tokens=tokens, temperature=0)  # no chance of an early end
        self._stop = threading.Event()
        self._begun = threading.Event()
        self.chunks = 0

    def __enter__(self) -> Running:
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        assert self._begun.wait(SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(SECONDS)

    def _read(self) -> None:
        with self._server.client() as client:
            with client.stream("POST", "/invocations", json=self._body) as reply:
                for line in reply.iter_lines():
                    self.chunks += line.startswith("data: {")
                    self._begun.set()
                    if self._stop.is_set():
                        return


def test_a_long_prompt_does_not_hold_up_a_running_answer(roomy: ServerProcess) -> None:
    """Given a prompt that takes many steps, the running answer goes on in most of them."""
    long_prompt = chat(messages=[{"role": "user", "content": "word " * PROMPT_TOKENS}], max_tokens=1)
    with Running(roomy) as running:
        chunks, steps = running.chunks, roomy.metric("evergreen_engine_steps")
        reply = httpx.post(f"{roomy.url}/invocations", json=long_prompt, timeout=SECONDS)
        chunks, steps = running.chunks - chunks, roomy.metric("evergreen_engine_steps") - steps

    assert reply.status_code == 200, reply.text
    assert reply.json()["usage"]["prompt_tokens"] >= PROMPT_TOKENS
    assert steps >= PROMPT_TOKENS // STEP_TOKENS  # in pieces
    assert chunks >= PROMPT_TOKENS // STEP_TOKENS // 2  # between which the other one got its tokens


def test_pings_are_answered_while_every_slot_is_taken(roomy: ServerProcess) -> None:
    """SageMaker gives a ping two seconds: none may wait for a slot, nor for the end of an answer."""
    streams = [Running(roomy, 1500) for _ in range(SLOTS)]
    with concurrent.futures.ThreadPoolExecutor(SLOTS) as pool:
        list(pool.map(Running.__enter__, streams))
        try:
            assert roomy.metric("evergreen_running_requests") == SLOTS
            before = [stream.chunks for stream in streams]
            for _ in range(10):
                assert httpx.get(f"{roomy.url}/ping", timeout=SECONDS).status_code == 200
            still = roomy.metric("evergreen_running_requests")
        finally:
            for stream in streams:
                stream.__exit__()
    assert still > 0  # the pings did not wait for the answers to end
    assert all(stream.chunks >= count for stream, count in zip(streams, before, strict=True))


def test_waiting_tokens_are_bounded(roomy: ServerProcess) -> None:
    async def scenario() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=roomy.url, timeout=SECONDS) as client:
            return await asyncio.gather(
                *(client.post("/invocations", json=chat(max_tokens=250)) for _ in range(SLOTS + 6))
            )

    replies = asyncio.run(scenario())
    refused = [reply for reply in replies if reply.status_code != 200]
    assert refused
    assert {reply.status_code for reply in refused} == {503}
    assert {reply.json()["error"]["code"] for reply in refused} == {"queue_full"}
    assert len(replies) - len(refused) > SLOTS  # some could wait
    text = httpx.get(f"{roomy.url}/metrics", timeout=SECONDS).text
    assert 'reason="queue_tokens_full"' in text
