"""The role through which API Gateway writes any log: one per account and region, so `bootstrap` owns it.

A stack that set it would take it from every other environment's, and from other APIs. Where the account has
one already it stays.
"""

from __future__ import annotations

import json
import time
from typing import Any

from botocore.exceptions import ClientError

from operations.aws_errors import code_of
from operations.progress import CommandError, Step

ROLE = "evergreen-apigateway-logs"
_POLICY = "service-role/AmazonAPIGatewayPushToCloudWatchLogs"
_TRIES, _PAUSE_SECONDS = 10, 3  # a role is known everywhere after some seconds
_TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "apigateway.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}


def set_account_log_role(gateway: Any, iam: Any, step: Step, pause: float = _PAUSE_SECONDS) -> None:
    """Give the account, in the region of `gateway`, a log role where it has none.

    Raises CommandError where API Gateway does not take the role.
    """
    present = gateway.get_account().get("cloudwatchRoleArn")
    if present:
        step.note = f"already set: {present}"
        return
    arn = _role(iam)
    change = {"op": "replace", "path": "/cloudwatchRoleArn", "value": arn}
    for _ in range(_TRIES):
        try:
            gateway.update_account(patchOperations=[change])
        except ClientError as error:
            if code_of(error) != "BadRequestException":
                raise
            time.sleep(pause)
        else:
            step.note = arn
            return
    raise CommandError(
        f"API Gateway does not take {arn} as the account's log role: look at the role's trust and policy in "
        "IAM, and run bootstrap again."
    )


def _role(iam: Any) -> str:
    try:
        made = iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps(_TRUST))
    except ClientError as error:
        if code_of(error) != "EntityAlreadyExists":
            raise
        made = iam.get_role(RoleName=ROLE)
    arn: str = made["Role"]["Arn"]
    policy = f"arn:{arn.split(':')[1]}:iam::aws:policy/{_POLICY}"
    iam.attach_role_policy(RoleName=ROLE, PolicyArn=policy)
    return arn
