"""Entry of the worker: a ticket from the queue in, nothing out. Everything else stands in `working`."""

from __future__ import annotations

from typing import Any

from contracts.jobs import Ticket
from lambdas.aws.dynamodb import DynamoDB
from lambdas.aws.s3 import Bucket
from lambdas.aws.sqs import TicketQueue
from lambdas.aws.work_table import WorkTable
from lambdas.job_worker.metrics import CountEnds
from lambdas.job_worker.service import JobWorker, Run
from lambdas.pipeline.assembly import from_environment
from lambdas.pipeline.environment import WorkerEnvironment
from lambdas.runtime import environment, logs
from lambdas.runtime.environment import load

_settings = load(WorkerEnvironment)
_logger = logs.Logger("worker", _settings.log_level)

_worker = JobWorker(
    WorkTable(_settings.work_table, DynamoDB()),
    Bucket(_settings.work_bucket),
    TicketQueue(_settings.jobs_queue),
    from_environment(environment.variables()),
    _logger,
    parallel=_settings.jobs_parallel,
    request_seconds=_settings.jobs_request_seconds,
    ended=CountEnds(_settings.endpoint_name),
)


def handler(event: dict[str, Any], context: Any) -> None:
    """Work on the tickets of one delivery. Raises only where even putting a ticket back failed."""
    trace = environment.trace_id()
    for record in event["Records"]:
        ticket = Ticket.model_validate_json(record["body"])
        logs.correlate(ticket.id, trace)
        run = Run(context.aws_request_id, trace, lambda: context.get_remaining_time_in_millis() / 1000)
        _worker.work(ticket, run)
