"""AWS::ApplicationAutoScaling::ScalableTarget and ScalingPolicy, through the API's own control plane.

The functions are coroutines on the service's event loop; the plug-in runs them from worker threads.
"""

from __future__ import annotations

from typing import Any

from local.autoscaling.api import SERVICE, AutoScalingApi
from local.sagemaker.cloudformation import CreatedResource, ResourceFailedError, coerce_types, is_template_tag
from local.sagemaker.errors import AwsApiError
from local.sagemaker.records import JsonObject
from local.sagemaker.request_validation import service_model

TARGET = "AWS::ApplicationAutoScaling::ScalableTarget"
POLICY = "AWS::ApplicationAutoScaling::ScalingPolicy"
CREATE_ONLY = {
    TARGET: ("ResourceId", "ScalableDimension", "ServiceNamespace"),
    POLICY: ("PolicyName", "ResourceId", "ScalableDimension", "ScalingTargetId", "ServiceNamespace"),
}
_KEY = ("ResourceId", "ScalableDimension", "ServiceNamespace")


class ScalingResources:
    """Creates, updates and deletes targets and policies for CloudFormation."""

    def __init__(self, control: AutoScalingApi) -> None:
        self._control = control

    async def put_target(self, properties: JsonObject, old: JsonObject | None = None) -> CreatedResource:
        """Register a target and its scheduled actions; the physical id is `resource|dimension|namespace`."""
        given = {name: value for name, value in properties.items() if name != "ScheduledActions"}
        tags = {tag["Key"]: tag["Value"] for tag in given.pop("Tags", []) if is_template_tag(tag)}
        if tags and old is None:
            given["Tags"] = tags
        answer = await self._call("RegisterScalableTarget", given)
        key = {name: properties[name] for name in _KEY}
        wanted = {action["ScheduledActionName"]: action for action in properties.get("ScheduledActions", [])}
        for action in wanted.values():
            await self._call("PutScheduledAction", {**key, **action})
        for action in (old or {}).get("ScheduledActions", []):
            if action["ScheduledActionName"] not in wanted:
                name = action["ScheduledActionName"]
                await self._call("DeleteScheduledAction", {**key, "ScheduledActionName": name})
        physical_id = "|".join(properties[name] for name in _KEY)
        return physical_id, {"Id": physical_id, "ScalableTargetARN": answer["ScalableTargetARN"]}

    async def delete_target(self, physical_id: str) -> None:
        """Deregister; a target that is gone is no error."""
        await self._delete("DeregisterScalableTarget", _key_of(physical_id))

    async def put_policy(self, properties: JsonObject) -> CreatedResource:
        """Create or change a policy; the physical id is its ARN."""
        given = dict(properties)
        given.pop("Tags", None)
        if target := given.pop("ScalingTargetId", None):
            given |= _key_of(target)
        arn = (await self._call("PutScalingPolicy", given))["PolicyARN"]
        return arn, {"Arn": arn}

    async def delete_policy(self, physical_id: str) -> None:
        """Delete; a policy that is gone is no error."""
        for _, policy in list(self._control.store.policies()):
            if policy["PolicyARN"] == physical_id:
                key = {name: policy[name] for name in (*_KEY, "PolicyName")}
                await self._delete("DeleteScalingPolicy", key)

    async def _delete(self, operation: str, request: JsonObject) -> None:
        try:
            await self._control.call(operation, request)
        except AwsApiError as error:
            if error.code != "ObjectNotFoundException":
                raise _failure(error) from error

    async def _call(self, operation: str, request: JsonObject) -> JsonObject:
        shape = service_model(SERVICE).operation_model(operation).input_shape
        try:
            return await self._control.call(operation, coerce_types(request, shape))
        except AwsApiError as error:
            raise _failure(error) from error


def _failure(error: AwsApiError) -> ResourceFailedError:
    return ResourceFailedError(
        f"{error.message} (Service: ApplicationAutoScaling, Status Code: {error.status})"
    )


def _key_of(physical_id: str) -> dict[str, Any]:
    parts = physical_id.split("|")
    if len(parts) != len(_KEY):
        raise ResourceFailedError(f"{physical_id} is not the id of a scalable target.")
    return dict(zip(_KEY, parts, strict=True))
