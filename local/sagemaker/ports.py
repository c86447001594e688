"""The other services that SageMaker uses. The plug-in binds them to the emulator, tests to a fake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol


class RoleCredentials(NamedTuple):
    """Temporary credentials of an execution role."""

    access_key_id: str
    secret_access_key: str
    session_token: str
    role_arn: str = ""


class CloudServices(Protocol):
    """The other services, as far as SageMaker uses them on the account's behalf."""

    endpoint_url: str

    def put_metric_data(self, namespace: str, data: Sequence[Mapping[str, Any]]) -> None:
        """Publish metrics.

        Args:
            namespace: As `AWS/SageMaker`.
            data: In the shape of PutMetricData's MetricData.
        """

    def put_log_events(self, group: str, stream: str, events: Sequence[tuple[int, str]]) -> None:
        """Append to a log stream, which is made if it is missing.

        Args:
            group: The log group's name.
            stream: The log stream's name.
            events: Pairs of milliseconds since the epoch and a line.
        """

    def emit_event(self, detail_type: str, detail: Mapping[str, Any], resources: Sequence[str]) -> None:
        """Put an `aws.sagemaker` event on the default bus.

        Args:
            detail_type: As `SageMaker Endpoint State Change`.
            detail: The event's JSON detail; times in milliseconds since the epoch.
            resources: The ARNs that the event is about.
        """

    def publish(self, credentials: RoleCredentials, topic_arn: str, message: str) -> None:
        """Publish to an SNS topic as an execution role. Blocks: call it on a thread.

        Args:
            credentials: Of the execution role.
            topic_arn: The topic.
            message: The message's text.

        Raises:
            botocore.exceptions.ClientError: The role may not publish, or there is no such topic.
        """

    def role_credentials(self, role_arn: str) -> RoleCredentials:
        """Assume an execution role as `sagemaker.amazonaws.com`.

        Args:
            role_arn: The role.

        Returns:
            Temporary credentials of the role.

        Raises:
            PermissionError: There is no such role, or it does not trust SageMaker.
        """

    def role_allows(self, role_arn: str, action: str, resource: str, context: Mapping[str, str]) -> bool:
        """Evaluate a role's own policies.

        Args:
            role_arn: The role.
            action: As `ecr:BatchGetImage`.
            resource: The ARN that it is about, or `*`.
            context: Condition keys and their values.

        Returns:
            Whether they allow it.
        """

    def log_group_exists(self, group: str) -> bool:
        """Look for a log group.

        Args:
            group: Its name.

        Returns:
            Whether there is one.
        """

    async def alarms_in_alarm(self, names: Sequence[str]) -> list[str]:
        """Evaluate alarms now.

        Args:
            names: Names of metric or composite alarms.

        Returns:
            The names of those in state ALARM.
        """
