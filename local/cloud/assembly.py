"""Puts the laptop cloud together: our services, types and routes around the emulator."""

from __future__ import annotations

import json
import os

from local.cloud import dropped_properties, lambda_pool, seams
from local.cloud.config import CloudConfig

HEALTH_PATH = "/_evergreen/health"


def assemble(config: CloudConfig) -> None:
    """Register everything, before the server starts."""
    seams.install(config.account, config.region)
    seams.add_http_route(HEALTH_PATH, _health(config))
    dropped_properties.register(config)
    lambda_pool.register(config)
    _register_if_present("local.sagemaker.plugin", config)
    _register_if_present("local.cloud.rest_api", config)
    _register_if_present("local.console.plugin", config)


def _register_if_present(name: str, config: CloudConfig) -> None:
    import importlib
    from pathlib import Path

    path = Path(*name.split("."))
    if path.with_suffix(".py").exists() or path.is_dir():
        importlib.import_module(name).register(config)


def _health(config: CloudConfig) -> seams.Handler:
    """Answers `{"status", "state", "pid", "home", "port"}`: who serves here, and from which state."""

    async def answer(_request: seams.HttpRequest) -> seams.Reply:
        body = {
            "status": "ready",
            "state": "fresh",
            "pid": os.getpid(),
            "home": str(config.home),
            "port": config.port,
        }
        return seams.Reply(200, {"Content-Type": "application/json"}, json.dumps(body).encode())

    return answer
