"""From what came to a request that may be answered: read, authorise, guard, route.

The authorizer in front has checked the key; here its findings become the principal. Callers with AWS
credentials have passed no authorizer: whom they call for stands in the access table. The split is read from
the routing item, never from the endpoint: no describe call on the request path.
"""

from __future__ import annotations

import codecs
import hashlib
import re
from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel

from contracts.access import SCOPE_CHOOSE_VARIANT, SCOPE_INFERENCE, Principal
from contracts.catalogue import ModelEntry
from contracts.chat import ChatRequest
from contracts.completions import CompletionRequest
from contracts.moderation import ModerationRequest
from contracts.routing import Routing
from lambdas.aws.access_table import AccessSource
from lambdas.pipeline.catalogue import LiveCatalogue, split_endpoint
from lambdas.pipeline.guards.session import GuardSession
from lambdas.pipeline.model_parts import Models
from lambdas.pipeline.operations import ModelRequest, Operation
from lambdas.pipeline.preferences import deadline_ms
from lambdas.pipeline.principals import admit_principal
from lambdas.pipeline.request import Admission, IncomingRequest, Request, Route
from lambdas.pipeline.resolution import check_capabilities, find_model
from lambdas.runtime.errors import ApiError

HEADER = "x-evergreen-variant"
_VARIANT_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")


class Receive:
    """IncomingRequest → Request. Checks size, encoding, JSON, fields, key, model: in the order of cost.

    Without `access` nobody with AWS credentials is let in. `operations` are found by their path. `guards`
    stands for the guards where they answer in a model's place.
    """

    def __init__(
        self,
        operations: Mapping[str, Operation],
        catalogue: LiveCatalogue,
        guards: ModelEntry,
        max_body_bytes: int,
        access: AccessSource | None = None,
    ) -> None:
        self._operations = operations
        self._catalogue = catalogue
        self._guards = guards
        self._max_body_bytes = max_body_bytes
        self._access = access

    def operation(self, route: str) -> Operation | None:
        """The operation on a public path."""
        return self._operations.get(route)

    def __call__(self, route: str, incoming: IncomingRequest) -> Request:
        """Raises ApiError 404, 413, 400, 401 or 403; pydantic's own errors are mapped with the others."""
        operation = self._operations.get(route)
        if operation is None:
            known = ", ".join(self._operations)
            raise ApiError(
                "not_found_error", f"There is no such route; this API serves {known}.", code="unknown_route"
            )
        asked = self._parsed(operation, incoming.body)
        context = self._context(incoming)
        principal = Principal.from_context(context)
        called, catalogue = cast(Any, asked), self._catalogue.read()
        if isinstance(asked, ModerationRequest) and asked.by_guards and catalogue.find(asked.model) is None:
            return Request(incoming, operation, self._guards, asked, asked, principal, context)
        entry = find_model(catalogue, operation, called.model, principal)
        body = operation.model_request(asked, principal)
        check_capabilities(entry, body)
        if body.model != entry.name:
            body = body.model_copy(update={"model": entry.name})
        return Request(incoming, operation, entry, asked, body, principal, context)

    def _parsed(self, operation: Operation, body: bytes) -> BaseModel:
        if len(body) > self._max_body_bytes:
            raise ApiError(
                "invalid_request_error",
                f"The body has {len(body)} bytes; at most {self._max_body_bytes} are accepted.",
                code="request_too_large",
                status=413,
            )
        body = body.removeprefix(codecs.BOM_UTF8)  # RFC 8259 lets a reader skip it
        try:
            body.decode()
        except UnicodeDecodeError:
            raise ApiError(
                "invalid_request_error", "The body is not valid UTF-8.", code="invalid_encoding"
            ) from None
        asked: BaseModel = operation.request.model_validate_json(body)
        return asked

    def _context(self, incoming: IncomingRequest) -> Mapping[str, str]:
        context: Mapping[str, str] = incoming.authorizer
        if incoming.principal and self._access is not None:
            context = admit_principal(incoming.principal, self._access)
        if not context.get("tenant"):
            raise ApiError("authentication_error", "A valid API key is needed.", code="invalid_api_key")
        if SCOPE_INFERENCE not in context.get("scopes", "").split():
            raise ApiError(
                "permission_error",
                f"This key lacks the scope '{SCOPE_INFERENCE}'.",
                code="insufficient_scope",
            )
        return context


class Admit:
    """Request → Admission: deadline, guarded body, route. Numbers have no words to refuse with."""

    def __init__(self, models: Models, catalogue: LiveCatalogue) -> None:
        self._models = models
        self._catalogue = catalogue

    def __call__(self, request: Request, guards: GuardSession) -> Admission:
        """Raises ApiError 400 or 403, and 503 where a guard fails."""
        deadline = deadline_ms(request.incoming)
        parts = self._models.parts(request.entry)
        if parts.guard_answer is not None:
            _refuse_logprobs(request.body)
        if parts.guard_prompt is None:
            return Admission(request, request.body, self._route(request), deadline)
        body = parts.guard_prompt(request.body, guards)
        return Admission(request, body, self._route(request), deadline, guards.report.blocked_by)

    def _route(self, request: Request) -> Route:
        """Outside an experiment the endpoint's own weights decide. Raises ApiError for a wrong choice."""
        endpoint = split_endpoint(request.entry)
        routing = None if endpoint is None else self._catalogue.routing(endpoint)
        if HEADER in request.incoming.headers:
            name = _callers_choice(request)
            if endpoint is None:
                raise ApiError("invalid_request_error", "This model has no variants.", code="unknown_variant")
            return Route(routing, name, is_callers_choice=True)
        if routing is None or routing.experiment is None:
            return Route(routing)
        principal = request.principal
        # Two tenants may use the same user id: they are different people.
        user = f"{principal.tenant}/{request.body.user or principal.subject or principal.key_name}"
        return Route(routing, assign(routing, user))


def _refuse_logprobs(body: ModelRequest) -> None:
    """Log probabilities spell out what the guards of an answer take away."""
    asked = isinstance(body, ChatRequest) and body.logprobs
    if asked or (isinstance(body, CompletionRequest) and body.logprobs is not None):
        raise ApiError(
            "invalid_request_error",
            "Answers are guarded here, so 'logprobs' is not available; leave it out.",
            param="logprobs",
            code="unsupported_with_guards",
        )


def _callers_choice(request: Request) -> str:
    """A variant by name, for comparing variants: only with a key made for it, or experiments mean nothing."""
    if SCOPE_CHOOSE_VARIANT not in request.principal.scopes:
        raise ApiError(
            "permission_error",
            f"Naming a variant takes a key with the scope '{SCOPE_CHOOSE_VARIANT}'.",
            code="insufficient_scope",
        )
    name = request.incoming.headers[HEADER]
    if not _VARIANT_NAME.fullmatch(name):
        raise ApiError("invalid_request_error", "There is no such variant.", code="unknown_variant")
    return name


def assign(routing: Routing, user: str) -> str | None:
    """The variant of a user: a point in [0, 1) that depends on (experiment, user) alone, cut by the weights.

    None when no variant has weight. Raising a variant's weight only moves users towards it from its
    neighbours in the list.
    """
    total = sum(route.weight for route in routing.variants)
    if total <= 0:
        return None
    digest = hashlib.sha256(f"{routing.experiment}\0{user}".encode()).digest()
    point = int.from_bytes(digest[:8]) / 2**64 * total
    for route in routing.variants:
        if point < route.weight:
            return route.name
        point -= route.weight
    return next(route.name for route in reversed(routing.variants) if route.weight > 0)
