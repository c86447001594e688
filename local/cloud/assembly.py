"""Puts the laptop cloud together: our services, types and routes around the emulator."""

from __future__ import annotations

import json
import os

from local.autoscaling import plugin as autoscaling
from local.cloud import ministack_adapter as seams
from local.cloud import persistence as keeper
from local.cloud import rest_api
from local.cloud import sqs_metrics as queue_metrics
from local.cloud.cloudformation import dropped_properties
from local.cloud.cloudformation import resource_types as missing_types
from local.cloud.cloudwatch import plugin as cloudwatch
from local.cloud.config import CloudConfig
from local.cloud.lambda_service import service as lambda_pool
from local.cloud.snapshots import Origin
from local.cloud.step_functions.service import service as step_functions
from local.console import plugin as console
from local.sagemaker import plugin as sagemaker

HEALTH_PATH = "/_evergreen/health"


def assemble(config: CloudConfig, origin: Origin) -> None:
    """Register everything and restore the saved state, before the server starts."""
    seams.install(config.account, config.region)
    seams.add_http_route(HEALTH_PATH, _health(config, origin))
    dropped_properties.register(config)
    missing_types.register(config)
    lambda_pool.register(config)
    step_functions.register(config)
    cloudwatch.register()
    queue_metrics.register()
    autoscaling.register(config, sagemaker.register(config))
    rest_api.register(config)
    console.register(config)
    keeper.register(config)
    if origin.parts is not None:
        keeper.restore(config, origin.parts)


def _health(config: CloudConfig, origin: Origin) -> seams.Handler:
    """Answers who serves here and whether it found its state (`restored`) or began anew (`fresh`, why)."""

    async def answer(_request: seams.HttpRequest) -> seams.Reply:
        body = {
            "status": "ready",
            "state": "fresh" if origin.parts is None else "restored",
            "state_reason": origin.reason,
            "pid": os.getpid(),
            "home": str(config.home),
            "port": config.port,
        }
        return seams.Reply(200, {"Content-Type": "application/json"}, json.dumps(body).encode())

    return answer
