"""The metric of queues that alarms watch: how many messages wait in each. The emulator publishes none."""

from __future__ import annotations

import asyncio
import contextlib

from local.cloud import ministack_adapter

EVERY_SECONDS = 10.0


def register() -> None:
    """Publish from the server's start to its end."""
    tasks: list[asyncio.Task[None]] = []

    async def start() -> None:
        tasks.append(asyncio.create_task(_publish_every_few_seconds()))

    async def stop() -> None:
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    ministack_adapter.on_startup(start)
    ministack_adapter.on_shutdown(stop)


async def _publish_every_few_seconds() -> None:
    while True:
        await asyncio.sleep(EVERY_SECONDS)
        for queue, waiting in ministack_adapter.visible_message_counts().items():
            datum = {
                "MetricName": "ApproximateNumberOfMessagesVisible",
                "Dimensions": [{"Name": "QueueName", "Value": queue}],
                "Unit": "Count",
                "Value": waiting,
            }
            ministack_adapter.put_metric_data("AWS/SQS", [datum])
