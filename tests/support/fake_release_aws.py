"""The services that a release moves, small: they refuse parameters that botocore's model would refuse."""

from __future__ import annotations

import hashlib
import io
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.session
from botocore.exceptions import ClientError, ParamValidationError
from botocore.response import StreamingBody
from botocore.validate import ParamValidator

from lambdas.aws.dynamodb import ConditionFailedError, DynamoError, from_item

_session = botocore.session.Session()


def refusal(code: str, message: str) -> ClientError:
    """An error as a service answers it."""
    return ClientError({"Error": {"Code": code, "Message": message}}, "Operation")


class Service:
    """Notes every call and holds its parameters to the service's own model."""

    name: str

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self._model = _session.get_service_model(self.name)

    def received(self, operation: str) -> list[dict[str, Any]]:
        """The parameters of each call of an operation."""
        return [parameters for name, parameters in self.calls if name == operation]

    def _check(self, operation: str, parameters: dict[str, Any]) -> None:
        self.calls.append((operation, parameters))
        pascal = "".join(part.capitalize() for part in operation.split("_"))
        report = ParamValidator().validate(parameters, self._model.operation_model(pascal).input_shape)
        if report.has_errors():
            raise ParamValidationError(report=report.generate_report())


class CloudFormation(Service):
    """One stack with an endpoint configuration and its models. An update lasts until `finish` or `roll_back`.

    Each finished update leaves another configuration: `generations` holds the parameters it was made from.
    """

    name = "cloudformation"

    def __init__(self, parameters: dict[str, str], stack: str = "evergreen-test-serving") -> None:
        super().__init__()
        self.stack = stack
        self.parameters = dict(parameters)
        self.before = dict(parameters)
        self.status = "CREATE_COMPLETE"
        self.updates = 0
        self.events: list[dict[str, Any]] = []
        self.shape = "0123456789ab"
        self.rollback_alarms: list[str] = []
        self.updated_at = datetime(2027, 1, 15, tzinfo=UTC)
        self.generations = [dict(parameters)]

    def describe_stacks(self, **parameters: Any) -> dict[str, Any]:
        self._check("describe_stacks", parameters)
        described = [{"ParameterKey": k, "ParameterValue": v} for k, v in self.parameters.items()]
        updated = self.updated_at + timedelta(minutes=self.updates)
        outputs = [{"OutputKey": "EndpointShape", "OutputValue": self.shape}] if self.shape else []
        if self.rollback_alarms:
            outputs.append({"OutputKey": "RollbackAlarms", "OutputValue": ",".join(self.rollback_alarms)})
        stack = {"StackStatus": self.status, "Parameters": described, "LastUpdatedTime": updated}
        return {"Stacks": [stack | {"Outputs": outputs}]}

    def get_paginator(self, operation: str) -> CloudFormation:
        assert operation == "list_stack_resources"
        return self

    def paginate(self, **parameters: Any) -> list[dict[str, Any]]:
        self._check("list_stack_resources", parameters)
        arn = f"arn:aws:sagemaker:us-east-1:123456789012:endpoint-config/config-{len(self.generations) - 1}"
        config = {"ResourceType": "AWS::SageMaker::EndpointConfig", "PhysicalResourceId": arn}
        other = {"ResourceType": "AWS::IAM::Role", "PhysicalResourceId": "role"}
        return [{"StackResourceSummaries": [other]}, {"StackResourceSummaries": [config]}]

    def describe_stack_events(self, **parameters: Any) -> dict[str, Any]:
        self._check("describe_stack_events", parameters)
        return {"StackEvents": self.events}

    def update(self, changes: dict[str, str]) -> None:
        """An update of these parameters begins, as the state machine of the stack update begins it."""
        assert not self.status.endswith(("_IN_PROGRESS", "_FAILED")), self.status
        assert changes.keys() <= self.parameters.keys()
        wanted = self.parameters | changes
        if wanted == self.parameters:
            return
        self.before, self.parameters = self.parameters, wanted
        self.status = "UPDATE_IN_PROGRESS"
        self.updates += 1

    def finish(self) -> None:
        self.status = "UPDATE_COMPLETE"
        self.generations.append(dict(self.parameters))

    def roll_back(self, resource: str, reason: str) -> None:
        self.status, self.parameters = "UPDATE_ROLLBACK_COMPLETE", self.before
        self.events = [
            {"LogicalResourceId": "Other", "ResourceStatus": "UPDATE_FAILED"}
            | {"ResourceStatusReason": "Resource update cancelled"},
            {
                "LogicalResourceId": resource,
                "ResourceStatus": "UPDATE_FAILED",
                "ResourceStatusReason": reason,
            },
            {"LogicalResourceId": self.stack, "ResourceStatus": "UPDATE_IN_PROGRESS"},
            {
                "LogicalResourceId": "Old",
                "ResourceStatus": "UPDATE_FAILED",
                "ResourceStatusReason": "long ago",
            },
        ]


