"""Puts the laptop cloud together: our services, types and routes around the emulator."""

from __future__ import annotations

import json
import os

from local.autoscaling import plugin as autoscaling
from local.cloud import (
    dropped_properties,
    keeper,
    lambda_pool,
    missing_types,
    queue_metrics,
    rest_api,
    seams,
    step_functions,
)
from local.cloud.cloudwatch import plugin as cloudwatch
from local.cloud.config import CloudConfig
from local.cloud.snapshots import Origin
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
