"""A caller with AWS credentials: from the ARN that API Gateway has checked to the tenant it calls for."""

from __future__ import annotations

import time
from collections.abc import Callable

from contracts.access import context_of, principal_pk
from lambdas.aws.access_table import AccessSource
from lambdas.runtime.errors import ApiError


def admit_principal(arn: str, access: AccessSource, clock: Callable[[], float] = time.time) -> dict[str, str]:
    """What an authorizer would say of the caller. Raises ApiError 403 in the same words for whoever is not
    let in, and 503 where the table cannot be asked."""
    try:
        key = access.find(principal_pk(arn))
    except ValueError:
        key = None
    except Exception as error:
        raise ApiError(
            "overloaded_error", "The caller could not be checked.", code="access_unavailable", retry_after=2
        ) from error
    if key is None or key.refusal(clock()):
        raise ApiError(
            "permission_error",
            "This IAM principal may not call: an operator has to admit it.",
            code="unknown_principal",
        )
    return context_of(key)
