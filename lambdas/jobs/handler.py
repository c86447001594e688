"""Entry of the routes of jobs, files, batches and kept answers: which path leads to which function.

Streams, so that a file of any size can be read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from contracts.jobs import Job
from lambdas.aws.access_table import AccessTable
from lambdas.aws.dynamodb import DynamoDB
from lambdas.aws.responses_table import ResponsesTable
from lambdas.aws.s3 import Bucket
from lambdas.aws.sqs import TicketQueue
from lambdas.aws.work_table import WorkTable
from lambdas.jobs.batches import batch_list, batch_of
from lambdas.jobs.responses import StoredResponses
from lambdas.jobs.service import JobLimits, Work
from lambdas.pipeline.environment import JobsEnvironment
from lambdas.pipeline.job_submission import Submissions
from lambdas.pipeline.principals import admit_principal
from lambdas.runtime import http_event as requests
from lambdas.runtime import logs
from lambdas.runtime.cors import cors_headers
from lambdas.runtime.environment import load
from lambdas.runtime.errors import ApiError, to_api_error
from lambdas.runtime.streaming import Context, StreamingReply

_settings = load(JobsEnvironment)
_logger = logs.Logger("jobs", _settings.log_level)
_cors_origins = frozenset(_settings.cors_origins)
_tables = DynamoDB()
_access = AccessTable(_settings.access_table, _tables)
RETRY_AFTER_SECONDS = 2


@dataclass(frozen=True)
class _Asked:
    """A request, as the routes need it. `ids` are what the path holds in its places."""

    caller: dict[str, Any]
    headers: dict[str, str]
    query: dict[str, str]
    body: bytes
    ids: tuple[str, ...]


Answer = tuple[int, BaseModel | Iterator[bytes] | tuple[str, dict[str, str]]]


def _make() -> Work:
    table = WorkTable(_settings.work_table, _tables)
    bucket, queue = Bucket(_settings.work_bucket), TicketQueue(_settings.jobs_queue)
    submissions = Submissions(
        table,
        bucket,
        queue,
        open_per_key=_settings.jobs_open_per_key,
        deadline=_settings.jobs_deadline_seconds,
        retention=_settings.jobs_retention_seconds,
    )
    limits = JobLimits(
        _settings.max_body_bytes,
        _settings.jobs_max_file_bytes,
        _settings.jobs_max_lines,
        _settings.jobs_retention_seconds,
    )
    return Work(table, bucket, queue, submissions, limits)


_work = _make()
_responses = StoredResponses(ResponsesTable(_settings.work_table, _tables))


def _submit(asked: _Asked) -> Answer:
    return 202, _work.submit(asked.caller, asked.body, asked.headers.get("idempotency-key"))


def _submit_batch(asked: _Asked) -> Answer:
    key = asked.headers.get("idempotency-key")
    return 200, batch_of(_work.submit_batch(asked.caller, asked.body, key))


def _result(asked: _Asked) -> Answer:
    status, body = _work.result(asked.caller, *asked.ids)
    return status, (json.dumps(body, ensure_ascii=False), {"content-type": "application/json"})


def _upload(asked: _Asked) -> Answer:
    return 200, _work.upload(asked.caller, asked.headers.get("content-type", ""), asked.body)


def _files(asked: _Asked) -> Answer:
    return 200, _work.files(asked.caller, asked.query.get("limit"), asked.query.get("after"))


def _batches(asked: _Asked) -> Answer:
    return 200, batch_list(*_work.batches(asked.caller, asked.query.get("limit"), asked.query.get("after")))


_ROUTES: list[tuple[str, str, Callable[[_Asked], Answer]]] = [
    ("POST", "/v1/jobs", _submit),
    ("GET", "/v1/jobs/{id}", lambda asked: (200, _work.job(asked.caller, *asked.ids))),
    ("GET", "/v1/jobs/{id}/result", _result),
    ("POST", "/v1/jobs/{id}/cancel", lambda asked: (200, _work.cancel_job(asked.caller, *asked.ids))),
    ("DELETE", "/v1/jobs/{id}", lambda asked: (200, _work.delete_job(asked.caller, *asked.ids))),
    ("POST", "/v1/files", _upload),
    ("GET", "/v1/files", _files),
    ("GET", "/v1/files/{id}", lambda asked: (200, _work.file(asked.caller, *asked.ids))),
    ("GET", "/v1/files/{id}/content", lambda asked: (200, _work.content(asked.caller, *asked.ids))),
    ("DELETE", "/v1/files/{id}", lambda asked: (200, _work.delete_file(asked.caller, *asked.ids))),
    ("POST", "/v1/batches", _submit_batch),
    ("GET", "/v1/batches", _batches),
    ("GET", "/v1/batches/{id}", lambda a: (200, batch_of(_work.batch(a.caller, *a.ids)))),
    ("POST", "/v1/batches/{id}/cancel", lambda a: (200, batch_of(_work.cancel_batch(a.caller, *a.ids)))),
    ("GET", "/v1/responses/{id}", lambda asked: (200, _responses.get(asked.caller, *asked.ids))),
    ("DELETE", "/v1/responses/{id}", lambda asked: (200, _responses.delete(asked.caller, *asked.ids))),
]
_PATTERNS = [
    (verb, re.compile(re.sub(r"\{\w+\}", "([^/]+)", path)), answer) for verb, path, answer in _ROUTES
]


def handler(event: dict[str, Any], context: Context) -> StreamingReply:
    """Answer one request. Never raises."""
    request_id = requests.request_id(event)
    logs.correlate(request_id, context.trace_id)
    try:
        status, answer = _answer(event)
        headers, body = _rendered(answer, requests.base(event))
    except Exception as error:  # noqa: BLE001 - every failure becomes an error object
        refusal = to_api_error(error)
        if refusal is not error and refusal.is_server_error:
            _logger.failure("unhandled_exception", error)
        status, headers, body = refusal.status, refusal.headers, iter([refusal.body.encode()])
    _logger.info("request", status=status)
    added = cors_headers(requests.headers(event).get("origin"), _cors_origins)
    return StreamingReply(status, {**headers, "x-request-id": request_id, **added}, body)


def _answer(event: dict[str, Any]) -> Answer:
    path, verb = requests.route(event), str(event.get("httpMethod"))
    for known, pattern, answer in _PATTERNS:
        found = pattern.fullmatch(path) if known == verb else None
        if found:
            return answer(
                _Asked(
                    caller=_caller(event),
                    headers=requests.headers(event),
                    query=event.get("queryStringParameters") or {},
                    body=requests.body_bytes(event),
                    ids=found.groups(),
                )
            )
    raise ApiError("not_found_error", "There is no such route.", code="unknown_route")


def _caller(event: dict[str, Any]) -> dict[str, Any]:
    """What the authorizer says of the caller, or the access table of one with AWS credentials."""
    if arn := requests.principal(event):
        return admit_principal(arn, _access)
    return event["requestContext"].get("authorizer") or {}


def _rendered(answer: BaseModel | Iterator[bytes] | tuple[str, dict[str, str]], base: str) -> Any:
    if isinstance(answer, Job) and answer.result_url:
        answer = answer.model_copy(update={"result_url": base + answer.result_url})
    if isinstance(answer, BaseModel):
        headers = {"content-type": "application/json"}
        if getattr(answer, "status", "") in ("queued", "in_progress", "validating", "cancelling"):
            headers["retry-after"] = str(RETRY_AFTER_SECONDS)
        return headers, iter([answer.model_dump_json().encode()])
    if isinstance(answer, tuple):
        return answer[1], iter([answer[0].encode()])
    return {"content-type": "application/jsonl"}, answer
