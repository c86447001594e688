"""Registers Application Auto Scaling with the laptop cloud: its API, its CloudFormation types, its state.

The only module of this package that knows the emulator, through `local.cloud.ministack_adapter`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
from collections.abc import Coroutine, Sequence
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from local.autoscaling import api, cloudformation
from local.autoscaling.ports import Alarm
from local.autoscaling.sagemaker_resources import SageMakerScalableResources
from local.autoscaling.scaler import TICK_SECONDS, Scaler
from local.autoscaling.store import ScalingStore
from local.cloud import ministack_adapter
from local.cloud.cloudwatch.plugin import latest_point
from local.cloud.config import CloudConfig
from local.sagemaker.request_validation import service_model
from local.sagemaker.service import SageMakerService
from local.sagemaker.store import Identity

PRINCIPAL = "sagemaker.application-autoscaling.amazonaws.com"
ROLE = "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
PRUNE_TICKS = 10
_CALL_SECONDS = 120.0
_CLIENT = Config(connect_timeout=5, read_timeout=30, retries={"max_attempts": 2})
log = logging.getLogger("evergreen.cloud")


class _CloudWatchAlarms:
    """`ports.AlarmService` over the emulator."""

    def __init__(self, config: CloudConfig) -> None:
        self._client = functools.cache(lambda: _client(config, "cloudwatch"))

    def all(self) -> Sequence[Alarm]:
        return ministack_adapter.alarms()

    def latest(self, alarm: Alarm) -> float | None:
        return latest_point(alarm)

    def put(self, alarm: Alarm) -> None:
        try:
            self._client().put_metric_alarm(**alarm)
        except ClientError as error:
            raise ValueError(error.response["Error"]["Message"]) from error

    def remove(self, names: Sequence[str]) -> None:
        self._client().delete_alarms(AlarmNames=list(names))


def register(config: CloudConfig, sagemaker: SageMakerService) -> None:
    """Make Application Auto Scaling part of the cloud. Call before the server starts."""
    service_model(api.SERVICE)  # read now: no request should wait for it
    store = ScalingStore(Identity(config.account, config.region))
    resources, alarms = SageMakerScalableResources(sagemaker), _CloudWatchAlarms(config)
    role_arn = f"arn:aws:iam::{config.account}:role/aws-service-role/{PRINCIPAL}/{ROLE}"
    control = api.AutoScalingApi(store, resources, alarms, role_arn, functools.partial(_make_role, config))
    sagemaker.store.scaled_variants = control.scaled_variants
    _register_api(control)
    _register_types(control)
    ministack_adapter.add_state(api.SERVICE, store.dump, store.load)
    scaler = Scaler(store, resources, alarms)
    tasks: list[asyncio.Task[None]] = []

    async def start() -> None:
        tasks.append(asyncio.create_task(_run(control, scaler), name="autoscaling"))

    async def stop() -> None:
        for task in tasks:
            task.cancel()
        await scaler.stop()

    ministack_adapter.on_startup(start)
    ministack_adapter.on_shutdown(stop)


async def _run(control: api.AutoScalingApi, scaler: Scaler) -> None:
    ticks = 0
    while True:
        await asyncio.sleep(TICK_SECONDS)
        ticks += 1
        try:
            scaler.tick()
            if ticks % PRUNE_TICKS == 0:
                await control.prune()
        except Exception:
            # One look that fails must not end the watch.
            log.exception("scaling could not be decided this time")


def _register_api(control: api.AutoScalingApi) -> None:
    async def handle(request: ministack_adapter.HttpRequest) -> ministack_adapter.HttpResponse:
        answer = await control.handle(request.headers.get("x-amz-target", ""), request.body)
        return ministack_adapter.HttpResponse(answer.status, {"Content-Type": api.CONTENT_TYPE}, answer.body)

    def permission(request: ministack_adapter.HttpRequest) -> ministack_adapter.Permission:
        target = request.headers.get("x-amz-target", "")
        operation = target.removeprefix(api.TARGET_PREFIX)
        return ministack_adapter.Permission(
            f"{api.SERVICE}:{operation}", control.resources(target, request.body)
        )

    ministack_adapter.add_service(
        api.SERVICE, handler=handle, target_prefix=api.TARGET_PREFIX, permission=permission
    )


def _register_types(control: api.AutoScalingApi) -> None:
    resources = cloudformation.ScalingResources(control)

    def wait(work: Coroutine[Any, Any, Any]) -> Any:
        return ministack_adapter.run_on_event_loop(work, _CALL_SECONDS)

    ministack_adapter.add_resource_type(
        cloudformation.TARGET,
        create=lambda _id, properties, _stack: wait(resources.put_target(properties)),
        update=lambda _id, old, new, _stack: wait(resources.put_target(new, old)),
        delete=lambda physical_id, _properties: wait(resources.delete_target(physical_id)),
        create_only=cloudformation.CREATE_ONLY[cloudformation.TARGET],
    )
    ministack_adapter.add_resource_type(
        cloudformation.POLICY,
        create=lambda _id, properties, _stack: wait(resources.put_policy(properties)),
        update=lambda _id, _old, new, _stack: wait(resources.put_policy(new)),
        delete=lambda physical_id, _properties: wait(resources.delete_policy(physical_id)),
        create_only=cloudformation.CREATE_ONLY[cloudformation.POLICY],
    )


def _make_role(config: CloudConfig) -> None:
    """The service-linked role, as registering a first target makes it."""
    trust = {"Effect": "Allow", "Principal": {"Service": PRINCIPAL}, "Action": "sts:AssumeRole"}
    iam = _client(config, "iam")
    with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_role(
            RoleName=ROLE,
            Path=f"/aws-service-role/{PRINCIPAL}/",
            AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
        )


def _client(config: CloudConfig, service: str) -> Any:
    return boto3.session.Session().client(
        service,
        endpoint_url=config.endpoint_url,
        region_name=config.region,
        aws_access_key_id=config.account,
        aws_secret_access_key="local",  # noqa: S106 - the emulator's root user
        config=_CLIENT,
    )
