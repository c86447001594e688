"""SageMaker's routes for adapters: `POST /adapters`, `DELETE /adapters/{name}`, and a list of them.

The service calls these by itself when an adapter's inference component comes or goes; InvokeEndpoint does not
reach them.
"""

from __future__ import annotations

import json

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from contracts.adapters import REGISTERED, UNREGISTERED, AdapterList, AdapterRegistration
from model_code.serving.errors import ServingError, invalid
from model_code.serving.generation.adapters import Adapters
from model_code.serving.generation.service import Service
from model_code.serving.protocol.parsing import parse

_MAX_BODY_BYTES = 64 * 1024


def adapter_routes(service: Service) -> list[Route]:
    """The routes over a service's adapters."""

    async def change(request: Request) -> Response:
        try:
            return await _register(request, service.loaded_adapters())
        except ServingError as error:
            return refusal(error)

    async def show(request: Request) -> Response:
        try:
            listing = AdapterList(adapters=service.loaded_adapters().listing())
        except ServingError as error:
            return refusal(error)
        return Response(listing.model_dump_json(), media_type="application/json")

    async def remove(request: Request) -> Response:
        name = request.path_params["name"]
        try:
            await service.loaded_adapters().unload(name)
        except ServingError as error:
            return refusal(error)
        return PlainTextResponse(UNREGISTERED.format(name=name))

    return [
        Route("/adapters", show, methods=["GET"]),
        Route("/adapters", change, methods=["POST"]),
        Route("/adapters/{name}", remove, methods=["DELETE"]),
    ]


async def _register(request: Request, adapters: Adapters) -> Response:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _MAX_BODY_BYTES:
            raise invalid(
                f"The body is larger than {_MAX_BODY_BYTES} bytes.", code="request_too_large", status=413
            )
    # The contract's package takes the fields from the query where there is no body.
    content = bytes(body) or json.dumps(dict(request.query_params)).encode()
    wanted = parse(AdapterRegistration, content)
    await adapters.load(wanted)
    return PlainTextResponse(REGISTERED.format(name=wanted.name))


def refusal(error: ServingError) -> Response:
    """An error as a reply."""
    headers = {name.decode(): value.decode() for name, value in error.headers}
    return Response(error.body, status_code=error.status, media_type="application/json", headers=headers)
