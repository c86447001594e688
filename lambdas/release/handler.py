"""Entry of the function `release`: lock, registry, topology and traffic."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from contracts.release_tasks import RELEASE_TASKS
from lambdas.aws.dynamodb import DynamoDB
from lambdas.release.approval import PackageApproval
from lambdas.release.aws.artefacts import ArtefactFiles
from lambdas.release.aws.clients import client
from lambdas.release.aws.endpoint import EndpointClient
from lambdas.release.aws.model_registry import ModelRegistry
from lambdas.release.aws.scaling import EndpointScaling, FixedFleet
from lambdas.release.aws.serving import ServingState
from lambdas.release.aws.stack import CloudFormationStack
from lambdas.release.aws.stack_update import StackUpdateMachine
from lambdas.release.aws.workflow import ApprovalTopic, Workflow
from lambdas.release.dispatch import run
from lambdas.release.environment import ReleaseEnvironment
from lambdas.release.lock import ReleaseLocks
from lambdas.release.registry import ModelRegistration
from lambdas.release.replication import ModelReplication
from lambdas.release.source_data import SourceData
from lambdas.release.store import (
    LockTable,
    PendingApprovalTable,
    ReleaseLedger,
    RoutingItem,
    TrainedDataTable,
)
from lambdas.release.tasks import ReleaseService
from lambdas.release.topology import Topology
from lambdas.runtime.environment import load
from lambdas.runtime.logs import Logger


class ReleaseFunction:
    """The function against AWS."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        settings = load(ReleaseEnvironment, variables)
        tables, sagemaker, workflow = DynamoDB(), client("sagemaker"), Workflow(client("stepfunctions"))
        cloudformation, cloudwatch = client("cloudformation"), client("cloudwatch")
        topic = settings.approval_topic_arn
        artefacts = ArtefactFiles(settings.artefacts_bucket, client("s3"))
        packages = ModelRegistry(settings.model_package_group, sagemaker)
        self._logger = Logger("release", settings.log_level)
        self._ledger = ReleaseLedger(settings.ledger_table, tables)
        self._service = ReleaseService(
            settings.endpoint_name,
            settings.serving_stack,
            ReleaseLocks(LockTable(settings.ledger_table, settings.endpoint_name, tables), workflow),
            Topology(
                settings.endpoint_name,
                CloudFormationStack(settings.serving_stack, cloudformation),
                EndpointClient(settings.endpoint_name, sagemaker),
                RoutingItem(settings.access_table, settings.endpoint_name, tables),
                EndpointScaling(settings.endpoint_name, client("application-autoscaling"))
                if settings.autoscaled
                else FixedFleet(),
                ServingState(
                    settings.serving_stack, settings.endpoint_name, cloudformation, sagemaker, cloudwatch
                ),
            ),
            ModelRegistration(artefacts, packages),
            PackageApproval(
                packages,
                ApprovalTopic(topic, client("sns")) if topic else None,
                workflow,
                PendingApprovalTable(settings.ledger_table, tables),
                settings.aws_lambda_function_name,
            ),
            self._ledger,
            settings.loop,
            SourceData(artefacts, TrainedDataTable(settings.ledger_table, settings.endpoint_name, tables)),
            replication=_replication(settings, artefacts) if settings.failover_stack else None,
        )

    def __call__(self, event: dict[str, Any]) -> dict[str, Any]:
        """The answer to one event."""
        return run(event, RELEASE_TASKS, self._service.answer, self._ledger, self._logger)


def _replication(settings: ReleaseEnvironment, artefacts: ArtefactFiles) -> ModelReplication:
    """The second region, by clients that stand there."""
    stack, region = settings.failover_stack, settings.failover_region
    cloudformation = client("cloudformation", region)
    serving = ServingState(
        stack,
        settings.endpoint_name,
        cloudformation,
        client("sagemaker", region),
        client("cloudwatch", region),
    )
    return ModelReplication(
        CloudFormationStack(stack, cloudformation),
        StackUpdateMachine(settings.failover_update_machine, client("stepfunctions", region)),
        artefacts,
        settings.failover_bucket,
        serving,
    )


_release = ReleaseFunction(os.environ)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Do the event's task (contracts.release_tasks). Step Functions sees an exception by its class's name."""
    return _release(event)
