"""How many machines an environment needs at once, and whether quotas and region have them.

The arithmetic, for each region: the fleet at its least size, twice where a challenger stands beside the
champion, and twice again where an update starts the new fleet before the old one ends. Jobs count one
training and one processing machine, since the loop runs one of each at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from infra.settings import Settings, instance_offers
from infra.settings.components import ScaleToZeroEndpoint
from infra.settings.endpoint import RealtimeEndpoint, ServerlessEndpoint
from operations.checks.results import Result, failed, passed, unsettled
from operations.target import Target

LAMBDA_CONCURRENCY = "L-B99A9384"
"""The quota "Concurrent executions", whose code AWS documents."""
UNRESERVED = 100
"""What Lambda keeps for functions without a reservation. Source: "Configuring reserved concurrency"."""


@dataclass(frozen=True)
class Need:
    """Machines of one type for one use at the same time. `arithmetic` says how the number comes about."""

    instance_type: str
    use: str
    count: int
    at_full_size: int
    arithmetic: str

    @property
    def quota(self) -> str:
        """The quota's name at SageMaker."""
        return f"{self.instance_type} for {self.use} usage"


def endpoint_need(settings: Settings) -> Need | None:
    """What the endpoint needs in its region; None for kinds without machines."""
    spec = settings.endpoint
    if isinstance(spec, ServerlessEndpoint):
        return None
    least, most, times = max(1, spec.instances.min), spec.instances.max, 2
    words = [f"{least} at least"]
    if settings.refresh is not None and isinstance(spec, RealtimeEndpoint):
        times *= 2
        words.append("× 2 for champion and challenger")
    if isinstance(spec, ScaleToZeroEndpoint):
        # Copies roll: machines for one more batch are started, at most as many as there are.
        words.append("× 2 while an update rolls")
    else:
        words.append("× 2 while an update runs both fleets")
    return Need(spec.instances.type, "endpoint", least * times, most * times, " ".join(words))


def job_needs(settings: Settings) -> Iterator[Need]:
    """What the refresh loop's jobs need."""
    if settings.refresh is None:
        return
    jobs = {"training job": settings.refresh.training, "processing job": settings.refresh.processing}
    for use, job in jobs.items():
        yield Need(job.instance_type, use, 1, 1, "one at a time")


def check_machines(target: Target) -> Iterator[Result]:
    """Quotas of every region, and whether the region hosts the types."""
    second = target.settings.standby
    for settings in (target.settings, *([second] if second else [])):
        region = settings.environment.region
        endpoints = [endpoint_need(one) for one in (settings, *settings.further_endpoints)]
        machines = _together(need for need in endpoints if need)
        needs = [*machines, *job_needs(settings)]
        values = _values(target.client("service-quotas", region), "sagemaker") if needs else {}
        for each in needs:
            yield _against_quota(each, values.get(each.quota), region)
        for need in machines:
            yield _offered(need.instance_type, region)


def _together(needs: Iterable[Need]) -> list[Need]:
    """One need for each instance type: endpoints of the same type share a quota."""
    found: dict[str, Need] = {}
    for need in needs:
        other = found.get(need.instance_type)
        if other is not None:
            words = f"{other.arithmetic}, and {need.arithmetic} for another endpoint"
            need = replace(
                need,
                count=other.count + need.count,
                at_full_size=other.at_full_size + need.at_full_size,
                arithmetic=words,
            )
        found[need.instance_type] = need
    return list(found.values())


def check_concurrency(target: Target) -> Iterator[Result]:
    """Lambda's concurrency against what `functions.reserved_concurrency` takes out of it."""
    subject = f"Lambda concurrency, {target.region}"
    quotas = target.client("service-quotas")
    found = quotas.get_service_quota(ServiceCode="lambda", QuotaCode=LAMBDA_CONCURRENCY)["Quota"]["Value"]
    reserved = target.settings.reserved_concurrency or 0
    needed = reserved + UNRESERVED
    words = f"{found:.0f}, {needed} needed: {reserved} reserved and {UNRESERVED} that must stay free"
    if found >= needed:
        yield passed(subject, words)
    elif not reserved:
        yield unsettled(subject, f"{found:.0f} requests at once in all functions together", _raise("lambda"))
    else:
        rest = found - UNRESERVED
        lower = f"set it to {rest:.0f}" if rest > 0 else "leave it out"
        step = f"{_raise('lambda', needed)}; or, of `functions.reserved_concurrency`, {lower}"
        yield failed(subject, words, step)


def _against_quota(need: Need, value: float | None, region: str) -> Result:
    subject = f"quota, {region}"
    if value is None:
        words = f"'{need.quota}' is not listed by Service Quotas; {need.count} needed: {need.arithmetic}"
        return unsettled(subject, words, "look whether the type's name is right")
    words = f"'{need.quota}' is {value:.0f}, {need.count} needed: {need.arithmetic}"
    if value < need.count:
        return failed(subject, words, _raise("sagemaker", need.count))
    if value < need.at_full_size:
        more = f"{words}; {need.at_full_size} at full size"
        return unsettled(subject, more, _raise("sagemaker", need.at_full_size))
    return passed(subject, words)


def _offered(instance_type: str, region: str) -> Result:
    subject = f"machines, {region}"
    regions = instance_offers.regions("hosting", instance_type)
    if regions is None:
        return unsettled(subject, f"no list of regions is recorded for {instance_type}")
    if region not in regions:
        step = f"take one of {', '.join(regions)}, or another type"
        return failed(subject, f"SageMaker does not offer {instance_type} here", step)
    return passed(subject, f"{instance_type} is offered here; whether one is free shows when it starts")


def _values(quotas: Any, service: str) -> dict[str, float]:
    """Quotas by name: AWS's defaults, and over them what applies to this account."""
    found: dict[str, float] = {}
    for operation in ("list_aws_default_service_quotas", "list_service_quotas"):
        for page in quotas.get_paginator(operation).paginate(ServiceCode=service):
            found |= {quota["QuotaName"]: float(quota["Value"]) for quota in page["Quotas"]}
    return found


def _raise(service: str, to: int | None = None) -> str:
    amount = f" to {to}" if to else ""
    return f"ask for a raise{amount} in the Service Quotas console ({service}), which takes hours to days"
