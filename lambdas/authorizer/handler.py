"""Entry of both authorizers: API Gateway's event in, of type REQUEST or TOKEN, policy and context out."""

from __future__ import annotations

from typing import Any

from lambdas.authorizer.claims import AuthorizationError
from lambdas.authorizer.environment import AuthorizerEnvironment
from lambdas.authorizer.service import Authorizer
from lambdas.authorizer.tokens import TokenVerifier
from lambdas.aws.access_table import AccessTable
from lambdas.aws.dynamodb import DynamoDB
from lambdas.runtime import environment, logs
from lambdas.runtime.environment import load

_settings = load(AuthorizerEnvironment)
_logger = logs.Logger("authorizer", _settings.log_level)
_tokens = TokenVerifier(_settings.jwt_issuers) if _settings.jwt_issuers else None
_authorizer = Authorizer(AccessTable(_settings.access_table, DynamoDB()), _tokens)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Let a caller in, or raise `Unauthorized`: API Gateway makes it 401, and anything else 500."""
    logs.correlate(_request_id(event, context), environment.trace_id())
    try:
        return _authorizer.admit(event)
    except AuthorizationError as refusal:
        _logger.info("refused", reason=refusal.reason)
        # API Gateway knows this exact text; the reason stays in the log.
        raise Exception("Unauthorized") from None


def _request_id(event: dict[str, Any], context: Any) -> str:
    """API Gateway's id of the request; an event of type TOKEN has none, so there it is Lambda's own."""
    request: dict[str, str] = event.get("requestContext") or {}
    return request.get("requestId") or str(context.aws_request_id)
