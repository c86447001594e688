"""S3: large objects are moved on a thread, so that the server goes on answering meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

from ministack import app as _app

LARGE_BYTES = 1024 * 1024


def transfer_large_objects_on_threads() -> None:
    """The emulator's S3 hashes, joins, writes and reads whole objects without ever giving way. One such
    request at a time now runs on a thread; small ones stay where they were."""
    original = _app.SERVICE_HANDLERS["s3"]
    one_at_a_time = asyncio.Lock()

    async def serve(
        method: str, path: str, headers: dict[str, Any], body: bytes, query: dict[str, Any]
    ) -> tuple[Any, ...]:
        work = original(method, path, headers, body, query)
        if len(body) < LARGE_BYTES and not _may_be_large(method, path, headers, query):
            return tuple(await work)
        async with one_at_a_time:
            return await asyncio.to_thread(_finish, work)

    _app.SERVICE_HANDLERS["s3"] = serve


def _may_be_large(method: str, path: str, headers: Mapping[str, str], query: Mapping[str, Any]) -> bool:
    """Requests whose own body is small though they move an object: reading, copying, joining parts."""
    reads = method == "GET" and not query and "/" in path.strip("/")
    copies = method == "PUT" and "x-amz-copy-source" in headers
    joins = method == "POST" and "uploadId" in query
    return reads or copies or joins


def _finish(work: Coroutine[Any, Any, tuple[Any, ...]]) -> tuple[Any, ...]:
    """Run a coroutine that waits for nothing to its end, without a loop."""
    try:
        work.send(None)
    except StopIteration as end:
        return tuple(end.value)
    work.close()
    raise RuntimeError("the emulator's S3 waits for something: see local/cloud/ministack_adapter/s3.py")
