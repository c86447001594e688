"""Registers Service Quotas with the laptop cloud."""

from __future__ import annotations

from local.cloud import ministack_adapter
from local.cloud.config import CloudConfig
from local.cloud.service_quotas import api


def register(config: CloudConfig) -> None:
    """Make Service Quotas part of the cloud. Call before the server starts."""
    quotas = api.ServiceQuotas(config.account, config.region)

    async def handle(request: ministack_adapter.HttpRequest) -> ministack_adapter.HttpResponse:
        answer = quotas.handle(request.headers.get("x-amz-target", ""), request.body)
        return ministack_adapter.HttpResponse(answer.status, {"Content-Type": api.CONTENT_TYPE}, answer.body)

    ministack_adapter.add_service(api.IAM_SERVICE, handler=handle, target_prefix=api.TARGET_PREFIX)
