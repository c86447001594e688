"""Evaluates CloudWatch alarms every few seconds; the emulator does so only when a metric is put or read."""

from __future__ import annotations

import asyncio
import logging

from local.cloud import seams

EVERY_SECONDS = 5.0
_log = logging.getLogger("evergreen.cloud")


def register() -> None:
    """Start with the server, stop with it."""
    tasks: list[asyncio.Task[None]] = []

    async def start() -> None:
        tasks.append(asyncio.create_task(_evaluate()))

    async def stop() -> None:
        for task in tasks:
            task.cancel()

    seams.on_startup(start)
    seams.on_shutdown(stop)


async def _evaluate() -> None:
    while True:
        await asyncio.sleep(EVERY_SECONDS)
        try:
            # On a worker thread: an alarm's action may run a function, and that takes its time.
            await asyncio.to_thread(seams.evaluate_alarms)
        except Exception:
            # One alarm that cannot be evaluated must not end the watch over the others.
            _log.exception("the alarms could not be evaluated this time")
