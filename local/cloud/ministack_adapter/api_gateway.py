"""API Gateway's REST APIs as deployed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from ministack.core import responses as _responses
from ministack.services import apigateway_v1 as _apigw

from local.cloud.adapter_types import RestApi, UsagePlan


def rest_api(api_id: str) -> RestApi | None:
    """A REST API as deployed; None when there is none."""
    scope = _apigw.find_api_scope(api_id)
    if scope is None:
        return None
    with _responses.request_scope(*scope):
        return RestApi(
            api=_apigw._rest_apis.get(api_id),
            resources=_apigw._resources.get(api_id) or {},
            stages=_apigw._stages_v1.get(api_id) or {},
            authorizers=_apigw._authorizers_v1.get(api_id) or {},
            validators=_apigw._request_validators.setdefault(api_id, {}),
            models=_apigw._models.get(api_id) or {},
            gateway_responses=_apigw._gateway_responses.get(api_id) or {},
        )


def usage_plans(api_id: str, stage: str) -> Sequence[UsagePlan]:
    """The usage plans that cover a stage."""
    scope = _apigw.find_api_scope(api_id)
    if scope is None:
        return []
    with _responses.request_scope(*scope):
        found = []
        for plan_id, plan in list(_apigw._usage_plans.items()):
            covered = plan.get("apiStages") or []
            if any(entry.get("apiId") == api_id and entry.get("stage") == stage for entry in covered):
                key_ids = _apigw._usage_plan_keys.get(plan_id) or {}
                keys = [_apigw._api_keys.get(key_id) for key_id in key_ids]
                found.append(UsagePlan(plan, [key for key in keys if key]))
        return found


def on_api_deployment(callback: Callable[[str, str], None]) -> None:
    """Call `callback(api_id, deployment_id)` for every new deployment of a REST API, by whichever way."""
    create = _apigw._create_deployment

    def created(api_id: str, data: dict[str, Any]) -> tuple[Any, ...]:
        reply = create(api_id, data)
        if reply[0] == 201:
            callback(api_id, json.loads(reply[2])["id"])
        return tuple(reply)

    _apigw._create_deployment = created


def patch_transfer_mode() -> None:
    """The emulator drops `ResponseTransferMode`, without which no REST route would stream."""
    put = _apigw._put_integration

    def put_integration(
        api_id: str, resource_id: str, http_method: str, data: dict[str, Any]
    ) -> tuple[Any, ...]:
        reply = put(api_id, resource_id, http_method, data)
        if reply[0] == 201:
            method = _apigw._resources[api_id][resource_id]["resourceMethods"][http_method]
            mode = data.get("responseTransferMode") or "BUFFERED"
            method["methodIntegration"]["responseTransferMode"] = mode
        return tuple(reply)

    _apigw._put_integration = put_integration
