"""Asynchronous jobs and batches: the queue of tickets, the function of the routes, the worker.

Tickets hold a task's name only; requests and answers are in the data stack's work bucket and
table. Each function gets the actions that its own code calls.
"""

from __future__ import annotations

import json

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from contracts.jobs import queue_name
from infra.constructs.bundled_function import BundledFunction
from infra.constructs.data_resources import DataResources
from infra.constructs.encryption import grant_through
from infra.policy.acknowledge import acknowledge, imported_arn
from infra.settings import Settings

_ROUTES_SECONDS = 120  # a large file takes its time to be read
_REDELIVERY_MARGIN_SECONDS = 30
_MOST_DELIVERIES = 8  # above what the worker itself lets a task fail: more means that it cannot even say so
_PINS = "inference"  # both run that function's libraries


class AsyncJobs(Construct):
    """Exposes `routes`, the function of the routes, and `worker`, which answers what `inference` answers."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        settings: Settings,
        data: DataResources,
        environment: dict[str, str],
    ) -> None:
        super().__init__(scope, id)
        self._settings, self._data = settings, data
        spec = settings.jobs
        dead = self._queue("Dead", queue_name(settings.prefix, dead=True))
        self._tickets = self._queue(
            "Tickets",
            queue_name(settings.prefix),
            visibility_timeout=cdk.Duration.seconds(spec.worker_seconds + _REDELIVERY_MARGIN_SECONDS),
            dead_letter_queue=sqs.DeadLetterQueue(queue=dead, max_receive_count=_MOST_DELIVERIES),
        )
        self._places = {
            "WORK_TABLE": data.work.table_name,
            "WORK_BUCKET": data.work_bucket.bucket_name,
            "JOBS_QUEUE": self._tickets.queue_url,
        }
        self._making = self._places | {
            "JOBS_OPEN_PER_KEY": str(spec.open_per_key),
            "JOBS_DEADLINE_SECONDS": str(spec.deadline_hours * 3_600),
            "JOBS_RETENTION_SECONDS": str(spec.retention_days * 86_400),
        }
        self.routes = self._make_routes()
        self.worker = self._make_worker(environment)

    def allow_offload(self, function: BundledFunction) -> None:
        """Let the function create jobs from requests that the endpoint has no capacity for."""
        for name, value in self._making.items():
            function.add_environment(name, value)
        self._data.work.grant_items(function, "GetItem", "PutItem", "DeleteItem", "Query")
        self._objects(function, "PutObject", under="tasks/")
        self._send(function)

    def _queue(self, id: str, name: str, **more: object) -> sqs.Queue:
        """A queue of a fixed name: alarms find it by that. Messages outlive every deadline."""
        return sqs.Queue(
            self,
            id,
            queue_name=name,
            encryption=sqs.QueueEncryption.KMS,
            encryption_master_key=self._data.records_key,
            data_key_reuse=cdk.Duration.hours(1),
            enforce_ssl=True,
            retention_period=cdk.Duration.days(14),
            removal_policy=cdk.RemovalPolicy.DESTROY,
            **more,  # type: ignore[arg-type]
        )

    def _make_routes(self) -> BundledFunction:
        spec, origins = self._settings.jobs, self._settings.gateway.cors_origins
        routes = self._function(
            "Jobs",
            "jobs",
            self._making
            | {
                "ACCESS_TABLE": self._data.access.table_name,
                "MAX_BODY_BYTES": str(self._settings.gateway.max_body_bytes),
                "JOBS_MAX_FILE_BYTES": str(spec.max_file_bytes),
                "JOBS_MAX_LINES": str(spec.max_requests_per_batch),
                **({"CORS_ORIGINS": json.dumps(origins)} if origins else {}),
            },
            _ROUTES_SECONDS,
            streaming=True,
        )
        self._data.work.grant_items(routes, "GetItem", "PutItem", "UpdateItem", "DeleteItem", "Query")
        self._objects(routes, "GetObject", "PutObject", "DeleteObject")
        self._send(routes)
        return routes

    def _make_worker(self, environment: dict[str, str]) -> BundledFunction:
        spec = self._settings.jobs
        worker = self._function(
            "Worker",
            "job_worker",
            environment
            | self._places
            | {
                "JOBS_PARALLEL": str(spec.requests_in_parallel),
                "JOBS_REQUEST_SECONDS": str(spec.request_seconds),
            },
            spec.worker_seconds,
        )
        self._data.work.grant_items(worker, "GetItem", "PutItem", "UpdateItem", "DeleteItem")
        self._objects(worker, "GetObject", "PutObject", "DeleteObject")
        self._send(worker)
        worker.add_to_role_policy(
            iam.PolicyStatement(
                actions=["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"],
                resources=[self._tickets.queue_arn],
            )
        )
        lambda_.EventSourceMapping(
            self,
            "Deliveries",
            target=worker,
            event_source_arn=self._tickets.queue_arn,
            batch_size=1,
            max_concurrency=spec.workers,
        )
        return worker

    def _function(
        self, id: str, name: str, environment: dict[str, str], seconds: int, *, streaming: bool = False
    ) -> BundledFunction:
        return BundledFunction(
            # A child of the stack, as the other functions are.
            cdk.Stack.of(self),
            id,
            name=name,
            pins=_PINS,
            settings=self._settings,
            logs_key=self._data.logs_key,
            environment=environment,
            timeout=cdk.Duration.seconds(seconds),
            streaming=streaming,
        )

    def _objects(self, function: BundledFunction, *actions: str, under: str = "") -> None:
        bucket = self._data.work_bucket
        function.add_to_role_policy(
            iam.PolicyStatement(
                actions=[f"s3:{action}" for action in actions], resources=[f"{bucket.bucket_arn}/{under}*"]
            )
        )
        use = {"kms:GenerateDataKey"} if "PutObject" in actions else set()
        use |= {"kms:Decrypt"} if "GetObject" in actions else set()
        grant_through(self._data.records_key, function, "s3", *sorted(use))
        assert function.role is not None
        named = imported_arn(cdk.Stack.of(bucket), bucket.bucket_arn)
        finding = f"AwsSolutions-IAM5[Resource::{named}/{under}*]"
        acknowledge(function.role, {finding: "Each task and each file has objects of its own."})

    def _send(self, function: BundledFunction) -> None:
        function.add_to_role_policy(
            iam.PolicyStatement(actions=["sqs:SendMessage"], resources=[self._tickets.queue_arn])
        )
        grant_through(self._data.records_key, function, "sqs", "kms:Decrypt", "kms:GenerateDataKey")
