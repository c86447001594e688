"""Whether an environment's endpoints serve what its stacks ask for: the last step of every update.

SageMaker may take an update back with the stack complete and the endpoint in service
(contracts.serving_state); then the command fails, the release ledger gets a row and CloudWatch a metric,
which an alarm watches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from botocore.exceptions import ClientError

from contracts import metrics, serving_state
from contracts.serving_state import Descriptions, TrippedAlarm
from operations.aws_errors import code_of
from operations.inventory import stack_resources
from operations.progress import CommandError
from operations.recovery import NEVER_CREATED
from operations.release_writes import LedgerWriter
from operations.stacks import StackError, describe_stack, stack_output
from operations.target import Target

REST_SECONDS = 1800.0
POLL_SECONDS = 5.0
_ALARM_TYPES = ["MetricAlarm", "CompositeAlarm"]  # without them CloudWatch tells of metric alarms alone
_NOT_FOUND = {"ValidationException", "ResourceNotFound"}
_CHANGING = {"Creating", "Updating", "SystemUpdating", "RollingBack"}


class RolledBackError(CommandError):
    """SageMaker took an update back though the stack says that it was made."""


def served_endpoints(target: Target) -> list[tuple[str, str, str]]:
    """Region, stack and name of every endpoint: the own one's in each region, then further models'."""
    settings = target.settings
    own = [(target.region, target.stack("serving"), settings.endpoint_name)]
    if settings.failover:
        own.append((settings.failover.region, target.stack("failover"), settings.endpoint_name))
    further = settings.further_endpoints
    return own + [(target.region, target.stack(one.serving_part), one.endpoint_name) for one in further]


def check_serving(
    target: Target,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
    *,
    in_ledger: bool = True,
) -> str:
    """Compares every endpoint that there is with its stack.

    Args:
        target: The environment.
        clock: Seconds since the epoch.
        sleep: Waits for so many seconds.
        in_ledger: Write a rollback into the release ledger; not where the caller does.

    Returns:
        A note on what serves.

    Raises RolledBackError, with the alarm that caused it, where SageMaker took an update back, and
    CommandError where another model or image serves, or an endpoint does not come to rest.
    """
    serving = []
    for region, stack, endpoint in served_endpoints(target):
        found = _at_rest(target, region, stack, endpoint, clock, sleep)
        if found is None:
            continue
        if wrong := serving_state.differences(found):
            if serving_state.is_rolled_back(found):
                raise _rolled_back(target, region, found, clock if in_ledger else None)
            words = "; ".join(map(str, wrong))
            raise CommandError(f"{found.endpoint['EndpointName']} serves otherwise than asked: {words}.")
        serving.append(str(found.endpoint["EndpointConfigName"]))
    return ", ".join(serving)


def _at_rest(
    target: Target,
    region: str,
    stack: str,
    endpoint: str,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> Descriptions | None:
    """The descriptions once the endpoint rests; None where there is no such stack."""
    deadline = clock() + REST_SECONDS
    while True:
        found = _describe(target, region, stack, endpoint)
        if found is None or found.endpoint["EndpointStatus"] not in _CHANGING:
            return found
        if clock() >= deadline:
            raise CommandError(
                f"{found.endpoint['EndpointName']} is still {found.endpoint['EndpointStatus']} after "
                f"{REST_SECONDS / 60:g} minutes: look at `make status ENV={target.name}`."
            )
        sleep(POLL_SECONDS)


def _describe(target: Target, region: str, stack_name: str, endpoint_name: str) -> Descriptions | None:
    cloudformation = target.client("cloudformation", region)
    sagemaker = target.client("sagemaker", region)
    stack = describe_stack(cloudformation, stack_name)
    if stack is None or stack["StackStatus"] in NEVER_CREATED:
        return None
    resources = stack_resources(cloudformation, stack_name)
    endpoint = sagemaker.describe_endpoint(EndpointName=endpoint_name)
    components = [
        sagemaker.describe_inference_component(InferenceComponentName=name)
        for name in serving_state.physical_names(resources, serving_state.COMPONENT_TYPE)
    ]
    configs = _existing(
        lambda name: sagemaker.describe_endpoint_config(EndpointConfigName=name),
        serving_state.config_names(resources, endpoint),
    )
    models = _existing(
        lambda name: sagemaker.describe_model(ModelName=name),
        serving_state.model_names(configs.values(), components),
    )
    return Descriptions(stack, resources, endpoint, configs, models, components)


def _rolled_back(
    target: Target, region: str, found: Descriptions, clock: Callable[[], float] | None
) -> RolledBackError:
    """The error, once the metric and, where there is a `clock`, the ledger hold it."""
    message = serving_state.rollback_message(found, _tripped(target, region, found))
    dimensions = [{"Name": metrics.DIM_ENDPOINT, "Value": target.settings.endpoint_name}]
    datum = {"MetricName": metrics.UPDATES_ROLLED_BACK, "Dimensions": dimensions, "Unit": "Count", "Value": 1}
    try:
        target.client("cloudwatch").put_metric_data(Namespace=metrics.NAMESPACE, MetricData=[datum])
        if clock:
            table = stack_output(target.client("cloudformation"), target.name, "data", "LedgerTableName")
            ledger = LedgerWriter(target.client("dynamodb"), table, f"deploy-{int(clock())}", clock)
            detail = {"error": RolledBackError.__name__, "region": region}
            ledger.note("deploy", "rolled_back", message, detail)
            ledger.note("release_lock", "failed", message, {"lock": "not held"})
    except (ClientError, StackError) as error:
        # What serves is worse news than what could not be written about it.
        return RolledBackError(f"{message} (Neither recorded: {error}) Next: make why ENV={target.name}")
    return RolledBackError(f"{message} Next: make why ENV={target.name}")


def _tripped(target: Target, region: str, found: Descriptions) -> list[TrippedAlarm]:
    names = serving_state.rollback_alarms(found.stack)
    if not names:
        return []
    cloudwatch = target.client("cloudwatch", region)
    states = cloudwatch.describe_alarms(AlarmNames=names, AlarmTypes=_ALARM_TYPES)
    history = [
        item
        for name in names
        for item in cloudwatch.describe_alarm_history(
            AlarmName=name, AlarmTypes=_ALARM_TYPES, HistoryItemType="StateUpdate"
        )["AlarmHistoryItems"]
    ]
    return serving_state.tripped_alarms(
        [*states.get("MetricAlarms", []), *states.get("CompositeAlarms", [])],
        history,
        found.stack.get("LastUpdatedTime"),
    )


def _existing(
    describe: Callable[[str], Mapping[str, Any]], names: Iterable[str]
) -> dict[str, Mapping[str, Any]]:
    """Descriptions by name of those that exist: what runs may have been deleted after it was taken up."""
    found = {}
    for name in names:
        try:
            found[name] = describe(name)
        except ClientError as error:
            if code_of(error) not in _NOT_FOUND:
                raise
    return found
