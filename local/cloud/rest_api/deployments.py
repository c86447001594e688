"""What each stage serves: the configuration as it was when it was deployed, parsed once.

A deployment is a snapshot: later changes to resources, authorizers, models or gateway responses show only
with the next one. A stage's own settings (variables, throttles, access logs) act at once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from local.cloud.adapter_types import RestApi
from local.cloud.rest_api.configuration import Api, ApiSource, Method, parse_api, parse_stage
from local.cloud.rest_api.execute_api import Deployment
from local.cloud.rest_api.routing import RouteTree


class Deployments:
    """The snapshots of all APIs. `find_api` looks one up in the control plane."""

    def __init__(self, find_api: Callable[[str], RestApi | None]) -> None:
        self._find_api = find_api
        self._sources: dict[tuple[str, str], ApiSource] = {}
        self._parsed: dict[tuple[str, str], tuple[Api, RouteTree[Method]]] = {}

    def snapshot(self, api_id: str, deployment_id: str) -> None:
        """Remember an API's configuration as it is now. Only an API's stages keep its older snapshots."""
        live = self._find_api(api_id)
        if live is None:
            return
        self._forget_unused(api_id, live)
        self._sources[api_id, deployment_id] = _source(live)
        self._parsed.pop((api_id, deployment_id), None)

    def find(self, api_id: str, stage_name: str) -> Deployment | None:
        """What a stage serves; None when the API or the stage is not there, has no deployment, or the API
        has its default endpoint (the only one on a laptop) switched off."""
        live = self._find_api(api_id)
        if live and str(live.api.get("disableExecuteApiEndpoint")).lower() == "true":
            return None
        stage = live.stages.get(stage_name) if live else None
        if stage is None or not stage.get("deploymentId"):
            return None
        api, routes = self._parse(api_id, stage["deploymentId"])
        return Deployment(api, parse_stage(stage), routes)

    def save(self) -> dict[str, Any]:
        """The snapshots of the APIs that are still there, as JSON data."""
        return {
            f"{api}/{deployment}": asdict(source)
            for (api, deployment), source in self._sources.items()
            if self._find_api(api)
        }

    def load(self, data: Mapping[str, Any]) -> None:
        """Take back what `save` gave."""
        for key, raw in data.items():
            api_id, _, deployment_id = key.partition("/")
            self._sources[api_id, deployment_id] = ApiSource(**raw)
        self._parsed.clear()

    def _parse(self, api_id: str, deployment_id: str) -> tuple[Api, RouteTree[Method]]:
        key = (api_id, deployment_id)
        if key not in self._parsed:
            if key not in self._sources:
                self.snapshot(api_id, deployment_id)
            api = parse_api(self._sources[key], deployment_id)
            self._parsed[key] = (api, RouteTree(api.methods))
        return self._parsed[key]

    def _forget_unused(self, api_id: str, live: RestApi) -> None:
        """Drop what no stage serves any more, save the newest: its stage may be about to follow."""
        served = {stage.get("deploymentId") for stage in live.stages.values()}
        mine = [key for key in self._sources if key[0] == api_id]
        for key in mine[:-1]:
            if key[1] not in served:
                del self._sources[key]
                self._parsed.pop(key, None)


def _source(live: RestApi) -> ApiSource:
    def values(items: Mapping[str, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        return [copy.deepcopy(dict(item)) for item in items.values()]

    return ApiSource(
        rest_api=copy.deepcopy(dict(live.api)),
        resources=values(live.resources),
        authorizers=values(live.authorizers),
        request_validators=values(live.validators),
        models=values(live.models),
        gateway_responses=values(live.gateway_responses),
    )
