"""Puts the console on the emulator's port under `/_evergreen/console`."""

from __future__ import annotations

import asyncio
import json
import mimetypes
from pathlib import Path

from local.cloud import ministack_adapter
from local.cloud.adapter_types import Headers, HttpRequest, HttpResponse
from local.cloud.config import CloudConfig
from local.console.state import ConsoleState

PREFIX = "/_evergreen/console"
STATIC = Path(__file__).parent / "static"
# Only a page of this machine may read the console: it shows the laptop's API key.
HOSTS = ("127.0.0.1", "localhost")
POLICY = "default-src 'self'; style-src 'self'; img-src 'self' data:; frame-ancestors 'none'"


def register(config: CloudConfig) -> None:
    """Adds the console's routes to the emulator."""
    state = ConsoleState(config)
    views = {"overview.json": state.overview, "dashboards.json": state.dashboards}

    async def serve(request: HttpRequest) -> HttpResponse:
        if request.headers.get("host", "").partition(":")[0] not in HOSTS:
            return HttpResponse(403, {"Content-Type": "text/plain"}, b"open the console as 127.0.0.1")
        name = request.path.removeprefix(PREFIX).strip("/") or "index.html"
        if name in views:
            body = json.dumps(await asyncio.to_thread(views[name])).encode()
            return HttpResponse(200, {"Content-Type": "application/json", "Cache-Control": "no-store"}, body)
        file = STATIC / name
        if file.parent != STATIC or not file.is_file():
            return HttpResponse(404, {"Content-Type": "text/plain"}, b"no such page")
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        headers: Headers = {
            "Content-Type": kind,
            "Content-Security-Policy": POLICY,
            "Cache-Control": "no-cache",
        }
        return HttpResponse(200, headers, file.read_bytes())

    ministack_adapter.add_http_route(PREFIX, serve)
