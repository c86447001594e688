"""Champion and challenger on the endpoint: what stands there, and who gets which share of the traffic.

Two rules hold everywhere. Callers are sent to a variant only while it is there: before a variant comes or
goes the routing item sends everyone to the champion. And CloudFormation owns which variants exist, the API of
SageMaker their weights. Knows neither the lock nor the ledger.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Protocol

from contracts import guardrails
from contracts.release_tasks import Phase, ServedModel
from contracts.routing import CHALLENGER, CHAMPION, Routing, VariantRoute
from lambdas.release.aws.endpoint import EndpointState
from lambdas.release.aws.scaling import Bounds
from lambdas.release.aws.stack import StackState
from lambdas.release.errors import EndpointBusyError, StackBusyError, TopologyFailedError
from lambdas.release.serving_check import Serving, check_serving

_WAIT_SECONDS, _POLL_SECONDS = 90.0, 3.0
_VARIANTS: dict[str, tuple[set[str], set[str]]] = {
    "steady": ({CHAMPION}, set()),
    "shadow": ({CHAMPION}, {CHALLENGER}),
    "ab": ({CHAMPION, CHALLENGER}, set()),
}
_NO_CHALLENGER = {"ChallengerModelUri": "", "ChallengerModelDigest": "", "ChallengerModelVersion": ""}


class Stack(Protocol):
    """The serving stack."""

    def describe(self) -> StackState:
        """The stack now."""

    def failure(self) -> str:
        """The first cause in the latest update's events."""


class Endpoint(Protocol):
    """The endpoint."""

    def describe(self) -> EndpointState:
        """The endpoint now."""

    def resize(self, wanted: Mapping[str, tuple[float, int]]) -> None:
        """Set weight and instance count by variant."""


class Scaling(Protocol):
    """Who else changes the number of machines."""

    def bounds(self) -> Bounds | None:
        """The champion's bounds; None where its number is fixed."""

    def hold(self) -> None:
        """Stop it."""

    def held(self) -> bool:
        """Whether it is stopped."""

    def let_go(self) -> None:
        """Let it go on."""

    def follow_challenger(self) -> None:
        """Begin to scale the challenger."""

    def leave_challenger(self) -> None:
        """Stop scaling the challenger for good."""


class RoutingSink(Protocol):
    """Where the front door reads the split."""

    def write(self, routing: Routing) -> None:
        """Put the routing item."""


