"""The service's own API: one JSON request in, one JSON reply out, every request checked first.

Coroutines, since putting a policy creates alarms, which takes a moment on a thread.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from local.autoscaling import alarms, rules, schedules
from local.autoscaling.listing import matches_request, page
from local.autoscaling.ports import AlarmService, ScalableResources
from local.autoscaling.store import ScalableTarget, ScalingStore, described, key_of, not_found, now
from local.sagemaker.control_plane.api import JsonResponse
from local.sagemaker.errors import AwsApiError, invalid
from local.sagemaker.records import JsonObject
from local.sagemaker.request_validation import service_model, validate_request

SERVICE = "application-autoscaling"
TARGET_PREFIX = "AnyScaleFrontendService."
CONTENT_TYPE = "application/x-amz-json-1.1"
_FREE = {
    "DynamicScalingInSuspended": False,
    "DynamicScalingOutSuspended": False,
    "ScheduledScalingSuspended": False,
}

_Operation = Callable[[JsonObject], Awaitable[JsonObject]]


class AutoScalingApi:
    """Application Auto Scaling, as far as the laptop cloud has it. `role_arn` is its service-linked role,
    which `make_role` (blocking) makes when a target is registered."""

    def __init__(
        self,
        store: ScalingStore,
        resources: ScalableResources,
        watch: AlarmService,
        role_arn: str,
        make_role: Callable[[], None],
    ) -> None:
        self.store = store
        self._make_role: Callable[[], None] | None = make_role
        self._resources, self._alarms, self._role_arn = resources, watch, role_arn
        self.operations: dict[str, _Operation] = {
            "RegisterScalableTarget": self._register,
            "DeregisterScalableTarget": self._deregister,
            "DescribeScalableTargets": self._describe_targets,
            "PutScalingPolicy": self._put_policy,
            "DeleteScalingPolicy": self._delete_policy,
            "DescribeScalingPolicies": self._describe_policies,
            "PutScheduledAction": self._put_schedule,
            "DeleteScheduledAction": self._delete_schedule,
            "DescribeScheduledActions": self._describe_schedules,
            "DescribeScalingActivities": self._describe_activities,
            "ListTagsForResource": self._list_tags,
            "TagResource": self._tag,
            "UntagResource": self._untag,
        }

    async def call(self, operation: str, request: JsonObject) -> JsonObject:
        """Check and carry out one operation; raises AwsApiError."""
        if operation not in self.operations:
            known = operation in service_model(SERVICE).operation_names
            reason = "is not part of the laptop cloud" if known else "does not exist"
            raise AwsApiError("UnknownOperationException", f"The operation {operation} {reason}.")
        validate_request(SERVICE, operation, request)
        if "ServiceNamespace" in request:
            rules.check_namespace(request)
        return await self.operations[operation](request)

    async def handle(self, target: str, body: bytes) -> JsonResponse:
        """Answer `X-Amz-Target: AnyScaleFrontendService.<Operation>` with its JSON body."""
        try:
            request = json.loads(body or b"{}")
        except ValueError:
            return JsonResponse(
                400, AwsApiError("SerializationException", "The body is not JSON.").json_body()
            )
        try:
            answer = await self.call(target.removeprefix(TARGET_PREFIX), request)
        except AwsApiError as error:
            return JsonResponse(error.status, error.json_body())
        return JsonResponse(200, json.dumps(answer).encode())

    def resources(self, target: str, body: bytes) -> tuple[str, ...]:
        """The ARN that a request touches, for the permission check; `*` where there is none yet."""
        try:
            request = json.loads(body or b"{}")
            if "ResourceARN" in request:
                return (str(request["ResourceARN"]),)
            found = self.store.targets.get(key_of(request))
        except (ValueError, TypeError, KeyError):
            return ("*",)
        if found is None or ".Describe" in target:
            return ("*",)
        return (found.record["ScalableTargetARN"],)

    def scaled_variants(self, endpoint: str) -> frozenset[str]:
        """The variants of an endpoint that are registered here, for SageMaker's own refusals."""
        prefix = f"endpoint/{endpoint}/variant/".lower()
        ids = (key[1] for key in self.store.targets)
        return frozenset(each[len(prefix) :] for each in ids if each.lower().startswith(prefix))

    async def prune(self) -> None:
        """Drop the targets of what is gone."""
        for target in list(self.store.targets.values()):
            try:
                self._resources.scalable(target.key[1], target.key[2])
            except AwsApiError:
                await self._drop(target)

    async def _register(self, request: JsonObject) -> JsonObject:
        key = key_of(request)
        known = self.store.targets.get(key)
        scalable = self._resources.scalable(key[1], key[2])
        rules.check_new_tags(known, request)
        before = known.record if known else {}
        min_capacity = request.get("MinCapacity", before.get("MinCapacity"))
        max_capacity = request.get("MaxCapacity", before.get("MaxCapacity"))
        rules.check_bounds(min_capacity, max_capacity, scalable)
        if self._make_role:
            make, self._make_role = self._make_role, None
            await asyncio.to_thread(make)
        suspended = _FREE | before.get("SuspendedState", {}) | request.get("SuspendedState", {})
        limits = {"MinCapacity": min_capacity, "MaxCapacity": max_capacity, "SuspendedState": suspended}
        if known:
            known.record |= limits
        else:
            record = {
                "ServiceNamespace": key[0],
                "ResourceId": key[1],
                "ScalableDimension": key[2],
                "RoleARN": self._role_arn,
                "CreationTime": now(),
                "ScalableTargetARN": self.store.target_arn(),
                **limits,
            }
            known = self.store.targets[key] = ScalableTarget(record, tags=dict(request.get("Tags", {})))
        return {"ScalableTargetARN": known.record["ScalableTargetARN"]}

    async def _deregister(self, request: JsonObject) -> JsonObject:
        await self._drop(self.store.target(request))
        return {}

    async def _drop(self, target: ScalableTarget) -> None:
        """A target goes with its policies, their alarms and its scheduled actions."""
        del self.store.targets[target.key]
        names = [alarm["AlarmName"] for policy in target.policies.values() for alarm in policy["Alarms"]]
        await self._remove(names)

    async def _describe_targets(self, request: JsonObject) -> JsonObject:
        wanted = set(request.get("ResourceIds", []))
        records = [
            target.record
            for target in self.store.targets.values()
            if matches_request(target.record, request)
            and (not wanted or target.record["ResourceId"] in wanted)
        ]
        return page("ScalableTargets", records, request)

    async def _put_policy(self, request: JsonObject) -> JsonObject:
        target = self.store.target(request)
        kind = rules.check_policy(request, target)
        key, name = target.key, request["PolicyName"]
        old = target.policies.get(name)
        policy: JsonObject = {
            **request,
            "PolicyType": kind,
            "PolicyARN": old["PolicyARN"] if old else self.store.policy_arn(key, name),
            "CreationTime": old["CreationTime"] if old else now(),
            "Alarms": [],
        }
        wanted = []
        if kind == "TargetTrackingScaling":
            configuration = policy["TargetTrackingScalingPolicyConfiguration"]
            dimensions = self._resources.scalable(key[1], key[2]).dimensions
            metric = alarms.metric_of(configuration, key[2], dimensions)
            wanted = alarms.tracking_alarms(policy, metric)
            policy["Alarms"] = [{"AlarmName": a["AlarmName"], "AlarmARN": self._alarm_arn(a)} for a in wanted]
        for alarm in wanted:
            try:
                await asyncio.to_thread(self._alarms.put, alarm)
            except ValueError as error:
                raise invalid(f"The policy's metric is refused by CloudWatch: {error}") from None
        await self._remove([alarm["AlarmName"] for alarm in (old or {"Alarms": []})["Alarms"]])
        target.policies[name] = policy
        return {"PolicyARN": policy["PolicyARN"], "Alarms": policy["Alarms"]}

    async def _delete_policy(self, request: JsonObject) -> JsonObject:
        target = self._target_of("scaling policy", request["PolicyName"], request)
        policy = target.policies.pop(request["PolicyName"], None)
        if policy is None:
            raise _no("scaling policy", request["PolicyName"], request)
        await self._remove([alarm["AlarmName"] for alarm in policy["Alarms"]])
        return {}

    async def _describe_policies(self, request: JsonObject) -> JsonObject:
        names = set(request.get("PolicyNames", []))
        records = [
            policy | {"Alarms": self._alarms_of(policy)}
            for _, policy in self.store.policies()
            if matches_request(policy, request) and (not names or policy["PolicyName"] in names)
        ]
        return page("ScalingPolicies", records, request)

    async def _put_schedule(self, request: JsonObject) -> JsonObject:
        target = self.store.target(request)
        name = request["ScheduledActionName"]
        old = target.schedules.get(name)
        if old is None and len(target.schedules) >= rules.MAX_SCHEDULES:
            raise AwsApiError("LimitExceededException", f"A target can have {rules.MAX_SCHEDULES} actions.")
        rules.check_schedule_action(request.get("ScalableTargetAction"), old is not None)
        record = {"Timezone": "UTC", **(old or {}), **request}
        if "Schedule" not in record:
            raise invalid("A new scheduled action must have Schedule.")
        for moment in ("StartTime", "EndTime"):
            if moment in record:
                record[moment] = schedules.epoch(record[moment])
        if record.get("StartTime", 0.0) >= record.get("EndTime", float("inf")):
            raise invalid("StartTime must be before EndTime.")
        record.setdefault("CreationTime", now())
        record.setdefault("ScheduledActionARN", self.store.schedule_arn(target.key, name))
        schedules.parse(record["Schedule"], record["Timezone"], record["CreationTime"])
        target.schedules[name] = record
        return {}

    async def _delete_schedule(self, request: JsonObject) -> JsonObject:
        target = self._target_of("scheduled action", request["ScheduledActionName"], request)
        if target.schedules.pop(request["ScheduledActionName"], None) is None:
            raise _no("scheduled action", request["ScheduledActionName"], request)
        return {}

    async def _describe_schedules(self, request: JsonObject) -> JsonObject:
        names = set(request.get("ScheduledActionNames", []))
        records = [
            record
            for target in self.store.targets.values()
            for record in target.schedules.values()
            if matches_request(record, request) and (not names or record["ScheduledActionName"] in names)
        ]
        return page("ScheduledActions", records, request)

    async def _describe_activities(self, request: JsonObject) -> JsonObject:
        with_idle = request.get("IncludeNotScaledActivities", False)
        records = [
            record
            for record in self.store.activities
            if matches_request(record, request) and (with_idle or "NotScaledReasons" not in record)
        ]
        return page("ScalingActivities", records, request)

    async def _list_tags(self, request: JsonObject) -> JsonObject:
        return {"Tags": self.store.by_arn(request["ResourceARN"]).tags}

    async def _tag(self, request: JsonObject) -> JsonObject:
        target = self.store.by_arn(request["ResourceARN"])
        tags = target.tags | request["Tags"]
        rules.check_tags(tags)
        target.tags = tags
        return {}

    async def _untag(self, request: JsonObject) -> JsonObject:
        target = self.store.by_arn(request["ResourceARN"])
        target.tags = {name: value for name, value in target.tags.items() if name not in request["TagKeys"]}
        return {}

    def _target_of(self, noun: str, name: str, request: JsonObject) -> ScalableTarget:
        found = self.store.targets.get(key_of(request))
        if found is None:
            raise _no(noun, name, request)
        return found

    async def _remove(self, names: list[str]) -> None:
        if names:
            await asyncio.to_thread(self._alarms.remove, names)

    def _alarms_of(self, policy: JsonObject) -> list[JsonObject]:
        """Its own alarms, or those that a step policy is the action of."""
        if policy["PolicyType"] == "TargetTrackingScaling":
            return list(policy["Alarms"])
        found = [each for each in self._alarms.all() if policy["PolicyARN"] in each.get("AlarmActions", [])]
        return [{"AlarmName": each["AlarmName"], "AlarmARN": self._alarm_arn(each)} for each in found]

    def _alarm_arn(self, alarm: Any) -> str:
        identity = self.store.identity
        return f"arn:aws:cloudwatch:{identity.region}:{identity.account}:alarm:{alarm['AlarmName']}"


def _no(noun: str, name: str, request: JsonObject) -> AwsApiError:
    return not_found(f"No {noun} found for {described(key_of(request))}, {noun} name: {name}")
