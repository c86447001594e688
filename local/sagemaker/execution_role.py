"""What SageMaker does in an execution role's name without a request of its own, and the role must be allowed.

One method for each thing, used wherever it happens; the role's own policies decide, as the emulator's IAM
evaluates them. Reads and writes of S3 and SNS are requests with the role's credentials and are refused there;
what is asked of the key behind them is in `object_keys`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from local.sagemaker.ports import CloudServices
from local.sagemaker.store import Identity

_IMAGE = re.compile(
    r"^(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/(?P<repository>[^:@]+)"
)
_PULL = ("BatchGetImage", "GetDownloadUrlForLayer", "BatchCheckLayerAvailability")


class ExecutionRoleError(Exception):
    """The role is not allowed what SageMaker wants to do in its name; in the service's words."""


@dataclass(frozen=True)
class ExecutionRole:
    """One role by its ARN."""

    arn: str
    cloud: CloudServices
    identity: Identity

    def pull_image(self, image: str) -> None:
        """Fetch a container image from its registry. Raises ExecutionRoleError."""
        found = _IMAGE.match(image)
        if found is None:  # no image of ECR's: whoever resolves it refuses it
            return
        repository = f"arn:aws:ecr:{found['region']}:{found['account']}:repository/{found['repository']}"
        needs = {"GetAuthorizationToken": "*"} | dict.fromkeys(_PULL, repository)
        for verb, resource in needs.items():
            if not self._allows(f"ecr:{verb}", resource):
                raise ExecutionRoleError(
                    f"The role '{self.arn}' does not have {verb} permission for the image: '{image}'."
                )

    def open_volume(self, key: str) -> None:
        """Attach a volume under a key: look at the key, make a grant for it. Raises ExecutionRoleError."""
        self._require("kms:DescribeKey", self._key_arn(key))
        self._require("kms:CreateGrant", self._key_arn(key), {"kms:GrantIsForAWSResource": "true"})

    def describe_alarms(self, names: Iterable[str]) -> None:
        """Watch the rollback alarms of an update. Raises ExecutionRoleError."""
        for name in names:
            self._require("cloudwatch:DescribeAlarms", self._local_arn("cloudwatch", f"alarm:{name}"))

    def use_key(self, action: str, key: str, service: str) -> None:
        """Use a key through a service, as `kms:Decrypt` through `s3`. Raises ExecutionRoleError."""
        if "alias/aws/" in key:  # the service's own key admits whoever may use the service
            return
        via = {"kms:ViaService": f"{service}.{self.identity.region}.amazonaws.com"}
        self._require(action, self._key_arn(key), via)

    def may_write_log(self, group: str, stream: str) -> bool:
        """Whether lines arrive in a log stream; without the right to, they are lost without a word."""
        streams = self._local_arn("logs", f"log-group:{group}:log-stream:")
        needs = {"logs:CreateLogStream": streams, "logs:PutLogEvents": streams + stream}
        if not self.cloud.log_group_exists(group):
            needs["logs:CreateLogGroup"] = streams
        return all(self._allows(action, resource) for action, resource in needs.items())

    def may_publish_metrics(self, namespace: str) -> bool:
        """Whether a job's metrics arrive; without the right to, they are lost without a word."""
        return self._allows("cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": namespace})

    def _require(self, action: str, resource: str, context: Mapping[str, str] | None = None) -> None:
        if not self._allows(action, resource, context):
            name = self.arn.rpartition("/")[2]
            raise ExecutionRoleError(
                f"User: arn:aws:sts::{self.identity.account}:assumed-role/{name}/SageMaker is not authorized "
                f"to perform: {action} on resource: {resource} because no identity-based policy allows the "
                f"{action} action"
            )

    def _allows(self, action: str, resource: str, context: Mapping[str, str] | None = None) -> bool:
        return self.cloud.role_allows(self.arn, action, resource, context or {})

    def _key_arn(self, key: str) -> str:
        return key if key.startswith("arn:") else self._local_arn("kms", f"key/{key}")

    def _local_arn(self, service: str, resource: str) -> str:
        return f"arn:aws:{service}:{self.identity.region}:{self.identity.account}:{resource}"
