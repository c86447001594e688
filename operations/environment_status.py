"""What an environment is doing now, gathered once, for `status` and for the proof. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from pydantic import BaseModel

from contracts.access import PREFIXES
from contracts.routing import CHAMPION
from infra.settings.endpoint import ServerlessEndpoint
from operations.aws_errors import explain
from operations.dynamodb import to_item
from operations.inventory import DeployedStack, environment_stacks, physical_ids, stack_resources
from operations.prices import HOURS_PER_MONTH, instance_usd_per_hour
from operations.release_history import read_lock, read_releases
from operations.target import Target
from operations.token_cost import TokenCost, read_token_cost


class StackStatus(BaseModel):
    """One stack."""

    name: str
    region: str
    status: str
    updated_at: datetime | None


class VariantStatus(BaseModel):
    """One production variant; `image` as it was asked for."""

    name: str
    model_version: str
    weight: float
    instances: int
    desired_instances: int
    image: str


class EndpointStatus(BaseModel):
    """An endpoint; `config_is_the_stacks` is None where its stack has no configuration of its own."""

    name: str
    region: str
    status: str
    failure: str
    config: str
    config_is_the_stacks: bool | None
    created_at: datetime | None = None
    variants: list[VariantStatus]


class RunningRelease(BaseModel):
    """Who holds the endpoint's lock, since when, and how far it is."""

    id: str
    since: datetime
    phase: str
    step: str


class ReleaseResult(BaseModel):
    """How the latest release ended."""

    id: str
    outcome: str
    reason: str


class AlarmStatus(BaseModel):
    """An alarm in ALARM."""

    name: str
    reason: str


class EnvironmentStatus(BaseModel):
    """Everything on the screen. Parts that could not be read are None or empty, and named in `unread`."""

    env: str
    account: str
    regions: list[str]
    stacks: list[StackStatus] = []
    endpoints: list[EndpointStatus] = []
    release: RunningRelease | None = None
    last_release: ReleaseResult | None = None
    alarms: list[AlarmStatus] = []
    usd_per_month_now: float | None = None
    usd_per_month_cap: float
    set_token_prices: tuple[float, float] | None = None
    """US dollars per million input and output tokens, as callers are charged; None where none are set."""
    token_cost: TokenCost | None = None
    usd_per_thousand_requests_goal: float | None = None
    keys: int | None = None
    unread: list[str] = []


def read_status(target: Target) -> EnvironmentStatus:
    """The environment as it is now."""
    status = EnvironmentStatus(
        env=target.name,
        account=target.account,
        regions=target.regions,
        usd_per_month_cap=target.settings.environment.monthly_cost_cap_usd,
        set_token_prices=target.settings.model.token_prices,
        usd_per_thousand_requests_goal=target.settings.goals.cost_per_thousand_requests,
    )
    stacks = environment_stacks(target)
    status.stacks = [
        StackStatus(
            name=stack.name,
            region=stack.region,
            status=stack.status,
            updated_at=stack.description.get("LastUpdatedTime") or stack.description["CreationTime"],
        )
        for stack in stacks
    ]
    parts = {stack.part: stack for stack in stacks}
    for part, work in (
        ("serving", _endpoints),
        ("gateway", _token_cost),
        ("monitoring", _alarms),
        ("data", _releases),
        ("data", _keys),
    ):
        if part not in parts:
            continue
        try:
            work(target, status, stacks)
        except (ClientError, BotoCoreError) as error:
            status.unread.append(f"{work.__name__.strip('_')}: {explain(error)}")
    return status


def _part(stacks: Sequence[DeployedStack], part: str) -> DeployedStack:
    return next(stack for stack in stacks if stack.part == part)


def _endpoints(target: Target, status: EnvironmentStatus, stacks: Sequence[DeployedStack]) -> None:
    own = target.settings
    served = {"serving": own, "failover": own} | {
        there.serving_part: there for there in own.further_endpoints
    }
    for part, settings in served.items():
        stack = next((stack for stack in stacks if stack.part == part), None)
        endpoint = _endpoint(target, stack, settings.endpoint_name) if stack else None
        if endpoint:
            status.endpoints.append(endpoint)
    status.usd_per_month_now = _cost(target, status.endpoints)


def _endpoint(target: Target, stack: DeployedStack, name: str) -> EndpointStatus | None:
    sagemaker = target.client("sagemaker", stack.region)
    try:
        found = sagemaker.describe_endpoint(EndpointName=name)
    except ClientError as error:
        if error.response["Error"]["Code"] == "ValidationException":
            return None  # its stack is being made, or failed
        raise
    resources = stack_resources(target.client("cloudformation", stack.region), stack.name)
    configs = [name.lower() for name in physical_ids(resources, "AWS::SageMaker::EndpointConfig")]
    config = found["EndpointConfigName"]
    return EndpointStatus(
        name=found["EndpointName"],
        region=stack.region,
        status=found["EndpointStatus"],
        failure=found.get("FailureReason", ""),
        config=config,
        config_is_the_stacks=config.lower() in configs if configs else None,
        created_at=found.get("CreationTime"),
        variants=[_variant(entry, stack.parameters) for entry in found.get("ProductionVariants", [])],
    )


