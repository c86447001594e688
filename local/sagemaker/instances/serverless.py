"""A serverless variant: one process for all its requests, started by the first and ended when idle.

Lambda would start an environment per concurrent request; a laptop has not the memory. What is refused beyond
the concurrency limit is the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from local.sagemaker.errors import AwsApiError
from local.sagemaker.instances.instance import EndpointInstance, InstanceStartError
from local.sagemaker.instances.pool import VariantPool

IDLE_SECONDS = 300.0
_POLL_SECONDS = 5.0


class ServerlessPool(VariantPool):
    """A pool of at most one process. With provisioned concurrency it does not end when idle."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.config: dict[str, int] = dict(self.settings["ServerlessConfig"])
        self._starting = asyncio.Lock()
        self._waiting = 0
        self._used = time.monotonic()
        self._watch: asyncio.Task[None] | None = None

    @property
    def current_count(self) -> int:
        """A serverless variant has no instances to count; it counts as one."""
        return 1

    async def start(self) -> None:
        """Bring one process up, to prove that the container starts; it ends when idle."""
        await super().start()
        self._used = time.monotonic()
        self._watch = asyncio.create_task(self._stop_when_idle(), name=f"sagemaker-idle-{self.name}")

    async def stop(self, *, drain: bool) -> None:
        """End the process and the watch over it."""
        if self._watch:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        await super().stop(drain=drain)

    async def acquire(self) -> EndpointInstance | None:
        """The process, started if there is none; raises the runtime's errors for too many requests, or
        when it does not start."""
        self._used = time.monotonic()
        if self.outstanding + self._waiting >= self.config["MaxConcurrency"]:
            raise AwsApiError("ThrottlingException", "Rate exceeded", 400)
        self._waiting += 1
        try:
            async with self._starting:
                if not self.instances:
                    await self._start_cold()
            return self.pick()
        finally:
            self._waiting -= 1

    async def _start_cold(self) -> None:
        began = time.perf_counter()
        try:
            await self.scale(1)
        except InstanceStartError as failure:
            raise AwsApiError("ModelError", str(failure), 424) from failure
        self.factory.record(self.location, {"ModelSetupTime": round((time.perf_counter() - began) * 1e6)})

    async def _stop_when_idle(self) -> None:
        while True:
            await asyncio.sleep(min(_POLL_SECONDS, IDLE_SECONDS))
            idle = time.monotonic() - self._used
            busy = self.outstanding or self._waiting or "ProvisionedConcurrency" in self.config
            if self.instances and not busy and idle >= IDLE_SECONDS:
                await self.scale(0)
