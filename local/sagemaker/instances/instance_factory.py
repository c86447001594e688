"""Makes the instances of every endpoint."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from local.sagemaker.instances.container_process import ProcessTable
from local.sagemaker.instances.fault_injection import FaultInjector
from local.sagemaker.instances.images import ProgramTable
from local.sagemaker.instances.instance import EndpointInstance, LaunchSpec
from local.sagemaker.instances.location import InstanceLocation
from local.sagemaker.instances.model_data import ModelDataCache
from local.sagemaker.ports import CloudServices
from local.sagemaker.store import Identity

ContainerInitializer = Callable[[EndpointInstance], Awaitable[None]]
LogSink = Callable[[str, str, str, str], None]


@dataclass(frozen=True)
class InstanceFactory:
    """Makes instances, with what all of them need of the service. `scratch` holds the containers' folders."""

    identity: Identity
    cloud: CloudServices
    images: ProgramTable
    model_data: ModelDataCache
    scratch: Path
    client: httpx.AsyncClient
    log_line: LogSink  # (role's ARN, log group, log stream, line)
    processes: ProcessTable
    faults: FaultInjector
    record: Callable[[InstanceLocation, dict[str, float]], None]  # publish values of metrics

    def create_instance(
        self,
        launch: LaunchSpec,
        location: InstanceLocation,
        instance_type: str | None,
        initialize_container: ContainerInitializer | None,
    ) -> EndpointInstance:
        """An instance with a new id that is not started. It logs to the stream `<variant>/<id>`."""
        instance_id = f"i-{secrets.token_hex(8)}"
        stream, group = f"{location.variant}/{instance_id}", location.log_group
        return EndpointInstance(
            instance_id,
            launch,
            self.client,
            lambda line: self.log_line(launch.role_arn, group, stream, line),
            self.processes,
            initialize_container,
            instance_type,
        )
