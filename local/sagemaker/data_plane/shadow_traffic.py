"""Shadow variants: a copy of a request goes to the shadow, its reply is read and thrown away.

The caller never waits for a shadow, and a shadow that falls behind loses copies rather than memory.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time

import httpx

from local.sagemaker.data_plane.container_call import (
    ContainerCall,
    ContainerRequest,
    ContainerUnreachableError,
)
from local.sagemaker.errors import AwsApiError
from local.sagemaker.instances.fleet import Fleet
from local.sagemaker.instances.metrics import MetricBuffer
from local.sagemaker.instances.pool import VariantPool
from local.sagemaker.store import Identity

log = logging.getLogger(__name__)

MAX_COPIES = 64


class ShadowTraffic:
    """Copies requests to the shadow variants of a fleet."""

    def __init__(self, client: httpx.AsyncClient, metric_buffer: MetricBuffer, identity: Identity) -> None:
        self._client = client
        self._metric_buffer = metric_buffer
        self._identity = identity
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> bool:
        """Whether copies are under way."""
        return bool(self._tasks)

    def copy(self, fleet: Fleet, production: VariantPool, request: ContainerRequest) -> None:
        """Send a copy to the shadow, with the probability that its weight has to the production weight."""
        for pool in fleet.shadow.values():
            if not isinstance(pool, VariantPool):
                continue  # a variant that hosts inference components has no shadow
            share = pool.weight / production.weight if production.weight else 0.0
            if random.random() < share and len(self._tasks) < MAX_COPIES:  # noqa: S311 - sampling
                task = asyncio.create_task(self._send(pool, request))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _send(self, pool: VariantPool, request: ContainerRequest) -> None:
        try:
            instance = await pool.acquire()
        except AwsApiError as error:
            log.debug("shadow variant %s: %s", pool.name, error)
            return
        if instance is None:
            return
        call = ContainerCall(
            self._client,
            self._metric_buffer,
            self._identity,
            pool,
            instance,
            request,
            time.perf_counter(),
        )
        try:
            await call.open()
            await call.read_whole()
        except (AwsApiError, ContainerUnreachableError) as error:
            log.debug("shadow variant %s: %s", pool.name, error)
        finally:
            await call.close()
