"""A request that the model has no room for becomes a job, where its caller asked for that."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from contracts import metrics
from contracts.access import AccessKey, principal_pk
from lambdas.aws.access_table import AccessTable
from lambdas.aws.dynamodb import DynamoDB, to_item
from lambdas.aws.s3 import Bucket
from lambdas.aws.sqs import TicketQueue
from lambdas.aws.work_table import WorkTable
from lambdas.pipeline.job_submission import Submissions
from lambdas.pipeline.request import IncomingRequest
from tests.support.fake_jobs_aws import FakeWork
from tests.support.fake_model_endpoint import Reply, chat_events, cut
from tests.support.front_door import AUTHORIZER, SETTINGS, Door, chat, emitted
from tests.support.jobs_api import Jobs

KEY = {**AUTHORIZER, "key_id": "abc"}
ASK = {"x-evergreen-when-busy": "job"}
FULL = Reply(status=424, error=("ModelError", {"OriginalStatusCode": 503, "OriginalMessage": "busy"}))
ASLEEP = Reply(status=400, error=("ValidationError", {"Message": "no such endpoint"}))
THROTTLED = Reply(status=400, error=(None, {"message": None}))
BROKEN = Reply(status=424, error=("ModelError", {"OriginalStatusCode": 500, "OriginalMessage": "oops"}))


@pytest.fixture
def submissions(work_stores: FakeWork) -> Submissions:
    return Submissions(
        WorkTable("work", DynamoDB()),
        Bucket("work"),
        TicketQueue("http://queue"),
        open_per_key=2,
        deadline=3600,
        retention=86_400,
    )


@pytest.fixture
def door(make_door: Callable[..., Door], submissions: Submissions) -> Door:
    made = make_door(SETTINGS, jobs=submissions)
    made.sagemaker.replies = [FULL]
    return made


@pytest.mark.parametrize("busy", [FULL, ASLEEP, THROTTLED])
@pytest.mark.parametrize("stream", [True, False])
def test_a_busy_model_makes_a_job(
    door: Door, busy: Reply, stream: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    door.sagemaker.replies = [busy]
    reply, body = door.ask(chat("Hello", stream=stream), headers=ASK, **KEY)
    job = json.loads(body)
    assert (reply.status, job["object"], job["status"]) == (202, "job", "queued")
    assert reply.headers["location"] == f"/v1/jobs/{job['id']}"
    assert int(reply.headers["retry-after"]) > 0
    assert emitted(capsys.readouterr().out, metrics.HANDED_OVER)
    record = door.record()
    assert record is not None
    assert record["status"] == 202
    assert "error_type" not in record


def test_the_job_is_answered_once_there_is_room(door: Door, jobs: Jobs) -> None:
    _, body = door.ask(chat("Hello", stream=True), headers=ASK, **KEY)
    door.sagemaker.replies = [Reply(parts=cut(chat_events("at last"), 60))]
    jobs.work()
    status, answer = jobs.ask("GET", f"/v1/jobs/{json.loads(body)['id']}/result", caller=KEY)
    assert (status, answer["choices"][0]["message"]["content"]) == (200, "at last")


def test_the_same_idempotency_key_is_the_same_job(door: Door) -> None:
    headers = {**ASK, "idempotency-key": "k"}
    ids = {json.loads(door.ask(chat(), headers=headers, **KEY)[1])["id"] for _ in range(2)}
    assert len(ids) == 1


@pytest.mark.parametrize("headers", [{}, {"x-evergreen-when-busy": "wait"}])
def test_who_did_not_ask_is_told_to_come_back(
    door: Door, work_stores: FakeWork, headers: dict[str, str]
) -> None:
    reply, body = door.ask(chat(), headers=headers, **KEY)
    assert (reply.status, json.loads(body)["error"]["type"]) == (503, "overloaded_error")
    assert reply.headers["retry-after"]
    assert work_stores.messages == []


@pytest.mark.parametrize(("request_", "status"), [(chat(max_tokens=0), 400), (chat(model="gpt-9"), 404)])
def test_what_is_wrong_is_wrong_later_too(
    door: Door, work_stores: FakeWork, request_: dict[str, Any], status: int
) -> None:
    assert door.ask({**chat(), **request_}, headers=ASK, **KEY)[0].status == status
    assert work_stores.messages == []


def test_a_broken_model_makes_no_job(door: Door, work_stores: FakeWork) -> None:
    door.sagemaker.replies = [BROKEN]
    assert door.ask(chat(), headers=ASK, **KEY)[0].status == 500
    assert work_stores.messages == []


def test_too_many_open_jobs_are_said_so(door: Door) -> None:
    for _ in range(2):
        assert door.ask(chat(), headers=ASK, **KEY)[0].status == 202
    reply, body = door.ask(chat(), headers=ASK, **KEY)
    assert (reply.status, json.loads(body)["error"]["code"]) == (429, "too_many_open_jobs")


def test_where_no_job_can_be_made_the_caller_gets_what_led_there(
    door: Door, work_stores: FakeWork, capsys: pytest.CaptureFixture[str]
) -> None:
    work_stores.queue_failures = [400]
    reply, _ = door.ask(chat("zanzibar-4711"), headers=ASK, **KEY)
    output = capsys.readouterr().out
    assert reply.status == 503
    assert "async_offload_failed" in output
    assert "zanzibar-4711" not in output


def test_reserved_tokens_are_given_back(door: Door) -> None:
    door.ask(chat(), headers=ASK, **{**KEY, "tokens_per_day": "1000"})
    rows = door.tables.scan(TableName="records")["Items"]
    (usage,) = [row for row in rows if row["pk"]["S"] == "USAGE#shop"]
    assert usage["charged"] == {"N": "0"}


def test_what_became_a_job_counts_when_the_job_is_answered(door: Door) -> None:
    limited = {**KEY, "requests_per_day": "5", "tokens_per_day": "1000"}
    door.ask(chat(), headers=ASK, **limited)
    rows = [row for row in door.tables.scan(TableName="records")["Items"] if "USAGE" in row["pk"]["S"]]
    assert [(row["requests"]["N"], row["charged"]["N"]) for row in rows] == [("0", "0")]
    door.ask(chat(), **limited)  # a request that only fails was one
    rows = [row for row in door.tables.scan(TableName="records")["Items"] if "USAGE" in row["pk"]["S"]]
    assert [(row["requests"]["N"], row["charged"]["N"]) for row in rows] == [("1", "0")]


def test_a_principals_job_is_found_below_its_own_routes(
    make_door: Callable[..., Door], submissions: Submissions, jobs: Jobs, tables: Any
) -> None:
    arn = "arn:aws:iam::123456789012:user/ann"
    row = AccessKey(pk=principal_pk(arn), tenant="shop", name="ann", scopes=["inference"], created_at=1)
    tables.put_item(TableName="access", Item=to_item(row.model_dump()))
    signed = make_door(SETTINGS, jobs=submissions, access=AccessTable("access", DynamoDB()))
    signed.sagemaker.replies = [FULL]
    incoming = IncomingRequest(
        "req-1", json.dumps(chat()).encode(), {}, ASK, None, 1_700_000_000.0, principal=arn
    )
    reply = signed.service.answer("/v1/chat/completions", incoming)
    job = json.loads(b"".join(reply.body))
    assert (reply.status, reply.headers["location"]) == (202, f"/iam/v1/jobs/{job['id']}")
    assert jobs.ask("GET", f"/v1/jobs/{job['id']}", arn=arn)[1]["status"] == "queued"
    assert jobs.ask("GET", f"/v1/jobs/{job['id']}")[0] == 404
