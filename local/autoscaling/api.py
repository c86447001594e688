"""The service's own API: one JSON request in, one JSON reply out, every request checked first.

Coroutines, since putting a policy creates alarms, which takes a moment on a thread.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from local.autoscaling import alarms, rules, schedules
from local.autoscaling.listing import about, page
from local.autoscaling.ports import Alarms, Fleets
from local.autoscaling.store import Store, Target, described, key_of, not_found, now
from local.sagemaker.control_plane.api import JsonReply
from local.sagemaker.errors import ApiError, invalid
from local.sagemaker.request_validation import check, service_model
from local.sagemaker.store import Record

SERVICE = "application-autoscaling"
TARGET_PREFIX = "AnyScaleFrontendService."
CONTENT_TYPE = "application/x-amz-json-1.1"
_FREE = {
    "DynamicScalingInSuspended": False,
    "DynamicScalingOutSuspended": False,
    "ScheduledScalingSuspended": False,
}

Operation = Callable[[Record], Awaitable[Record]]


class ControlPlane:
    """Application Auto Scaling, as far as the laptop cloud has it. `role_arn` is its service-linked role,
    which `make_role` (blocking) makes when a target is registered."""

    def __init__(
        self, store: Store, fleets: Fleets, watch: Alarms, role_arn: str, make_role: Callable[[], None]
    ) -> None:
        self.store = store
        self._make_role: Callable[[], None] | None = make_role
        self._fleets, self._alarms, self._role_arn = fleets, watch, role_arn
        self.operations: dict[str, Operation] = {
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

    async def call(self, operation: str, request: Record) -> Record:
        """Check and carry out one operation; raises ApiError."""
        if operation not in self.operations:
            known = operation in service_model(SERVICE).operation_names
            reason = "is not part of the laptop cloud" if known else "does not exist"
            raise ApiError("UnknownOperationException", f"The operation {operation} {reason}.")
        check(SERVICE, operation, request)
        if "ServiceNamespace" in request:
            rules.check_namespace(request)
        return await self.operations[operation](request)

    async def handle(self, target: str, body: bytes) -> JsonReply:
        """Answer `X-Amz-Target: AnyScaleFrontendService.<Operation>` with its JSON body."""
        try:
            request = json.loads(body or b"{}")
        except ValueError:
            return JsonReply(400, ApiError("SerializationException", "The body is not JSON.").json_body())
        try:
            answer = await self.call(target.removeprefix(TARGET_PREFIX), request)
        except ApiError as error:
            return JsonReply(error.status, error.json_body())
        return JsonReply(200, json.dumps(answer).encode())

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
                self._fleets.scalable(target.key[1], target.key[2])
            except ApiError:
                await self._drop(target)

    async def _register(self, request: Record) -> Record:
        key = key_of(request)
        known = self.store.targets.get(key)
        scalable = self._fleets.scalable(key[1], key[2])
        rules.check_new_tags(known, request)
        before = known.record if known else {}
        least = request.get("MinCapacity", before.get("MinCapacity"))
        most = request.get("MaxCapacity", before.get("MaxCapacity"))
        rules.check_bounds(least, most, scalable)
        if self._make_role:
            make, self._make_role = self._make_role, None
            await asyncio.to_thread(make)
        suspended = _FREE | before.get("SuspendedState", {}) | request.get("SuspendedState", {})
        limits = {"MinCapacity": least, "MaxCapacity": most, "SuspendedState": suspended}
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
            known = self.store.targets[key] = Target(record, tags=dict(request.get("Tags", {})))
        return {"ScalableTargetARN": known.record["ScalableTargetARN"]}

    async def _deregister(self, request: Record) -> Record:
        await self._drop(self.store.target(request))
        return {}

    async def _drop(self, target: Target) -> None:
        """A target goes with its policies, their alarms and its scheduled actions."""
        del self.store.targets[target.key]
        names = [alarm["AlarmName"] for policy in target.policies.values() for alarm in policy["Alarms"]]
        await self._remove(names)

    async def _describe_targets(self, request: Record) -> Record:
        wanted = set(request.get("ResourceIds", []))
        records = [
            target.record
            for target in self.store.targets.values()
            if about(target.record, request) and (not wanted or target.record["ResourceId"] in wanted)
        ]
        return page("ScalableTargets", records, request)

    async def _put_policy(self, request: Record) -> Record:
        target = self.store.target(request)
        kind = rules.check_policy(request, target)
        key, name = target.key, request["PolicyName"]
        old = target.policies.get(name)
        policy: Record = {
            **request,
            "PolicyType": kind,
            "PolicyARN": old["PolicyARN"] if old else self.store.policy_arn(key, name),
            "CreationTime": old["CreationTime"] if old else now(),
            "Alarms": [],
        }
        wanted = []
        if kind == "TargetTrackingScaling":
            configuration = policy["TargetTrackingScalingPolicyConfiguration"]
            dimensions = self._fleets.scalable(key[1], key[2]).dimensions
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

    async def _delete_policy(self, request: Record) -> Record:
        target = self._target_of("scaling policy", request["PolicyName"], request)
        policy = target.policies.pop(request["PolicyName"], None)
        if policy is None:
            raise _no("scaling policy", request["PolicyName"], request)
        await self._remove([alarm["AlarmName"] for alarm in policy["Alarms"]])
        return {}

    async def _describe_policies(self, request: Record) -> Record:
        names = set(request.get("PolicyNames", []))
        records = [
            policy | {"Alarms": self._alarms_of(policy)}
            for _, policy in self.store.policies()
            if about(policy, request) and (not names or policy["PolicyName"] in names)
        ]
        return page("ScalingPolicies", records, request)

    async def _put_schedule(self, request: Record) -> Record:
        target = self.store.target(request)
        name = request["ScheduledActionName"]
        old = target.schedules.get(name)
        if old is None and len(target.schedules) >= rules.MAX_SCHEDULES:
            raise ApiError("LimitExceededException", f"A target can have {rules.MAX_SCHEDULES} actions.")
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

    async def _delete_schedule(self, request: Record) -> Record:
        target = self._target_of("scheduled action", request["ScheduledActionName"], request)
        if target.schedules.pop(request["ScheduledActionName"], None) is None:
            raise _no("scheduled action", request["ScheduledActionName"], request)
        return {}

    async def _describe_schedules(self, request: Record) -> Record:
        names = set(request.get("ScheduledActionNames", []))
        records = [
            record
            for target in self.store.targets.values()
            for record in target.schedules.values()
            if about(record, request) and (not names or record["ScheduledActionName"] in names)
        ]
        return page("ScheduledActions", records, request)

    async def _describe_activities(self, request: Record) -> Record:
        with_idle = request.get("IncludeNotScaledActivities", False)
        records = [
            record
            for record in self.store.activities
            if about(record, request) and (with_idle or "NotScaledReasons" not in record)
        ]
        return page("ScalingActivities", records, request)

    async def _list_tags(self, request: Record) -> Record:
        return {"Tags": self.store.by_arn(request["ResourceARN"]).tags}

    async def _tag(self, request: Record) -> Record:
        target = self.store.by_arn(request["ResourceARN"])
        tags = target.tags | request["Tags"]
        rules.check_tags(tags)
        target.tags = tags
        return {}

    async def _untag(self, request: Record) -> Record:
        target = self.store.by_arn(request["ResourceARN"])
        target.tags = {name: value for name, value in target.tags.items() if name not in request["TagKeys"]}
        return {}

    def _target_of(self, noun: str, name: str, request: Record) -> Target:
        found = self.store.targets.get(key_of(request))
        if found is None:
            raise _no(noun, name, request)
        return found

    async def _remove(self, names: list[str]) -> None:
        if names:
            await asyncio.to_thread(self._alarms.remove, names)

    def _alarms_of(self, policy: Record) -> list[Record]:
        """Its own alarms, or those that a step policy is the action of."""
        if policy["PolicyType"] == "TargetTrackingScaling":
            return list(policy["Alarms"])
        found = [each for each in self._alarms.all() if policy["PolicyARN"] in each.get("AlarmActions", [])]
        return [{"AlarmName": each["AlarmName"], "AlarmARN": self._alarm_arn(each)} for each in found]

    def _alarm_arn(self, alarm: Any) -> str:
        identity = self.store.identity
        return f"arn:aws:cloudwatch:{identity.region}:{identity.account}:alarm:{alarm['AlarmName']}"


def _no(noun: str, name: str, request: Record) -> ApiError:
    return not_found(f"No {noun} found for {described(key_of(request))}, {noun} name: {name}")
