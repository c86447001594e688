"""Which models there are now: the settings' and the operator's, read together with the splits of traffic.

Reading never fails a request: while the table cannot be asked, or holds what cannot be used, its last word
stays in force.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from typing import Protocol

from contracts.catalogue import Catalogue, ModelEntry, read_entries
from contracts.routing import ROUTING_CACHE_SECONDS, Routing
from contracts.targets import EndpointTarget
from lambdas.aws.access_table import CatalogueItems
from lambdas.pipeline.environment import ApiEnvironment
from lambdas.runtime.logs import Logger


class CatalogueSource(Protocol):
    """Where splits and an operator's entries are kept."""

    def read(self, endpoints: Iterable[str]) -> CatalogueItems:
        """The splits of these endpoints, and the entries."""


def settings_catalogue(settings: ApiEnvironment, own: EndpointTarget) -> Catalogue:
    """The catalogue that the function was started with; `own` is where its environment's own model runs.

    Raises ValueError where two models answer to one name.
    """
    entry = ModelEntry(name=settings.model_name, kind=None, target=own)
    return Catalogue.of_environment(entry, settings.models)


class LiveCatalogue:
    """The catalogue in force, asked for at most once in ROUTING_CACHE_SECONDS."""

    def __init__(
        self,
        base: Catalogue,
        source: CatalogueSource,
        logger: Logger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._base = base
        self._source = source
        self._logger = logger
        self._clock = clock
        self._now = base
        self._items = CatalogueItems({})
        self._fresh_until = float("-inf")

    def read(self) -> Catalogue:
        """The models there are, known at most ROUTING_CACHE_SECONDS late unless the source fails."""
        if self._clock() >= self._fresh_until:
            self._refresh()
        return self._now

    def routing(self, endpoint_name: str) -> Routing | None:
        """The split of an endpoint as it was read last; None where its own weights decide."""
        return self._items.routings.get(endpoint_name)

    def _refresh(self) -> None:
        try:
            items = self._source.read(_endpoints(self._now))
        except Exception as error:  # noqa: BLE001 - the last split and the last models stay in force
            self._logger.failure("routing_unavailable", error)
        else:
            if items.entries != self._items.entries:
                self._overlay(items.entries)
            self._items = items
        self._fresh_until = self._clock() + ROUTING_CACHE_SECONDS

    def _overlay(self, entries: str | None) -> None:
        try:
            self._now = self._base.overlaid(read_entries(entries)) if entries else self._base
        except ValueError as error:  # pydantic's is one too
            self._logger.failure("catalogue_unusable", error)


def _endpoints(catalogue: Catalogue) -> Collection[str]:
    """The endpoints whose traffic may be split."""
    return {name for entry in catalogue.entries if (name := split_endpoint(entry)) is not None}


def split_endpoint(entry: ModelEntry) -> str | None:
    """The endpoint whose variants answer for a model; None where there are none, as with a component."""
    target = entry.target
    if not isinstance(target, EndpointTarget) or target.component or target.adapter or target.region:
        return None
    return target.endpoint_name