class SageMaker(Service):
    """One endpoint whose variants follow the stack's phase, and a model registry."""

    name = "sagemaker"

    def __init__(self, stack: CloudFormation) -> None:
        super().__init__()
        self._stack = stack
        self.status = "InService"
        self.failure: str | None = None
        self.weights = {"champion": 1.0, "challenger": 0.1}
        self.counts = {"champion": 2, "challenger": 2}
        self.rests_after = 0  # describe calls until an update is over
        self.lost: set[str] = set()
        self.packages: dict[str, dict[str, Any]] = {}
        self.generation: int | None = None  # the stack's generation that serves; None for its latest
        self.image = "registry/serving:1"
        self.deleted: set[str] = set()  # names of configurations that are no more

    def take_back(self) -> None:
        """Serve the generation before the stack's latest again, and say no word of it."""
        self.generation = len(self._stack.generations) - 2

    def describe_endpoint_config(self, **parameters: Any) -> dict[str, Any]:
        self._check("describe_endpoint_config", parameters)
        name = parameters["EndpointConfigName"]
        if name in self.deleted:
            raise refusal("ValidationException", f'Could not find endpoint configuration "{name}".')
        made_from = self._stack.generations[int(name.removeprefix("config-"))]
        phase = made_from.get("Phase", "steady")

        def variant(role: str) -> dict[str, Any]:
            return {"VariantName": role, "ModelName": f"{role}-{name.removeprefix('config-')}"}

        answer = {"EndpointConfigName": name, "ProductionVariants": [variant("champion")]}
        if phase == "ab":
            answer["ProductionVariants"].append(variant("challenger"))
        if phase == "shadow":
            answer["ShadowProductionVariants"] = [variant("challenger")]
        return answer

    def describe_model(self, **parameters: Any) -> dict[str, Any]:
        self._check("describe_model", parameters)
        role, _, generation = parameters["ModelName"].partition("-")
        made_from = self._stack.generations[int(generation)]
        source = {"S3DataSource": {"S3Uri": made_from[f"{role.title()}ModelUri"]}}
        environment = {"EVERGREEN_MODEL_DIGEST": made_from[f"{role.title()}ModelDigest"]}
        container = {"Image": "registry/serving:1", "ModelDataSource": source, "Environment": environment}
        return {"ModelName": parameters["ModelName"], "PrimaryContainer": container}

    def describe_endpoint(self, **parameters: Any) -> dict[str, Any]:
        self._check("describe_endpoint", parameters)
        if self.rests_after:
            self.rests_after -= 1
            if not self.rests_after:
                self.status = "InService"
        names = {"steady": ["champion"], "shadow": ["champion"], "ab": ["champion", "challenger"]}
        latest = len(self._stack.generations) - 1
        serving = latest if self.generation is None else self.generation
        answer: dict[str, Any] = {
            "EndpointName": parameters["EndpointName"],
            "EndpointConfigName": f"config-{serving}",
            "EndpointStatus": self.status,
            "ProductionVariants": [
                self._variant(name)
                for name in names[self._stack.parameters.get("Phase", "steady")]
                if name not in self.lost
            ],
        }
        if self._stack.parameters.get("Phase") == "shadow":
            answer["ShadowProductionVariants"] = [self._variant("challenger")]
        return answer | ({"FailureReason": self.failure} if self.failure else {})

    def _variant(self, name: str) -> dict[str, Any]:
        return {
            "VariantName": name,
            "DesiredWeight": self.weights[name],
            "DesiredInstanceCount": self.counts[name],
            "DeployedImages": [{"SpecifiedImage": self.image}],
        }

    def update_endpoint_weights_and_capacities(self, **parameters: Any) -> dict[str, Any]:
        self._check("update_endpoint_weights_and_capacities", parameters)
        if self.status != "InService":
            raise refusal("ValidationException", "Cannot update in-progress endpoint")
        for wanted in parameters["DesiredWeightsAndCapacities"]:
            self.weights[wanted["VariantName"]] = wanted["DesiredWeight"]
            self.counts[wanted["VariantName"]] = wanted["DesiredInstanceCount"]
        self.status, self.rests_after = "Updating", 2
        return {"EndpointArn": "x"}

    def create_model_package(self, **parameters: Any) -> dict[str, Any]:
        self._check("create_model_package", parameters)
        arn = f"arn:aws:sagemaker:us-east-1:123456789012:model-package/group/{parameters['ClientToken'][:8]}"
        self.packages[arn] = parameters
        return {"ModelPackageArn": arn}

    def update_model_package(self, **parameters: Any) -> dict[str, Any]:
        self._check("update_model_package", parameters)
        self.packages[parameters["ModelPackageArn"]]["ModelApprovalStatus"] = parameters[
            "ModelApprovalStatus"
        ]
        return {"ModelPackageArn": parameters["ModelPackageArn"]}


