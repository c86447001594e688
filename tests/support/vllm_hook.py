"""A stand-in for vLLM's server under the hook, and a client that speaks ASGI to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message

from model_code.vllm_hook.middleware import Hook
from model_code.vllm_hook.settings import HookSettings

WAIT_SECONDS = 20.0
CHAT = {"model": "m", "messages": [{"role": "user", "content": "secret words"}], "max_tokens": 4}
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "choices": [],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}


_GENERATES = ("/v1/chat/completions", "/v1/completions")


@dataclass
class FakeVllm:
    """Notes what reaches it; `behaviour` decides on the reply of anything but warm-ups and probes."""

    behaviour: Callable[[Request, dict[str, Any]], Any] | None = None
    healthy: bool = True
    warm: int = 200
    generates: bool = True
    encodes: bool = False  # it has the routes of a model that encodes, and no others
    seen: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)
    cancelled: int = 0

    def app(self) -> Starlette:
        """The application: the routes of an OpenAI server."""

        async def generate(request: Request) -> Response:
            body = await request.json()
            ours = body.get("messages", [{}])[0].get("content") == "Hello"
            ours |= "Hello" in (body.get("prompt"), body.get("input"))
            if ours:
                if not self.generates:
                    await asyncio.Event().wait()
                return JSONResponse(ANSWER, status_code=self.warm)
            self.seen.append((request.url.path, dict(request.headers), body))
            if self.behaviour is None:
                return JSONResponse(ANSWER)
            try:
                return await self.behaviour(request, body)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise

        async def health(request: Request) -> Response:
            return Response(status_code=200 if self.healthy else 503)

        async def metrics(request: Request) -> Response:
            return PlainTextResponse('vllm:kv_cache_usage_perc{engine="0"} 0.25\n')

        paths = ["/classify", "/v1/rerank", "/v1/score"] if self.encodes else list(_GENERATES)
        return Starlette(
            routes=[
                *(Route(path, generate, methods=["POST"]) for path in paths),
                Route("/health", health),
                Route("/metrics", metrics),
            ]
        )

    def stream(self, pieces: AsyncIterator[bytes]) -> Response:
        """A streamed reply."""

        async def noting() -> AsyncIterator[bytes]:
            try:
                async for piece in pieces:
                    yield piece
            except asyncio.CancelledError:
                self.cancelled += 1
                raise

        return StreamingResponse(noting(), media_type="text/event-stream")


@dataclass
class Got:
    """A reply as it came."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    chunks: list[bytes] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    leave: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def json(self) -> dict[str, Any]:
        """The whole body."""
        return dict(json.loads(b"".join(self.chunks)))

    @property
    def error(self) -> dict[str, Any]:
        """The error object: of the body, or of the last event."""
        if self.status >= 400:
            return dict(self.json["error"])
        return dict(json.loads(self.chunks[-1].removeprefix(b"data: "))["error"])


async def call(
    app: Any,
    method: str = "POST",
    path: str = "/invocations",
    body: bytes | dict[str, Any] = b"",
    attributes: str = "",
    got: Got | None = None,
) -> Got:
    """One request; set `got.leave` to hang up."""
    got = got or Got()
    content = json.dumps(body).encode() if isinstance(body, dict) else body
    pending: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]
    ended = asyncio.Event()

    async def receive() -> Message:
        if pending:
            return pending.pop()
        waiting = [asyncio.create_task(event.wait()) for event in (got.leave, ended)]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        assert not ended.is_set(), "a reply after the reply's end"
        if message["type"] == "http.response.start":
            assert got.status == 0
            got.status = message["status"]
            got.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            if message.get("body"):
                got.chunks.append(message["body"])
                got.arrived.set()
            if not message.get("more_body"):
                ended.set()

    headers = [(b"x-amzn-sagemaker-custom-attributes", attributes.encode())] if attributes else []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8080),
    }
    async with asyncio.timeout(WAIT_SECONDS):
        await app(scope, receive, send)
    return got


@asynccontextmanager
async def hooked(vllm: FakeVllm, *, ready: bool = True, **settings: Any) -> AsyncIterator[Hook]:
    """The hook around a fake server that has started; warm unless said otherwise."""
    hook = Hook(vllm.app(), HookSettings(model_name="m", **settings))
    inbox: asyncio.Queue[Message] = asyncio.Queue()
    outbox: asyncio.Queue[Message] = asyncio.Queue()
    await inbox.put({"type": "lifespan.startup"})
    life = asyncio.create_task(hook({"type": "lifespan"}, inbox.get, outbox.put))
    assert (await outbox.get())["type"] == "lifespan.startup.complete"
    try:
        if ready:
            await until(lambda: hook.health.unready_reason() is None)
        yield hook
    finally:
        await inbox.put({"type": "lifespan.shutdown"})
        await asyncio.wait_for(life, WAIT_SECONDS)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():  # noqa: ASYNC110 - what is waited for is plain state
            await asyncio.sleep(0.005)
