"""The live side of an endpoint: which variants run, and how traffic is split between an old and a new fleet.

A fleet is everything that one endpoint configuration describes. During a guarded update two fleets run, blue
(old) and green (new), and `green_share` says how much of the traffic green takes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable

from local.sagemaker import routing
from local.sagemaker.errors import ApiError, unavailable
from local.sagemaker.instance import StartFailure
from local.sagemaker.pool import VariantPool, Workshop
from local.sagemaker.store import Record

Sizes = dict[str, tuple[float, int]]


class Fleet:
    """The variants of one endpoint configuration, production and shadow."""

    def __init__(
        self, workshop: Workshop, endpoint: str, config: Record, models: dict[str, Record], sizes: Sizes
    ) -> None:
        def pools(key: str) -> dict[str, VariantPool]:
            return {
                variant["VariantName"]: VariantPool(
                    workshop,
                    endpoint,
                    variant,
                    models[variant["ModelName"].lower()],
                    weight=sizes[variant["VariantName"]][0],
                    count=sizes[variant["VariantName"]][1],
                )
                for variant in config.get(key, [])
            }

        self.config_name: str = config["EndpointConfigName"]
        self.production = pools("ProductionVariants")
        self.shadow = pools("ShadowProductionVariants")

    @property
    def pools(self) -> list[VariantPool]:
        """Production variants first."""
        return [*self.production.values(), *self.shadow.values()]

    async def start(self) -> None:
        """Bring everything into service; raises StartFailure and leaves nothing running."""
        results = await asyncio.gather(*(pool.start() for pool in self.pools), return_exceptions=True)
        failures = [result for result in results if result is not None]
        if failures:
            await self.stop(drain=False)
            raise StartFailure(str(failures[0])) from failures[0]

    async def stop(self, *, drain: bool) -> None:
        """End everything, after the last request when `drain` is set."""
        await asyncio.gather(*(pool.stop(drain=drain) for pool in self.pools))


class LiveEndpoint:
    """What requests to one endpoint are routed by. Changing an attribute changes the next request."""

    def __init__(self) -> None:
        self.blue: Fleet | None = None
        self.green: Fleet | None = None
        self.green_share = 0.0

    def route(self, target_variant: str | None) -> tuple[Fleet, VariantPool]:
        """The variant that takes a request; raises the runtime's error for an unknown one."""
        fleet = self.green if self.green and random.random() < self.green_share else self.blue  # noqa: S311
        if fleet is None:
            raise unavailable("The endpoint has no instance.")
        if target_variant is None:
            weights = {name: pool.weight for name, pool in fleet.production.items()}
            target_variant = routing.choose_variant(weights, random.random())  # noqa: S311
            if target_variant is None:
                raise ApiError("ValidationError", "No production variant of the endpoint has a weight.")
        elif target_variant not in fleet.production:
            raise ApiError("ValidationError", f"Variant {target_variant} not found for Request")
        return fleet, fleet.production[target_variant]

    def fleets(self) -> Iterable[Fleet]:
        """The fleets that run now."""
        return [fleet for fleet in (self.blue, self.green) if fleet]