class CloudWatch(Service):
    """Alarms by name: their state, and their history as CloudWatch keeps it."""

    name = "cloudwatch"

    def __init__(self) -> None:
        super().__init__()
        self.states: dict[str, str] = {}
        self.history: list[dict[str, Any]] = []

    def describe_alarms(self, **parameters: Any) -> dict[str, Any]:
        self._check("describe_alarms", parameters)
        found = [
            {"AlarmName": name, "StateValue": state, "StateReason": "Threshold Crossed"}
            for name, state in self.states.items()
            if name in parameters["AlarmNames"]
        ]
        return {"MetricAlarms": found, "CompositeAlarms": []}

    def describe_alarm_history(self, **parameters: Any) -> dict[str, Any]:
        self._check("describe_alarm_history", parameters)
        since = parameters.get("StartDate", datetime.min.replace(tzinfo=UTC))
        found = [item for item in self.history if item["AlarmName"] == parameters["AlarmName"]]
        return {"AlarmHistoryItems": [item for item in found if item["Timestamp"] >= since]}


class AutoScaling(Service):
    """Scalable targets by resource id, and their policies."""

    name = "application-autoscaling"

    def __init__(self) -> None:
        super().__init__()
        self.targets: dict[str, dict[str, Any]] = {}
        self.policies: dict[str, list[dict[str, Any]]] = {}

    def scale(self, resource_id: str, least: int, most: int) -> None:
        """A target with one policy, as a deployment leaves it."""
        self.targets[resource_id] = {"MinCapacity": least, "MaxCapacity": most}
        tracking = {"TargetValue": 44.0, "ScaleInCooldown": 600}
        self.policies[resource_id] = [
            {"PolicyName": "track", "PolicyType": "TargetTrackingScaling"}
            | {"TargetTrackingScalingPolicyConfiguration": tracking}
        ]

    def describe_scalable_targets(self, **parameters: Any) -> dict[str, Any]:
        self._check("describe_scalable_targets", parameters)
        return {
            "ScalableTargets": [self.targets[one] for one in parameters["ResourceIds"] if one in self.targets]
        }

    def register_scalable_target(self, **parameters: Any) -> dict[str, Any]:
        self._check("register_scalable_target", parameters)
        named = {"ServiceNamespace", "ResourceId", "ScalableDimension"}
        given = {key: value for key, value in parameters.items() if key not in named}
        self.targets.setdefault(parameters["ResourceId"], {}).update(given)
        return {}

    def deregister_scalable_target(self, **parameters: Any) -> dict[str, Any]:
        self._check("deregister_scalable_target", parameters)
        if parameters["ResourceId"] not in self.targets:
            raise refusal("ObjectNotFoundException", "No scalable target found")
        del self.targets[parameters["ResourceId"]]
        self.policies.pop(parameters["ResourceId"], None)
        return {}

    def describe_scaling_policies(self, **parameters: Any) -> dict[str, Any]:
        self._check("describe_scaling_policies", parameters)
        return {"ScalingPolicies": self.policies.get(parameters["ResourceId"], [])}

    def put_scaling_policy(self, **parameters: Any) -> dict[str, Any]:
        self._check("put_scaling_policy", parameters)
        kept = self.policies.setdefault(parameters["ResourceId"], [])
        kept[:] = [policy for policy in kept if policy["PolicyName"] != parameters["PolicyName"]]
        kept.append(parameters)
        return {"PolicyARN": "x"}


