"""What SageMaker needs of the rest of the cloud. The plug-in binds it to the emulator, tests to a fake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol


class RoleCredentials(NamedTuple):
    """Temporary credentials of an execution role."""

    access_key_id: str
    secret_access_key: str
    session_token: str


class CloudServices(Protocol):
    """The other services, as far as SageMaker uses them on the account's behalf."""

    endpoint_url: str

    def put_metric_data(self, namespace: str, data: Sequence[Mapping[str, Any]]) -> None:
        """Publish metrics, in the shape of PutMetricData's MetricData."""

    def put_log_events(self, group: str, stream: str, events: Sequence[tuple[int, str]]) -> None:
        """Append (milliseconds since the epoch, line) to a log stream."""

    def emit_event(self, detail_type: str, detail: Mapping[str, Any], resources: Sequence[str]) -> None:
        """Put an `aws.sagemaker` event on the default bus."""

    def publish(self, credentials: RoleCredentials, topic_arn: str, message: str) -> None:
        """Publish to an SNS topic as an execution role; blocking. Raises botocore's errors."""

    def role_credentials(self, role_arn: str) -> RoleCredentials:
        """Assume an execution role as `sagemaker.amazonaws.com`; raises PermissionError when it may not."""

    async def alarms_in_alarm(self, names: Sequence[str]) -> list[str]:
        """Those of the named alarms that are in state ALARM now."""
