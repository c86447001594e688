"""The hook's readiness, watchdog and drain over a stand-in for vLLM's server."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prometheus_client")

from starlette.requests import Request
from starlette.responses import Response

from contracts.artefact import MANIFEST_NAME, describe
from tests.support.vllm_hook import CHAT, FakeVllm, Got, call, hooked, until


def silent() -> FakeVllm:
    """A server that opens a stream and then says nothing."""
    vllm = FakeVllm()

    async def events() -> AsyncIterator[bytes]:
        yield b"data: {}\n\n"
        await asyncio.Event().wait()

    async def behave(request: Request, body: dict[str, Any]) -> Response:
        return vllm.stream(events())

    vllm.behaviour = behave
    return vllm


@pytest.fixture
def interrupts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Signals that the hook sends to its own process, which live on in a test."""
    sent: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append(number))
    return sent


def test_ping_refuses_until_a_warm_up_generation_passed() -> None:
    async def scenario() -> None:
        vllm = FakeVllm(warm=500)
        async with hooked(vllm, ready=False) as hook:
            assert (await call(hook, "GET", "/ping")).status == 503
            await until(lambda: "warm-up" in (hook.health.unready_reason() or ""))
            refused = await call(hook, body=CHAT)
            assert (refused.status, refused.error["code"]) == (503, "not_ready")

            vllm.warm = 200
            await until(lambda: hook.health.unready_reason() is None)
            ready = await call(hook, "GET", "/ping")
            assert (ready.status, ready.json) == (200, {"status": "ready"})

    asyncio.run(scenario())


def test_ping_fails_when_vllms_own_check_does() -> None:
    async def scenario() -> None:
        vllm = FakeVllm()
        async with hooked(vllm) as hook:
            vllm.healthy = False
            got = await call(hook, "GET", "/ping")
        assert got.status == 503
        assert "health check answers 503" in got.json["reason"]

    asyncio.run(scenario())


def test_a_changed_artefact_is_never_ready_and_ends_the_server(tmp_path: Path, interrupts: list[int]) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / MANIFEST_NAME).write_bytes(describe(tmp_path, "m").canonical())
    (tmp_path / "config.json").write_text("{ }")

    async def scenario() -> None:
        async with hooked(FakeVllm(), ready=False, model_folder=tmp_path) as hook:
            await until(lambda: interrupts == [signal.SIGINT])
            assert "config.json" in (hook.health.unready_reason() or "")

    asyncio.run(scenario())


def test_a_hung_engine_is_unhealthy_and_well_again_when_it_moves() -> None:
    async def scenario() -> None:
        vllm = silent()
        async with hooked(vllm, stall=0.2) as hook:
            got = Got()
            vllm.generates = False  # the watchdog's probes hang as the engine does
            running = asyncio.create_task(call(hook, body={**CHAT, "stream": True}, got=got))
            await got.arrived.wait()
            await until(lambda: "nothing came" in (hook.health.unready_reason() or ""))
            assert (await call(hook, "GET", "/ping")).status == 503

            got.leave.set()
            await running  # that nobody waits any more says nothing for the engine
            assert (await call(hook, "GET", "/ping")).status == 503
            vllm.generates = True
            await until(lambda: hook.health.unready_reason() is None)

    asyncio.run(scenario())


def test_a_long_silent_answer_is_no_stall_while_probes_are_answered() -> None:
    async def scenario() -> None:
        vllm = silent()
        async with hooked(vllm, stall=0.4) as hook:
            got, reasons = Got(), set()
            running = asyncio.create_task(call(hook, body=CHAT, got=got))
            await got.arrived.wait()
            for _ in range(60):
                reasons.add(hook.health.unready_reason())
                await asyncio.sleep(0.02)
            got.leave.set()
            await running
        assert reasons == {None}

    asyncio.run(scenario())


def test_an_idle_server_is_stalled_once_it_generates_nothing() -> None:
    async def scenario() -> None:
        vllm = FakeVllm()
        async with hooked(vllm, stall=0.5) as hook:
            await asyncio.sleep(0.8)
            assert hook.health.unready_reason() is None
            vllm.generates = False
            await until(lambda: hook.health.unready_reason() is not None)
            vllm.generates = True
            await until(lambda: hook.health.unready_reason() is None)

    asyncio.run(scenario())


def test_sigterm_fails_ping_at_once_and_lets_running_answers_finish(interrupts: list[int]) -> None:
    async def scenario() -> None:
        finish = asyncio.Event()
        vllm = FakeVllm()

        async def events() -> AsyncIterator[bytes]:
            yield b"data: {}\n\n"
            await finish.wait()
            yield b"data: [DONE]\n\n"

        async def behave(request: Request, body: dict[str, Any]) -> Response:
            return vllm.stream(events())

        vllm.behaviour = behave
        async with hooked(vllm) as hook:
            got = Got()
            running = asyncio.create_task(call(hook, body={**CHAT, "stream": True}, got=got))
            await got.arrived.wait()
            signal.raise_signal(signal.SIGTERM)
            await until(lambda: hook.health.unready_reason() is not None)
            assert (await call(hook, "GET", "/ping")).status == 503
            assert (await call(hook, body=CHAT)).error["code"] == "not_ready"
            assert interrupts == []

            finish.set()
            await running
            assert got.chunks[-1] == b"data: [DONE]\n\n"
            await until(lambda: interrupts == [signal.SIGINT])

    asyncio.run(scenario())


@pytest.mark.parametrize("late_seconds", [0.0, 0.3])
def test_sigterm_drains_though_the_server_sets_its_own_handler_later(
    interrupts: list[int], late_seconds: float
) -> None:
    """As vLLM 0.27 does: it waits for its HTTP server, looking every tenth of a second."""

    async def scenario() -> None:
        theirs: list[int] = []
        async with hooked(FakeVllm(), stall=0.4) as hook:
            await asyncio.sleep(late_seconds)
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, theirs.append, signal.SIGTERM)
            await asyncio.sleep(0.5)  # several looks of the watchdog
            signal.raise_signal(signal.SIGTERM)
            await until(lambda: interrupts == [signal.SIGINT])
            assert "shutting down" in (hook.health.unready_reason() or "")
        assert theirs == []

    asyncio.run(scenario())


def test_what_outlasts_the_drain_ends_with_an_error_event(interrupts: list[int]) -> None:
    async def scenario() -> None:
        vllm = silent()
        async with hooked(vllm, drain=0.1) as hook:
            got = Got()
            running = asyncio.create_task(call(hook, body={**CHAT, "stream": True}, got=got))
            await got.arrived.wait()
            hook.health.begin_drain()
            await running
            assert got.error["code"] == "draining"
            assert vllm.cancelled == 1
            await until(lambda: interrupts == [signal.SIGINT])

    asyncio.run(scenario())
