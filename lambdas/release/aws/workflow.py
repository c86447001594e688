"""Step Functions and the approvers' topic: what runs, and how approvals are asked for and answered."""

from __future__ import annotations

import json
from typing import Any

from botocore.exceptions import ClientError

from lambdas.release.aws.clients import code_of

_RUNNING = {"RUNNING", "PENDING_REDRIVE"}
_NO_LONGER_WAITS = {"TaskTimedOut", "TaskDoesNotExist", "InvalidToken"}


class Workflow:
    """Executions of the state machine, and its tasks that wait with a token."""

    def __init__(self, stepfunctions: Any) -> None:
        self._stepfunctions = stepfunctions

    def is_running(self, execution_arn: str) -> bool:
        """Whether the execution still runs, or may be redriven; one that is not known any more does not."""
        try:
            found = self._stepfunctions.describe_execution(executionArn=execution_arn)
        except ClientError as error:
            if code_of(error) == "ExecutionDoesNotExist":
                return False
            raise
        return found["status"] in _RUNNING

    def send_success(self, task_token: str) -> bool:
        """Let the task succeed. False where it no longer waits."""
        return self._send("send_task_success", taskToken=task_token, output=json.dumps({}))

    def send_failure(self, task_token: str, cause: str) -> bool:
        """Let the task fail as `ApprovalRefused`. False where it no longer waits."""
        return self._send("send_task_failure", taskToken=task_token, error="ApprovalRefused", cause=cause)

    def _send(self, operation: str, **parameters: str) -> bool:
        try:
            getattr(self._stepfunctions, operation)(**parameters)
        except ClientError as error:
            if code_of(error) in _NO_LONGER_WAITS:
                return False
            raise
        return True


class ApprovalTopic:
    """The topic that approvers subscribe to."""

    def __init__(self, topic_arn: str, sns: Any) -> None:
        self._topic_arn = topic_arn
        self._sns = sns

    def notify(self, subject: str, text: str) -> None:
        """Send a message; the subject is cut at the service's 100 characters."""
        self._sns.publish(TopicArn=self._topic_arn, Subject=subject[:100], Message=text)
