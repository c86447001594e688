"""What serves and what the serving stack asks for, as the services describe them.

Only reads; contracts.serving_state compares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from contracts import serving_state
from contracts.serving_state import Descriptions, TrippedAlarm
from lambdas.release.aws.clients import code_of

_ALARM_TYPES = ["MetricAlarm", "CompositeAlarm"]  # without them CloudWatch tells of metric alarms alone
_NOT_FOUND = {"ValidationException", "ResourceNotFound"}


class ServingState:
    """One serving stack and its endpoint."""

    def __init__(
        self, stack: str, endpoint: str, cloudformation: Any, sagemaker: Any, cloudwatch: Any
    ) -> None:
        """Take the clients that the descriptions come from.

        Args:
            stack: The serving stack's name.
            endpoint: The endpoint's name.
            cloudformation: boto3's client.
            sagemaker: boto3's client.
            cloudwatch: boto3's client; asked only where the stack names rollback alarms.
        """
        self._stack, self._endpoint = stack, endpoint
        self._cloudformation, self._sagemaker, self._cloudwatch = cloudformation, sagemaker, cloudwatch

    def describe(self) -> Descriptions:
        """What the services say now."""
        stack = self._cloudformation.describe_stacks(StackName=self._stack)["Stacks"][0]
        pages = self._cloudformation.get_paginator("list_stack_resources").paginate(StackName=self._stack)
        resources = [entry for page in pages for entry in page["StackResourceSummaries"]]
        endpoint = self._sagemaker.describe_endpoint(EndpointName=self._endpoint)
        configs = _existing(
            lambda name: self._sagemaker.describe_endpoint_config(EndpointConfigName=name),
            serving_state.config_names(resources, endpoint),
        )
        models = _existing(
            lambda name: self._sagemaker.describe_model(ModelName=name),
            serving_state.model_names(configs.values(), []),
        )
        return Descriptions(stack, resources, endpoint, configs, models)

    def tripped_alarms(self, found: Descriptions) -> list[TrippedAlarm]:
        """The rollback alarms that were in ALARM since the stack's latest update began."""
        names = serving_state.rollback_alarms(found.stack)
        if not names:
            return []
        states = self._cloudwatch.describe_alarms(AlarmNames=names, AlarmTypes=_ALARM_TYPES)
        since: datetime | None = found.stack.get("LastUpdatedTime")
        history = [
            item
            for name in names
            for item in self._cloudwatch.describe_alarm_history(
                AlarmName=name, AlarmTypes=_ALARM_TYPES, HistoryItemType="StateUpdate"
            )["AlarmHistoryItems"]
        ]
        return serving_state.tripped_alarms(
            [*states.get("MetricAlarms", []), *states.get("CompositeAlarms", [])], history, since
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
