"""Injects faults on request, for rehearsals and fault tests. No part of AWS's API.

A fault holds until it is removed or has occurred as often as asked; none outlives the cloud's process.
`kill` acts once, at once, and is not kept.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from local.sagemaker.instances.location import InstanceLocation

PATH = "/_evergreen/faults"
NO_CAPACITY = (
    "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error. Please "
    "retry using a different ML instance type or after some time."
)
_TARGET = frozenset({"endpoint", "variant", "component", "model"})
_FIELDS = {
    "kill": _TARGET | {"times"},
    "slow": _TARGET | {"seconds", "share", "times"},
    "errors": _TARGET | {"status", "share", "times"},
    "fail_start": _TARGET | {"times"},
    "no_capacity": _TARGET | {"instance_type", "times"},
    "silent_rollback": frozenset({"endpoint", "times"}),
}
# Field → (whether it is a whole number, least, greatest value).
_NUMBERS: dict[str, tuple[bool, float, float]] = {
    "seconds": (False, 0, 600),
    "share": (False, 0, 1),
    "status": (True, 400, 599),
    "times": (True, 1, 1_000_000),
}
_MAX_FAULTS = 100


class InvalidFaultError(ValueError):
    """The request for a fault is invalid; the message says what to change."""


@dataclass
class Fault:
    """One fault. A target that is left out matches everything; exactly `share` of the requests are hit."""

    kind: str
    endpoint: str | None = None
    variant: str | None = None
    component: str | None = None
    model: str | None = None
    instance_type: str | None = None
    seconds: float = 1.0
    share: float = 1.0
    status: int = 500
    times: int | None = None
    id: str = field(default_factory=lambda: secrets.token_hex(4))
    seen: int = 0
    struck: int = 0

    def matches(self, location: InstanceLocation) -> bool:
        """Whether it targets a location. Names are compared as SageMaker does, without regard to case."""
        targets = (
            (self.endpoint, location.endpoint),
            (self.variant, location.variant),
            (self.component, location.component or ""),
            (self.model, location.model),
        )
        return all(wanted is None or wanted.lower() == name.lower() for wanted, name in targets)

    def triggers(self) -> bool:
        """Count one more request or start; whether it is one of the `share` that are hit."""
        if self.spent:
            return False
        self.seen += 1
        hit = int(self.seen * self.share + 1e-9) > int((self.seen - 1) * self.share + 1e-9)
        self.struck += hit
        return hit

    @property
    def spent(self) -> bool:
        """Whether it has occurred as often as it was asked to."""
        return self.times is not None and self.struck >= self.times


class FaultInjector:
    """The faults that hold now, asked wherever one may take effect."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def delay(self, location: InstanceLocation) -> float:
        """Seconds that a request waits in front of its container."""
        return sum(fault.seconds for fault in self._targeting("slow", location) if fault.triggers())

    def error(self, location: InstanceLocation) -> int | None:
        """The HTTP status that a container gives in place of an answer; None for none."""
        for fault in self._targeting("errors", location):
            if fault.triggers():
                return fault.status
        return None

    def start_failure(self, location: InstanceLocation) -> str | None:
        """Why a container may not come into service."""
        for fault in self._targeting("fail_start", location):
            if fault.triggers():
                return "The container did not pass the ping health check: a fault was asked for."
        return None

    def capacity_failure(self, location: InstanceLocation, instance_type: str) -> str | None:
        """Why an instance of this type cannot be had."""
        for fault in self._targeting("no_capacity", location):
            if fault.instance_type in (None, instance_type) and fault.triggers():
                return NO_CAPACITY
        return None

    def silences_rollback(self, location: InstanceLocation) -> bool:
        """Whether an update that goes back leaves no failure reason, as some have on AWS: CloudFormation then
        takes it for made (terraform-provider-aws #39099 and #48997)."""
        return any(fault.triggers() for fault in self._targeting("silent_rollback", location))

    def all(self) -> list[dict[str, Any]]:
        """The faults that hold, as the admin call shows them."""
        return [_shown(fault) for fault in self._faults if not fault.spent]

    def add(self, fault: Fault) -> dict[str, Any]:
        """Add a fault; raises InvalidFaultError when there are too many."""
        self._faults = [each for each in self._faults if not each.spent]
        if len(self._faults) >= _MAX_FAULTS:
            raise InvalidFaultError(f"At most {_MAX_FAULTS} faults hold at a time: remove one first.")
        self._faults.append(fault)
        return _shown(fault)

    def remove(self, fault_id: str | None = None) -> bool:
        """Remove one fault, or all of them; whether there was one."""
        before = len(self._faults)
        self._faults = [each for each in self._faults if fault_id is not None and each.id != fault_id]
        return fault_id is None or len(self._faults) < before

    def _targeting(self, kind: str, location: InstanceLocation) -> Iterable[Fault]:
        return (fault for fault in self._faults if fault.kind == kind and fault.matches(location))


def parse_fault(body: bytes) -> Fault:
    """Read the admin call's JSON body; raises InvalidFaultError."""
    try:
        given: Any = json.loads(body)
    except ValueError:
        raise InvalidFaultError("The body must be a JSON object.") from None
    if not isinstance(given, dict) or given.get("kind") not in _FIELDS:
        raise InvalidFaultError(f"`kind` must be one of {', '.join(_FIELDS)}.")
    kind = given["kind"]
    for name in sorted(given.keys() - _FIELDS[kind] - {"kind"}):
        raise InvalidFaultError(
            f"A fault of kind {kind} has no field `{name}`; it has {', '.join(sorted(_FIELDS[kind]))}."
        )
    for name, value in given.items():
        if name not in _NUMBERS:
            if not isinstance(value, str) or not value:
                raise InvalidFaultError(f"`{name}` must be a text.")
            continue
        is_whole, low, high = _NUMBERS[name]
        is_number = isinstance(value, int if is_whole else (int, float)) and not isinstance(value, bool)
        if not is_number or not low <= value <= high:
            raise InvalidFaultError(f"`{name}` must be a number between {low:g} and {high:g}.")
    if not given.keys() & {"endpoint", "component"}:
        raise InvalidFaultError("Aim the fault: name an `endpoint` or a `component`.")
    return Fault(**given)


def handle_admin_request(
    faults: FaultInjector, method: str, path: str, body: bytes, kill: Callable[[Fault], int]
) -> tuple[int, dict[str, Any]]:
    """The admin call: GET lists, POST adds (`kill` ends instances and answers how many), DELETE of
    `/_evergreen/faults/<id>` removes one, of `/_evergreen/faults` all."""
    rest = path.removeprefix(PATH).strip("/")
    if method == "GET" and not rest:
        return 200, {"faults": faults.all()}
    if method == "DELETE":
        found = faults.remove(rest or None)
        return (200, {"faults": faults.all()}) if found else (404, {"error": f"There is no fault {rest}."})
    if method != "POST" or rest:
        return 405, {"error": f"GET, POST and DELETE are known at {PATH}."}
    try:
        fault = parse_fault(body)
        if fault.kind == "kill":
            return 200, {"killed": kill(fault)}
        return 201, faults.add(fault)
    except InvalidFaultError as error:
        return 400, {"error": str(error)}


def _shown(fault: Fault) -> dict[str, Any]:
    relevant = _FIELDS[fault.kind] | {"kind", "id", "struck"}
    return {name: value for name, value in asdict(fault).items() if name in relevant and value is not None}
