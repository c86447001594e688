"""The variables of the authorizer."""

from __future__ import annotations

from pydantic import Json

from contracts.jwt_issuers import TokenIssuer
from lambdas.runtime.function_environment import FunctionEnvironment


class AuthorizerEnvironment(FunctionEnvironment):
    """Variables of the authorizer. `jwt_issuers` is JSON; without it tokens open nothing."""

    jwt_issuers: Json[list[TokenIssuer]] = []
