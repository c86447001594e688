"""How many requests are in flight: what the model's machines hold, and what Lambda keeps for them.

A caller above the model's capacity gets 503 with Retry-After from the function; one above the function's
concurrency gets Lambda's throttling, a server error. So the function may hold more than the model. Knows
nothing of CDK.
"""

from __future__ import annotations

import math

from infra.settings.components import ScaleToZeroEndpoint
from infra.settings.endpoint import AnyEndpoint, AsyncEndpoint, RealtimeEndpoint, ServerlessEndpoint
from infra.settings.engine import NeuronSettings
from infra.settings.exclusions import exclusion
from infra.settings.functions import CAPACITY, FunctionSettings

UNRESERVED = 100  # what Lambda keeps for functions without a reservation
_MARGIN = 1.1  # for those who are answered without the model, or refused

_ACCOUNT = exclusion(
    "reserved-concurrency",
    refuses="a reserved concurrency that leaves the account's other functions fewer than 100",
    why="Lambda keeps 100 of the account's concurrent executions unreserved.",
    change="a smaller number, or functions.account_concurrency where the account's limit is higher",
)
_MODEL = exclusion(
    "concurrency-below-model",
    refuses="a reserved concurrency below what the model's machines hold",
    why="Callers would get Lambda's throttling, a server error, while the model can take them.",
    change=f"{CAPACITY}, or a number from what the machines hold",
)


def challenger_most(least: int, most: int) -> int:
    """Machines that a challenger may grow to: a stage gives it at most half of the traffic, as a rule."""
    return max(least, math.ceil(most / 2))


def held(spec: AnyEndpoint, *, challenger: bool = False) -> int:
    """Requests that the model's machines decode and queue at most; a challenger's with them if asked."""
    if isinstance(spec, ServerlessEndpoint):
        return spec.max_concurrency
    if isinstance(spec, AsyncEndpoint):
        return spec.max_concurrent_requests * spec.instances.max
    # Neuron's image bounds no queue: what is not decoded yet waits there without a limit.
    queued = 0 if isinstance(spec.engine, NeuronSettings) else spec.engine.max_queued_requests
    each = spec.engine.max_running_requests + queued
    if isinstance(spec, ScaleToZeroEndpoint):
        return each * spec.copies.max
    most = spec.instances.max
    beside = challenger_most(spec.instances.min, most) if challenger else 0
    return each * (most + beside)


def reserved(
    functions: FunctionSettings, spec: AnyEndpoint, *, challenger: bool, further: int = 0
) -> int | None:
    """What `inference` reserves of the account's concurrency, with a challenger if there may be one.

    `further` requests are what the endpoints of other models hold.
    """
    given = functions.reserved_concurrency
    if given is None or isinstance(given, int):
        return given
    available = functions.account_concurrency - UNRESERVED
    return (
        min(available, math.ceil(_MARGIN * (held(spec, challenger=challenger) + further)))
        if available > 0
        else None
    )


def check_concurrency(functions: FunctionSettings, spec: AnyEndpoint) -> None:
    """A number that is given fits the account and the model. Raises RuleError from the file's root."""
    given, account = functions.reserved_concurrency, functions.account_concurrency
    if not isinstance(given, int):
        return
    available = account - UNRESERVED
    path = ("functions", "reserved_concurrency")
    if given > available:
        raise _ACCOUNT.refusal(
            *path,
            what=f"{given} of the account's {account} cannot be reserved.",
            change=(f"a number up to {available}" if available > 0 else "leave the key out")
            + ", or account_concurrency where the account's limit is higher",
            example=available if available > 0 else None,
        )
    needed = min(available, held(spec))
    if isinstance(spec, RealtimeEndpoint | ScaleToZeroEndpoint) and given < needed:
        raise _MODEL.refusal(
            *path,
            what=f"{given} requests in flight are fewer than the {held(spec)} that the machines hold.",
            change=f"{CAPACITY}, or a number from {needed} up to {available}",
            example=CAPACITY,
        )
