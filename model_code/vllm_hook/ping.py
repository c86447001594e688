"""The handler that vLLM's image is told to use for `/ping`: the fuse that blows when the hook is missing.

The image logs a middleware that cannot be loaded and goes on without it, but does not start without its ping
handler. Both stand in one file, so neither is there alone; the hook answers `/ping` before this is reached.
"""

from __future__ import annotations

from starlette.responses import JSONResponse


async def ping() -> JSONResponse:
    """Never well: reached only where the hook does not stand before it."""
    reason = "the hook is not in place: set CUSTOM_FASTAPI_MIDDLEWARE_THROTTLE as infra does"
    return JSONResponse({"status": "unavailable", "reason": reason}, status_code=503)