class StepFunctions(Service):
    """Executions by ARN with a status, and tasks that wait by token."""

    name = "stepfunctions"

    def __init__(self) -> None:
        super().__init__()
        self.executions: dict[str, str] = {}
        self.causes: dict[str, str] = {}
        self.waiting: set[str] = set()

    def start_execution(self, **parameters: Any) -> dict[str, Any]:
        self._check("start_execution", parameters)
        assert re.fullmatch(r"[A-Za-z0-9-]{1,80}", parameters["name"])
        arn = f"{parameters['stateMachineArn'].replace(':stateMachine:', ':execution:')}:{parameters['name']}"
        if self.executions.get(arn, "RUNNING") != "RUNNING":
            raise refusal("ExecutionAlreadyExists", "an execution of this name has ended")
        self.executions[arn] = "RUNNING"
        return {"executionArn": arn, "startDate": 0}

    def describe_execution(self, **parameters: Any) -> dict[str, Any]:
        self._check("describe_execution", parameters)
        arn = parameters["executionArn"]
        if arn not in self.executions:
            raise refusal("ExecutionDoesNotExist", "no such execution")
        return {"status": self.executions[arn]} | ({"cause": self.causes[arn]} if arn in self.causes else {})

    def send_task_success(self, **parameters: Any) -> dict[str, Any]:
        self._check("send_task_success", parameters)
        return self._end(parameters["taskToken"])

    def send_task_failure(self, **parameters: Any) -> dict[str, Any]:
        self._check("send_task_failure", parameters)
        return self._end(parameters["taskToken"])

    def _end(self, token: str) -> dict[str, Any]:
        if token not in self.waiting:
            raise refusal("TaskTimedOut", "the task has timed out")
        self.waiting.discard(token)
        return {}


class Topic(Service):
    """Messages that went out."""

    name = "sns"

    def publish(self, **parameters: Any) -> dict[str, Any]:
        self._check("publish", parameters)
        return {"MessageId": "1"}


class Bucket(Service):
    """Objects by key; `replication` is what S3 says of an object's copy in another region."""

    name = "s3"

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[str, bytes] = {}
        self.replication: dict[str, str] = {}

    def head_object(self, **parameters: Any) -> dict[str, Any]:
        self._check("head_object", parameters)
        key = parameters["Key"]
        status = {"ReplicationStatus": self.replication[key]} if key in self.replication else {}
        return {"ContentLength": len(self.objects[key])} | status

    def get_object(self, **parameters: Any) -> dict[str, Any]:
        self._check("get_object", parameters)
        if parameters["Key"] not in self.objects:
            raise refusal("NoSuchKey", "The specified key does not exist.")
        content = self.objects[parameters["Key"]]
        return {"ContentLength": len(content), "Body": StreamingBody(io.BytesIO(content), len(content))}

    def get_paginator(self, operation: str) -> Bucket:
        assert operation == "list_objects_v2"
        return self

    def paginate(self, **parameters: Any) -> list[dict[str, Any]]:
        self._check("list_objects_v2", parameters)
        found = [key for key in self.objects if key.startswith(parameters["Prefix"])]
        return [{"Contents": [self._entry(key)]} for key in found] or [{}]

    def _entry(self, key: str) -> dict[str, Any]:
        content = self.objects[key]
        tag = f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
        return {"Key": key, "Size": len(content), "ETag": tag}


class Tables:
    """moto's DynamoDB behind the functions' own protocol."""

    def __init__(self, dynamodb: Any) -> None:
        self._dynamodb = dynamodb

    def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        method = re.sub(r"(?<!^)([A-Z])", r"_\1", operation).lower()
        try:
            answer: dict[str, Any] = getattr(self._dynamodb, method)(**parameters)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "ConditionalCheckFailedException":
                raise ConditionFailedError(code, from_item({})) from None
            raise DynamoError(code) from error
        return answer