def _variant(entry: dict[str, Any], parameters: dict[str, str]) -> VariantStatus:
    role = "Champion" if entry["VariantName"] == CHAMPION else "Challenger"
    instances = entry.get("CurrentInstanceCount", 0)
    return VariantStatus(
        name=entry["VariantName"],
        model_version=parameters.get(f"{role}ModelVersion", ""),
        weight=entry.get("CurrentWeight", entry.get("DesiredWeight", 0.0)),
        instances=instances,
        desired_instances=entry.get("DesiredInstanceCount", instances),
        image=(entry.get("DeployedImages") or [{}])[0].get("SpecifiedImage", ""),
    )


def _cost(target: Target, endpoints: Sequence[EndpointStatus]) -> float | None:
    """What the running instances cost in a month; of several possible types the dearest. None if unknown.

    A further model's serverless endpoint costs by request, which is not counted.
    """
    total = 0.0
    for settings in (target.settings, *target.settings.further_endpoints):
        spec = settings.endpoint
        if isinstance(spec, ServerlessEndpoint):
            if settings is target.settings:
                return None
            continue
        prices = [instance_usd_per_hour(target.settings, name) for name in spec.instances.types]
        known = [price for price in prices if price is not None]
        if not known or len(known) != len(prices):
            return None
        instances = sum(
            variant.instances
            for endpoint in endpoints
            for variant in endpoint.variants
            if endpoint.name == settings.endpoint_name
        )
        total += max(known) * instances * HOURS_PER_MONTH
    return round(total, 2)


def _token_cost(target: Target, status: EnvironmentStatus, stacks: Sequence[DeployedStack]) -> None:
    """Of the first region's endpoint, where the functions count tokens."""
    here = next((endpoint for endpoint in status.endpoints if endpoint.region == target.region), None)
    if here is not None and here.created_at is not None:
        instances = sum(variant.instances for variant in here.variants)
        status.token_cost = read_token_cost(target, instances, here.created_at)


def _alarms(target: Target, status: EnvironmentStatus, stacks: Sequence[DeployedStack]) -> None:
    for region in target.regions:
        pages = (
            target.client("cloudwatch", region)
            .get_paginator("describe_alarms")
            .paginate(
                AlarmNamePrefix=f"{target.settings.prefix}-",
                StateValue="ALARM",
                AlarmTypes=["MetricAlarm", "CompositeAlarm"],
            )
        )
        for page in pages:
            for alarm in [*page.get("MetricAlarms", []), *page.get("CompositeAlarms", [])]:
                status.alarms.append(
                    AlarmStatus(name=alarm["AlarmName"], reason=alarm.get("StateReason", ""))
                )


def _releases(target: Target, status: EnvironmentStatus, stacks: Sequence[DeployedStack]) -> None:
    table = _part(stacks, "data").outputs["LedgerTableName"]
    dynamodb = target.client("dynamodb")
    releases = read_releases(dynamodb, table)
    serving = next((stack for stack in stacks if stack.part == "serving"), None)
    if lock := read_lock(dynamodb, table, target.settings.endpoint_name):
        holder = next((release for release in releases if release.id == lock.release_id), None)
        status.release = RunningRelease(
            id=lock.release_id,
            since=datetime.fromtimestamp(lock.acquired_at, UTC),
            phase=serving.parameters.get("Phase", "steady") if serving else "steady",
            step=holder.step if holder else "",
        )
    if ended := next((release for release in releases if release.outcome), None):
        status.last_release = ReleaseResult(id=ended.id, outcome=ended.outcome or "", reason=ended.reason)


def _keys(target: Target, status: EnvironmentStatus, stacks: Sequence[DeployedStack]) -> None:
    conditions = " OR ".join(f"begins_with(pk, :p{number})" for number in range(len(PREFIXES)))
    pages = (
        target.client("dynamodb")
        .get_paginator("scan")
        .paginate(
            TableName=_part(stacks, "data").outputs["AccessTableName"],
            Select="COUNT",
            FilterExpression=f"({conditions}) AND (attribute_not_exists(revoked) OR revoked = :no)",
            ExpressionAttributeValues=to_item(
                {f":p{number}": prefix for number, prefix in enumerate(PREFIXES)} | {":no": False}
            ),
        )
    )
    status.keys = sum(page["Count"] for page in pages)
