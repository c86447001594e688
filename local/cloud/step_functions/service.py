"""Step Functions' tasks under the state machine's own role.

Tasks that call an AWS API do so as a client with the role's credentials, so that the service checks them like
anybody's. A `.sync` task waits for its SageMaker job and stops it when nobody waits any more. Executions are
counted in `AWS/States`.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from local.cloud import ministack_adapter
from local.cloud.config import CloudConfig
from local.cloud.step_functions import execution_logs, task_permissions
from local.cloud.step_functions.sdk_shapes import from_reply, to_request

_PRINCIPAL = "states.amazonaws.com"
_PREFIX = "arn:aws:states:::"
_NAMESPACE = "AWS/States"
_POLL_SECONDS = 1.0
_CLIENT = Config(connect_timeout=5, read_timeout=60, retries={"max_attempts": 2})
_COUNTS = {
    "RUNNING": "ExecutionsStarted",
    "SUCCEEDED": "ExecutionsSucceeded",
    "FAILED": "ExecutionsFailed",
    "ABORTED": "ExecutionsAborted",
    "TIMED_OUT": "ExecutionsTimedOut",
}
# Optimized integrations by service: boto3's name, the prefix of error names, that of unnamed errors.
_OPTIMIZED = {
    "dynamodb": ("dynamodb", "DynamoDB", "AmazonDynamoDBException"),
    "events": ("events", "EventBridge", "AmazonEventBridgeException"),
    "sagemaker": ("sagemaker", "SageMaker", "AmazonSageMakerException"),
    "sns": ("sns", "SNS", "AmazonSNSException"),
    "sqs": ("sqs", "SQS", "AmazonSQSException"),
    "states": ("stepfunctions", "StepFunctions", "AWSStepFunctionsException"),
}
# Fields that these integrations take as JSON and send as text.
_AS_TEXT = {"sns": ("Message",), "sqs": ("MessageBody",), "events": ("Detail",), "states": ("Input",)}
_SDK_NAMES = {"sfn": "stepfunctions", "cloudwatchlogs": "logs", "eventbridge": "events"}
_SDK_PREFIXES = {
    "cloudformation": "CloudFormation",
    "cloudwatchlogs": "CloudWatchLogs",
    "cloudwatch": "CloudWatch",
    "dynamodb": "DynamoDb",
    "eventbridge": "EventBridge",
    "sagemaker": "SageMaker",
    "sagemakerruntime": "SageMakerRuntime",
    "secretsmanager": "SecretsManager",
}
_NAMED_ERRORS = {"ResourceInUse", "ResourceLimitExceeded", "ResourceNotFound"}
_JOBS = {"createTrainingJob": "TrainingJob", "createProcessingJob": "ProcessingJob"}


def register(config: CloudConfig) -> None:
    """Run tasks, check state machines and count executions from now on."""
    runner = _TaskRunner(config)
    ministack_adapter.set_task_runner(runner.run)
    ministack_adapter.check_state_machines(runner.check_machine)
    ministack_adapter.on_execution_change(_count)
    ministack_adapter.on_execution_event(execution_logs.write)


class _TaskRunner:
    def __init__(self, config: CloudConfig) -> None:
        self._config = config
        self._session = boto3.session.Session(region_name=config.region)
        self._making = threading.Lock()

    def run(self, task: ministack_adapter.StateMachineTask, original: Callable[[], Any]) -> Any:
        """One task, after its role was asked. Raises TaskError."""
        needs = task_permissions.of_task(task.resource, task.input, self._config.account, self._config.region)
        for need in needs:
            if not ministack_adapter.role_allows(task.role_arn, need.action, need.resource, need.context):
                raise ministack_adapter.TaskError(
                    _refused_as(task.resource), task_permissions.refusal(task.role_arn, need)
                )
        service, _, operation = task.resource.removeprefix(_PREFIX).partition(":")
        if service == "aws-sdk":
            return self._sdk(task, *operation.split(":", 1))
        if service in _OPTIMIZED and task.resource.startswith(_PREFIX):
            return self._optimized(task, service, operation)
        return original()

    def check_machine(self, role_arn: str, definition: str) -> None:
        """Refuse a state machine whose role could not be assumed or could not make the rules it needs."""
        if not ministack_adapter.trusts(role_arn, _PRINCIPAL):
            raise PermissionError(
                "Neither the global service principal states.amazonaws.com, nor the regional one is "
                "authorized to assume the provided role."
            )
        parsed = task_permissions.parsed(definition)
        for need in task_permissions.of_definition(parsed, self._config.account, self._config.region):
            if not ministack_adapter.role_allows(role_arn, need.action, need.resource):
                raise PermissionError(f"'{role_arn}' is not authorized to create managed-rule.")

    def _optimized(self, task: ministack_adapter.StateMachineTask, service: str, operation: str) -> Any:
        name, prefix, unnamed = _OPTIMIZED[service]
        operation, _, mode = operation.partition(".")
        data = _with_text(task.input, _AS_TEXT.get(service, ()))
        client = self._client(task, name)
        call = _ServiceCall(client, operation, prefix, unnamed)
        if service == "sagemaker" and mode.startswith("sync"):
            return _run_job(call, task, _JOBS.get(operation, ""), data)
        if service == "states" and mode.startswith("sync"):
            return _run_execution(call, task, data, output_as_json=mode == "sync:2")
        return call.reply(call(data))

    def _sdk(self, task: ministack_adapter.StateMachineTask, service: str, operation: str = "") -> Any:
        name = _SDK_NAMES.get(service, service)
        prefix = _SDK_PREFIXES.get(service, service.capitalize())
        call = _ServiceCall(self._client(task, name), operation, prefix, f"{prefix}Exception")
        return call.reply(call(task.input))

    def _client(self, task: ministack_adapter.StateMachineTask, service: str) -> Any:
        name = task.execution_arn.rpartition(":")[2]
        try:
            credentials = ministack_adapter.role_credentials(task.role_arn, name[:64], service=_PRINCIPAL)
        except PermissionError as error:
            raise ministack_adapter.TaskError("States.Runtime", str(error)) from None
        if service not in self._session.get_available_services():
            raise ministack_adapter.TaskError(
                "States.Runtime", f"The service {service} of {task.resource} is unknown."
            )
        with self._making:  # making a client is not safe from several threads
            return self._session.client(
                service,
                endpoint_url=self._config.endpoint_url,
                aws_access_key_id=credentials.access_key_id,
                aws_secret_access_key=credentials.secret_access_key,
                aws_session_token=credentials.session_token,
                config=_CLIENT,
            )


class _ServiceCall:
    """One operation of one service, with its errors by the names that Retry and Catch know."""

    def __init__(self, client: Any, operation: str, prefix: str, unnamed: str) -> None:
        self.client = client
        self._operation = operation[:1].upper() + operation[1:]
        self._prefix = prefix
        self._unnamed = unnamed

    def __call__(self, data: Any) -> dict[str, Any]:
        """The reply to a request in the integration's spelling."""
        return self.named(self._operation, to_request(self.client, self._operation, data))

    def reply(self, found: dict[str, Any]) -> Any:
        """What the task answers, times as text."""
        return from_reply(self.client, self._operation, found, lambda moment: moment.isoformat())

    def named(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """The reply to a request in the API's spelling. Raises TaskError."""
        methods = {known: method for method, known in self.client.meta.method_to_api_mapping.items()}
        if operation not in methods:
            raise ministack_adapter.TaskError(
                "States.Runtime", f"{self._prefix} has no operation {operation}."
            )
        try:
            reply = getattr(self.client, methods[operation])(**request)
        except ClientError as error:
            raise self._failure(error) from error
        except BotoCoreError as error:
            cause = f"The Parameters could not be used to start the Task: {error}"
            raise ministack_adapter.TaskError("States.Runtime", cause) from error
        return {name: value for name, value in reply.items() if name != "ResponseMetadata"}

    def _failure(self, error: ClientError) -> ministack_adapter.TaskError:
        code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        cause = f"{message} (Service: {self._prefix}; Status Code: {status}; Error Code: {code})"
        name = f"{code}Exception" if code in _NAMED_ERRORS else code
        known = name.endswith("Exception") and name not in ("ValidationException", "AccessDeniedException")
        return ministack_adapter.TaskError(f"{self._prefix}.{name if known else self._unnamed}", cause)


def _run_job(call: _ServiceCall, task: ministack_adapter.StateMachineTask, noun: str, data: Any) -> Any:
    """Create a SageMaker job and wait for its end. Failed and stopped jobs fail the task with their whole
    description as the cause. When nobody waits any more, the job is stopped."""
    if not noun:
        raise ministack_adapter.TaskError(
            "States.Runtime", f"The laptop cloud cannot wait for {task.resource}."
        )
    call(data)
    named = {f"{noun}Name": data[f"{noun}Name"]}
    while True:
        found = call.named(f"Describe{noun}", named)
        if found[f"{noun}Status"] not in ("InProgress", "Stopping"):
            break
        if task.is_abandoned():
            if found[f"{noun}Status"] == "InProgress":
                call.named(f"Stop{noun}", named)
            raise ministack_adapter.TaskError(
                "States.TaskFailed", f"{noun} {data[f'{noun}Name']} was stopped"
            )
        time.sleep(_POLL_SECONDS)
    description = from_reply(
        call.client, f"Describe{noun}", found, lambda moment: int(moment.timestamp() * 1000)
    )
    if found[f"{noun}Status"] != "Completed":
        raise ministack_adapter.TaskError("States.TaskFailed", json.dumps(description))
    return description


def _run_execution(
    call: _ServiceCall, task: ministack_adapter.StateMachineTask, data: Any, *, output_as_json: bool
) -> Any:
    """Start an execution of another state machine and wait for its end. One that does not succeed fails the
    task with its description as the cause. When nobody waits any more, it is stopped."""
    named = {"executionArn": call(data)["executionArn"]}
    while (found := call.named("DescribeExecution", named))["status"] == "RUNNING":
        if task.is_abandoned():
            call.named("StopExecution", named)
            raise ministack_adapter.TaskError(
                "States.TaskFailed", f"{named['executionArn']} was stopped: the task has ended."
            )
        time.sleep(_POLL_SECONDS)
    description = from_reply(
        call.client, "DescribeExecution", found, lambda moment: int(moment.timestamp() * 1000)
    )
    if found["status"] != "SUCCEEDED":
        raise ministack_adapter.TaskError("States.TaskFailed", json.dumps(description))
    if output_as_json and "Output" in description:
        description["Output"] = json.loads(description["Output"])
    return description


def _with_text(data: Any, fields: tuple[str, ...]) -> Any:
    """The input with JSON values of some fields as text, at the top or in entries below."""
    if isinstance(data, list):
        return [_with_text(item, fields) for item in data]
    if not isinstance(data, dict) or not fields:
        return data
    return {
        name: json.dumps(value)
        if name in fields and isinstance(value, dict | list)
        else (_with_text(value, fields) if name == "Entries" else value)
        for name, value in data.items()
    }


def _refused_as(resource: str) -> str:
    """The error's name under which each integration reports a refusal."""
    if ":lambda:" in resource:
        return "Lambda.AWSLambdaException"
    if ":aws-sdk:" in resource:
        return "SageMaker.SageMakerException"
    return "SageMaker.AmazonSageMakerException" if ":sagemaker:" in resource else "States.AccessDenied"


def _count(execution: Mapping[str, Any]) -> None:
    """The metrics of one execution's start or end."""
    dimensions = [{"Name": "StateMachineArn", "Value": execution["stateMachineArn"]}]
    data = [{"MetricName": _COUNTS[execution["status"]], "Value": 1.0, "Unit": "Count"}]
    if execution["status"] != "RUNNING":
        started, ended = (
            datetime.fromisoformat(execution[name].replace("Z", "+00:00"))
            for name in ("startDate", "stopDate")
        )
        milliseconds = (ended - started).total_seconds() * 1000
        data.append({"MetricName": "ExecutionTime", "Value": milliseconds, "Unit": "Milliseconds"})
    ministack_adapter.put_metric_data(_NAMESPACE, [{**datum, "Dimensions": dimensions} for datum in data])
