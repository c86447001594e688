"""Puts the laptop cloud together: our services, types and routes around the emulator."""

from __future__ import annotations

import json

from local.cloud import lambda_pool, seams
from local.cloud.config import CloudConfig

HEALTH_PATH = "/_evergreen/health"


def assemble(config: CloudConfig) -> None:
    """Register everything, before the server starts."""
    seams.install(config.account, config.region)
    seams.add_http_route(HEALTH_PATH, _health)
    lambda_pool.register(config)
    _register_if_present("local.sagemaker.plugin", config)
    _register_if_present("local.cloud.rest_api", config)


def _register_if_present(name: str, config: CloudConfig) -> None:
    import importlib
    from pathlib import Path

    path = Path(*name.split("."))
    if path.with_suffix(".py").exists():
        importlib.import_module(name).register(config)


async def _health(_request: seams.HttpRequest) -> seams.Reply:
    body = json.dumps({"status": "ready"}).encode()
    return seams.Reply(200, {"Content-Type": "application/json"}, body)
