"""The routes of SageMaker's container contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from model_code.serving.errors import invalid
from model_code.serving.generation.service import Service
from model_code.serving.http.adapter_routes import adapter_routes
from model_code.serving.http.generation_call import GenerationCall
from model_code.serving.http.invocations import Invocations
from model_code.serving.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from model_code.serving.encoders.embedding_service import EmbeddingService


def create_app(service: Service | EmbeddingService) -> ASGIApp:
    """The ASGI application of a service."""
    if isinstance(service, Service):
        generates = service
        invocations = Invocations(service, lambda *request: GenerationCall(generates, *request))
        adapters = adapter_routes(service)
    else:
        from model_code.serving.http.encoder_call import EncoderCall

        encodes = service
        invocations = Invocations(service, lambda *request: EncoderCall(encodes, *request))
        adapters = []

    async def ping(request: Request) -> Response:
        reason = service.unready_reason()
        return JSONResponse(
            {"status": "ready"} if not reason else {"status": "unavailable", "reason": reason},
            status_code=503 if reason else 200,
        )

    async def metrics(request: Request) -> Response:
        return Response(service.render_metrics(), media_type=CONTENT_TYPE)

    routed = Starlette(
        routes=[
            Route("/ping", ping, methods=["GET"]),
            Route("/invocations", invocations, methods=["POST"]),
            Route("/metrics", metrics, methods=["GET"]),
            *adapters,
        ],
        exception_handlers={HTTPException: _refuse},
    )

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        # Middleware would wrap every piece of every stream, and Invocations lets no error out.
        direct = scope["type"] == "http" and (scope["method"], scope["path"]) == ("POST", "/invocations")
        await (invocations if direct else routed)(scope, receive, send)

    return app


async def _refuse(request: Request, error: Exception) -> Response:
    """Unknown paths and methods, in the same shape as every other error."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    text = f"{request.method} {request.url.path} is not served here."
    refusal = invalid(text, code="unknown_route", status=status)
    return Response(refusal.body, status_code=status, media_type="application/json")
