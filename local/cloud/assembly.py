"""Puts the laptop cloud together: our services, types and routes around the emulator."""

from __future__ import annotations

import json
import os

from local.autoscaling import plugin as autoscaling
from local.cloud import ministack_adapter, persistence, rest_api, sqs_metrics
from local.cloud.cloudformation import dropped_properties, resource_types
from local.cloud.cloudwatch import plugin as cloudwatch
from local.cloud.config import CloudConfig
from local.cloud.lambda_service import service as lambda_service
from local.cloud.service_quotas import plugin as service_quotas
from local.cloud.snapshots import RestorePoint
from local.cloud.step_functions import service as step_functions
from local.console import plugin as console
from local.sagemaker import plugin as sagemaker

HEALTH_PATH = "/_evergreen/health"


def assemble(config: CloudConfig, restore_point: RestorePoint) -> None:
    """Register everything and restore the saved state, before the server starts."""
    ministack_adapter.install(config.account, config.region)
    ministack_adapter.add_http_route(HEALTH_PATH, _health(config, restore_point))
    dropped_properties.register(config)
    resource_types.register(config)
    lambda_service.register(config)
    step_functions.register(config)
    cloudwatch.register()
    sqs_metrics.register()
    service_quotas.register(config)
    autoscaling.register(config, sagemaker.register(config))
    rest_api.register(config)
    console.register(config)
    persistence.register(config)
    if restore_point.parts is not None:
        persistence.restore(config, restore_point.parts)


def _health(config: CloudConfig, restore_point: RestorePoint) -> ministack_adapter.HttpHandler:
    """Answers who serves here and whether it found its state (`restored`) or began anew (`fresh`, why)."""

    async def answer(_request: ministack_adapter.HttpRequest) -> ministack_adapter.HttpResponse:
        body = {
            "status": "ready",
            "state": "fresh" if restore_point.parts is None else "restored",
            "state_reason": restore_point.reason,
            "pid": os.getpid(),
            "home": str(config.home),
            "port": config.port,
        }
        return ministack_adapter.HttpResponse(
            200, {"Content-Type": "application/json"}, json.dumps(body).encode()
        )

    return answer
