"""Slots, tokens, order, and what happens to a waiter that leaves."""

from __future__ import annotations

import asyncio

import pytest

from model_code.serving.admission import Admission, QueueFullError


async def hold(
    admission: Admission, tokens: int, entered: list[str], name: str, leave: asyncio.Event
) -> None:
    async with admission.slot(tokens):
        entered.append(name)
        await leave.wait()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_requests_enter_in_order_as_slots_come_free() -> None:
    async def scenario() -> None:
        admission, entered = Admission(max_running=1, max_queued=2, max_tokens=100), []
        leave = {name: asyncio.Event() for name in "abc"}
        tasks = [asyncio.create_task(hold(admission, 10, entered, name, leave[name])) for name in "abc"]
        await settle()
        assert (entered, admission.running, admission.queued) == (["a"], 1, 2)

        for name, expected in (("a", ["a", "b"]), ("b", ["a", "b", "c"])):
            leave[name].set()
            await settle()
            assert entered == expected
        leave["c"].set()
        await asyncio.gather(*tasks)
        assert admission.idle.is_set()

    asyncio.run(scenario())


def test_tokens_bound_what_runs_together_and_a_large_one_is_not_overtaken() -> None:
    async def scenario() -> None:
        admission, entered = Admission(max_running=8, max_queued=8, max_tokens=100), []
        leave = asyncio.Event()
        sizes = {"half": 50, "large": 80, "small": 10}
        tasks = [
            asyncio.create_task(hold(admission, size, entered, name, leave)) for name, size in sizes.items()
        ]
        await settle()
        assert entered == ["half"]  # the small one would fit, but came after the large one
        leave.set()
        await asyncio.gather(*tasks)
        assert entered == ["half", "large", "small"]

    asyncio.run(scenario())


def test_a_full_queue_refuses_at_once() -> None:
    async def scenario() -> None:
        admission, leave = Admission(max_running=1, max_queued=0, max_tokens=10), asyncio.Event()
        task = asyncio.create_task(hold(admission, 1, [], "a", leave))
        await settle()
        with pytest.raises(QueueFullError):
            async with admission.slot(1):
                pytest.fail("must not enter")
        leave.set()
        await task

    asyncio.run(scenario())


@pytest.mark.parametrize("free_first", [False, True])
def test_a_waiter_that_leaves_gives_its_place_on(free_first: bool) -> None:
    """Also when it leaves in the very moment in which it was let in."""

    async def scenario() -> None:
        admission, entered = Admission(max_running=1, max_queued=2, max_tokens=10), []
        leave = {name: asyncio.Event() for name in "abc"}
        tasks = {name: asyncio.create_task(hold(admission, 5, entered, name, leave[name])) for name in "abc"}
        await settle()
        if free_first:
            leave["a"].set()
            await asyncio.sleep(0)
        tasks["b"].cancel()
        leave["a"].set()
        await settle()
        assert entered[-1] == "c"
        leave["c"].set()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        assert (admission.running, admission.queued) == (0, 0)
        assert admission.idle.is_set()

    asyncio.run(scenario())


def test_waiting_tokens_are_bounded_but_one_may_always_wait() -> None:
    async def scenario() -> None:
        admission = Admission(max_running=1, max_queued=8, max_tokens=1000, max_queued_tokens=100)
        entered: list[str] = []
        leave = asyncio.Event()
        sizes = {"running": 10, "huge": 500}
        tasks = [
            asyncio.create_task(hold(admission, size, entered, name, leave)) for name, size in sizes.items()
        ]
        await settle()
        assert admission.queued_tokens == 500
        with pytest.raises(QueueFullError) as caught:
            await hold(admission, 1, entered, "small", leave)
        assert caught.value.reason == "queue_tokens_full"

        tasks[1].cancel()
        await settle()
        assert admission.queued_tokens == 0  # room again
        tasks.append(asyncio.create_task(hold(admission, 60, entered, "small", leave)))
        await settle()
        leave.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert entered == ["running", "small"]
        assert (admission.running, admission.queued_tokens) == (0, 0)

    asyncio.run(scenario())


def test_a_request_for_several_answers_takes_as_many_slots() -> None:
    async def scenario() -> None:
        admission = Admission(max_running=4, max_queued=0, max_tokens=100)
        async with admission.slot(10, 3):
            assert admission.running == 3
            with pytest.raises(QueueFullError):
                async with admission.slot(10, 2):
                    pass
            async with admission.slot(10, 1):
                assert admission.running == 4
        assert admission.idle.is_set()

    asyncio.run(scenario())