class Topology:
    """One endpoint and its stack.

    What plans an update answers the stack's parameters that change. Only the state machine of the stack
    update may apply them.
    """

    def __init__(
        self,
        endpoint_name: str,
        stack: Stack,
        endpoint: Endpoint,
        routing: RoutingSink,
        scaling: Scaling,
        serving: Serving,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take the parts of one endpoint.

        Args:
            endpoint_name: The endpoint's name.
            stack: The serving stack.
            endpoint: The endpoint.
            routing: Where the front door reads the split.
            scaling: Who else changes the number of machines.
            serving: What serves, and what the stack asks for.
            clock: Seconds that only grow.
            sleep: Waits for so many seconds.
        """
        self._endpoint_name = endpoint_name
        self._stack = stack
        self._endpoint = endpoint
        self._routing = routing
        self._scaling = scaling
        self._serving = serving
        self._clock = clock
        self._sleep = sleep

    def champion(self) -> ServedModel:
        """What the stack names as champion. Raises StackBusyError during an update: it may roll back."""
        state = self._stack.describe()
        if state.is_changing:
            raise StackBusyError(f"The serving stack is being updated ({state.status}).")
        return state.champion

    def phase(self) -> str:
        """What the stack is meant to run beside the champion."""
        return self._stack.describe().phase

    def image(self) -> str:
        """The container image that the champion was deployed with."""
        return self._endpoint.describe().variants[CHAMPION].image

    def start(self, release_id: str, champion: ServedModel, challenger: ServedModel) -> dict[str, str]:
        """Plan to put the challenger beside the champion; nobody is sent to it yet."""
        self._pin(release_id, champion.version)
        self._rest()
        plain = self._stack_at_rest().plain(champion.version)
        self._scaling.hold()
        return {**_parameters("Challenger", challenger), "Phase": "ab", **plain}

    def share(self, release_id: str, share: float, champion: ServedModel, challenger: ServedModel) -> None:
        """Move weights, then callers. Raises TopologyFailedError where the challenger is not there."""
        present = self._rest().variants
        if CHALLENGER not in present:
            raise TopologyFailedError(f"The endpoint {self._endpoint_name} has no variant {CHALLENGER}.")
        self._scaling.follow_challenger()
        self._weigh({CHAMPION: 1 - share, CHALLENGER: share})
        self._route(
            release_id,
            VariantRoute(name=CHAMPION, weight=1 - share, model_version=champion.version),
            VariantRoute(name=CHALLENGER, weight=share, model_version=challenger.version),
        )

    def promote(self, release_id: str, champion: ServedModel, challenger: ServedModel) -> dict[str, str]:
        """Plan to replace the champion's model: at full size it takes all traffic again first."""
        self._fill()
        self._pin(release_id, champion.version)
        self._weigh({CHAMPION: 1.0, CHALLENGER: 0.0})
        self._rest()
        self._stack_at_rest()
        # Both variants stand before and after, so the service accepts guardrails for this update.
        return {**_parameters("Champion", challenger), "Phase": "ab", guardrails.PARAMETER: guardrails.USE}

    def retire(self, release_id: str, challenger: ServedModel) -> dict[str, str]:
        """Plan to take the challenger variant away; the champion serves its model by now."""
        self._pin(release_id, challenger.version)
        self._rest()
        plain = self._stack_at_rest().plain(challenger.version)
        self._scaling.hold()
        self._scaling.leave_challenger()
        return {**_NO_CHALLENGER, "Phase": "steady", **plain}

    def restore(self, release_id: str, champion: ServedModel) -> dict[str, str]:
        """Plan to go back to this champion alone; empty where the stack says so already."""
        state = self._stack.describe()
        if state.is_at_rest and state.phase == "steady" and state.champion == champion:
            return {}
        self._pin(release_id, champion.version)  # at once: what is being left may be harming callers
        self._fill()
        self._rest()
        plain = self._stack_at_rest().plain(champion.version)
        self._scaling.leave_challenger()
        return {**_parameters("Champion", champion), **_NO_CHALLENGER, "Phase": "steady", **plain}

    def settled(self, phase: Phase) -> bool:
        """Whether stack and endpoint rest in `phase` and what serves is what the stack asks for.

        Raises RolledBackError where SageMaker took the update back, otherwise TopologyFailedError with the
        reason.
        """
        state = self._stack.describe()
        if state.is_changing:
            return False
        # A rolled-back update left the phase before it; only in `steady` can that be what was wanted.
        if state.phase != phase or not state.is_at_rest or (state.rolled_back and phase != "steady"):
            cause = self._stack.failure() or state.reason or "no reason was given"
            raise TopologyFailedError(
                f"The serving stack is in {state.status} (phase {state.phase}): {cause}"
            )
        endpoint = self._endpoint.describe()
        if endpoint.is_changing:
            return False
        if not endpoint.in_service:
            raise TopologyFailedError(
                f"The endpoint is {endpoint.status}: {endpoint.failure or 'no reason was given'}"
            )
        check_serving(self._serving)
        if (set(endpoint.variants), set(endpoint.shadows)) != _VARIANTS[phase]:
            there = ", ".join(sorted({*endpoint.variants, *endpoint.shadows}))
            raise TopologyFailedError(f"The phase is {phase}, but the endpoint's variants are {there}.")
        self._scaling.let_go()
        if phase == "steady":
            self._route(None, VariantRoute(name=CHAMPION, weight=1.0, model_version=state.champion.version))
        return True

    def _stack_at_rest(self) -> StackState:
        """The stack where it can be updated. Raises StackBusyError during an update, which may roll back."""
        state = self._stack.describe()
        if state.is_changing:
            raise StackBusyError(f"The serving stack is being updated ({state.status}).")
        if not state.is_at_rest:
            raise TopologyFailedError(f"The serving stack is in {state.status}: it cannot be updated.")
        return state

    def _pin(self, release_id: str, version: str) -> None:
        """Send everyone to the champion by name, whatever the endpoint's weights are."""
        self._route(release_id, VariantRoute(name=CHAMPION, weight=1.0, model_version=version))

    def _route(self, experiment: str | None, *variants: VariantRoute) -> None:
        self._routing.write(
            Routing(endpoint_name=self._endpoint_name, experiment=experiment, variants=list(variants))
        )

    def _weigh(self, weights: Mapping[str, float]) -> None:
        """Set weights where they differ, at the counts that the variants have, once the endpoint rests."""
        variants = self._rest().variants
        wanted = {name: weight for name, weight in weights.items() if name in variants}
        if any(abs(variants[name].weight - weight) > 1e-6 for name, weight in wanted.items()):
            self._endpoint.resize(
                {name: (weight, variants[name].instances) for name, weight in wanted.items()}
            )

    def _fill(self) -> None:
        """Let the champion have the machines for all traffic, and keep them until the topology has settled.

        While it shared the traffic it may have been scaled down to its share. Scaling that is held already
        says that this was done: machines may take longer to start than this function lasts, and then it is
        asked again.
        """
        variants = self._rest().variants
        bounds = self._scaling.bounds()
        if bounds and not self._scaling.held() and {CHAMPION, CHALLENGER} <= set(variants):
            champion = variants[CHAMPION]
            wanted = min(bounds.most, champion.instances + variants[CHALLENGER].instances)
            if wanted > champion.instances:
                self._endpoint.resize({CHAMPION: (champion.weight, wanted)})
        self._scaling.hold()

    def _rest(self) -> EndpointState:
        """The endpoint once it is not being updated. Raises EndpointBusyError after a while."""
        deadline = self._clock() + _WAIT_SECONDS
        while (state := self._endpoint.describe()).is_changing:
            if self._clock() >= deadline:
                raise EndpointBusyError(f"The endpoint {self._endpoint_name} is still {state.status}.")
            self._sleep(_POLL_SECONDS)
        return state


def _parameters(role: str, model: ServedModel) -> dict[str, str]:
    return {
        f"{role}ModelUri": model.uri,
        f"{role}ModelDigest": model.digest,
        f"{role}ModelVersion": model.version,
    }
