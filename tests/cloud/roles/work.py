"""Probes of the roles of work that is answered later: routes of jobs, worker, and who hands over to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from contracts.access import routing_pk
from contracts.jobs import queue_name
from tests.cloud.roles.door import INFERENCE, _log_of
from tests.cloud.roles.world import Probe, World, marker
from tests.cloud.test_callers import admin, signed, user
from tests.support.laptop import EMBEDDING

JOBS, WORKER = "lambdas.jobs.handler", "lambdas.job_worker.handler"
ROUTE = "/v1/chat/completions"


def _chat(world: World, text: str = "Hi") -> dict[str, Any]:
    return {
        "model": world.laptop.model, "messages": [{"role": "user", "content": text}], "max_tokens": 2
    }  # fmt: skip


def _call(world: World, verb: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
    return httpx.request(
        verb, f"{world.laptop.api_url}{path}", json=body, headers=world.laptop.headers | headers, timeout=60
    )


def _allowed(reply: httpx.Response) -> bool:
    """Whether a route did its work; what its function may not do is our fault, not the caller's."""
    assert reply.status_code < 300 or reply.status_code == 500, reply.text
    return reply.status_code < 300


def _submit(world: World, url: str = ROUTE, body: dict[str, Any] | None = None) -> httpx.Response:
    return _call(world, "POST", "/jobs", {"url": url, "body": body or _chat(world)})


@contextmanager
def _job(world: World, *asked: Any) -> Iterator[str]:
    """A job's id; whatever came of it, it is gone afterwards."""
    made = _submit(world, *asked)
    assert made.status_code == 202, made.text
    job = str(made.json()["id"])
    try:
        yield job
    finally:
        _call(world, "DELETE", f"/jobs/{job}")


def _over(world: World, path: str) -> bool:
    return _call(world, "GET", path).json().get("status") in ("completed", "failed", "cancelled", "expired")


def _done(world: World, path: str) -> bool:
    """Whether it is completed within the patience there is."""
    return world.soon(lambda: _call(world, "GET", path).json().get("status") == "completed")


def _upload(world: World, lines: int) -> str:
    text = "".join(
        json.dumps({"custom_id": str(n), "method": "POST", "url": ROUTE, "body": _chat(world)}) + "\n"
        for n in range(lines)
    )
    file = ("requests.jsonl", text.encode())
    return str(world.laptop.openai().files.create(file=file, purpose="batch").id)


@contextmanager
def _batch(world: World, lines: int) -> Iterator[str]:
    """A batch's id; it is cancelled afterwards, should it still be under way."""
    request = {"input_file_id": _upload(world, lines), "endpoint": ROUTE, "completion_window": "24h"}
    made = _call(world, "POST", "/batches", request)
    assert made.status_code < 300, made.text
    batch = str(made.json()["id"])
    try:
        yield batch
    finally:
        _call(world, "POST", f"/batches/{batch}/cancel")


# --- the routes ------------------------------------------------------------------------------------------


def job_is_taken(world: World) -> bool:
    reply = _submit(world)
    if reply.status_code == 202:
        _call(world, "DELETE", f"/jobs/{reply.json()['id']}")
    return _allowed(reply)


def an_ended_job(world: World) -> None:
    """Made and answered while everything is allowed."""
    made = _submit(world)
    assert made.status_code == 202, made.text
    job = world.kept["job"] = str(made.json()["id"])
    world.until(lambda: _over(world, f"/jobs/{job}"), "the job ends")


def job_is_shown(world: World) -> bool:
    return _allowed(_call(world, "GET", f"/jobs/{world.kept['job']}"))


def result_is_given(world: World) -> bool:
    return _allowed(_call(world, "GET", f"/jobs/{world.kept['job']}/result"))


def job_is_deleted(world: World) -> bool:
    return _allowed(_call(world, "DELETE", f"/jobs/{world.kept['job']}"))


def batch_is_cancelled(world: World) -> bool:
    with _batch(world, lines=60) as batch:
        return _allowed(_call(world, "POST", f"/batches/{batch}/cancel"))


# --- the worker ------------------------------------------------------------------------------------------


def job_is_answered(world: World) -> bool:
    """From the ticket to the stored result; its place among the open tasks is free again."""
    with _job(world) as job:
        return _done(world, f"/jobs/{job}") and world.soon(lambda: not _slots(world, job))


def texts_are_embedded(world: World) -> bool:
    """A further model, on a serverless endpoint: it gives its answer whole."""
    with _job(world, "/v1/embeddings", {"model": EMBEDDING, "input": "Hi"}) as job:
        return _done(world, f"/jobs/{job}")


def _slots(world: World, task: str) -> list[Any]:
    found = world.laptop.aws("dynamodb").scan(
        TableName=world.data["WorkTableName"],
        FilterExpression="begins_with(sk, :slot) AND task = :task",
        ExpressionAttributeValues={":slot": {"S": "SLOT#"}, ":task": {"S": task}},
    )
    return list(found["Items"])


def batch_is_answered(world: World) -> bool:
    """Its outcomes lie in parts until they are put together into a file of their own."""
    objects = world.laptop.aws("s3")
    with _batch(world, lines=2) as batch:

        def cleared() -> bool:
            listed = objects.list_objects_v2(Bucket=world.data["WorkBucketName"], Prefix="tasks/")
            return not any(f"{batch}/part-" in entry["Key"] for entry in listed.get("Contents", []))

        return _done(world, f"/batches/{batch}") and world.soon(cleared)


def _answered(world: World) -> str:
    """The request id of a job's answer."""
    with _job(world) as job:
        world.until(lambda: _over(world, f"/jobs/{job}"), "the job ends")
        result = _call(world, "GET", f"/jobs/{job}/result").json()
    return str(result["id"]).removeprefix("chatcmpl-")


def _record(world: World, request_id: str) -> list[Any]:
    return [row for row in world.rows("RecordsTableName", request_id) if row["sk"]["S"] == "RECORD"]


def answer_is_recorded(world: World) -> bool:
    request_id = _answered(world)
    return world.soon(lambda: bool(_record(world, request_id)))


def answer_is_charged(world: World) -> bool:
    def requests() -> int:
        days = _call(world, "GET", "/usage").json()["data"]
        return sum(day["requests"] for day in days)

    before = requests()
    _answered(world)
    return world.soon(lambda: requests() > before)


def split_is_read(world: World) -> bool:
    """The version in the record is the routing item's. New processes: the old ones may remember the item."""
    endpoint, version = world.laptop.outputs["endpoint_name"], marker()
    variant = {"name": {"S": "champion"}, "weight": {"N": "1"}, "model_version": {"S": version}}
    item = {"pk": {"S": routing_pk(endpoint)}, "endpoint_name": {"S": endpoint}}
    with world.routing_kept():
        world.item("AccessTableName", item | {"variants": {"L": [{"M": variant}]}})
        world.restart(WORKER)
        request_id = _answered(world)
    world.until(lambda: _record(world, request_id), "the record is there")
    (record,) = _record(world, request_id)
    return bool(record["model_version"]["S"] == version)


def ticket_is_put_back(world: World) -> bool:
    """The model is away, so the worker puts the ticket back to try again later."""
    queues = world.laptop.aws("sqs")
    url = queues.get_queue_url(QueueName=queue_name("evergreen-local"))["QueueUrl"]
    queues.purge_queue(QueueUrl=url)
    name = "ApproximateNumberOfMessagesDelayed"

    def waits() -> bool:
        told = queues.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"]
        return int(told[name]) > 0

    with _full(world), _job(world):
        return world.soon(waits)


@contextmanager
def _full(world: World) -> Iterator[None]:
    """The endpoint answers 503 meanwhile; afterwards the door has forgotten that it did."""
    base = world.laptop.outputs["aws_endpoint_url"]
    fault = {"kind": "errors", "endpoint": world.laptop.outputs["endpoint_name"], "status": 503}
    httpx.post(f"{base}/_evergreen/faults", json=fault, timeout=30).raise_for_status()
    try:
        yield
    finally:
        httpx.delete(f"{base}/_evergreen/faults", timeout=30).raise_for_status()
        world.restart(INFERENCE)
        world.restart(WORKER)


def worker_is_logged(world: World) -> bool:
    """What it says of a ticket that is none."""
    word = marker()
    world.invoke(WORKER, {"Records": [{"body": word}]})
    return world.logged(WORKER, word)


# --- who hands over, keeps answers, or calls with AWS credentials ----------------------------------------


def request_becomes_a_job(world: World) -> bool:
    with _full(world):
        reply = _call(world, "POST", "/chat/completions", _chat(world), **{"prefer": "respond-async"})
    assert reply.status_code in (202, 500, 503), reply.text
    if reply.status_code == 202:
        _call(world, "DELETE", f"/jobs/{reply.json()['id']}")
    return reply.status_code == 202


def broken_hand_over_is_undone(world: World) -> bool:
    """The queue takes no ticket, so the job's row and its place among the open ones go again."""
    tables, table = world.laptop.aws("dynamodb"), world.data["WorkTableName"]

    def begun() -> dict[tuple[str, str], Any]:
        rows = tables.scan(
            TableName=table,
            ConsistentRead=True,
            FilterExpression="begins_with(sk, :job) OR begins_with(sk, :slot)",
            ExpressionAttributeValues={":job": {"S": "job_"}, ":slot": {"S": "SLOT#"}},
        )["Items"]
        named = [(row["sk"]["S"], row.get("task", {}).get("S", "")) for row in rows]
        return {name: {"pk": row["pk"], "sk": row["sk"]} for name, row in zip(named, rows, strict=True)}

    before = begun()
    with _full(world), world.lacking("InferenceRole", "sqs:SendMessage"):
        reply = _call(world, "POST", "/chat/completions", _chat(world), **{"prefer": "respond-async"})
    assert reply.status_code == 503, reply.text
    left = [key for name, key in begun().items() if name not in before]
    for key in left:
        tables.delete_item(TableName=table, Key=key)
    return not left


def answer_is_given_again(world: World) -> bool:
    body = _chat(world, marker())
    first, second = (
        _call(world, "POST", "/chat/completions", body, **{"cache-control": "max-age=600"}) for _ in range(2)
    )
    assert first.headers["x-cache"] == "miss", first.headers
    return second.headers["x-cache"] == "hit"


def _principal_is_known(world: World, path: str, body: dict[str, Any] | None = None) -> bool:
    with user(world.laptop) as (arn, credentials):
        admin(world.laptop, "admit-principal", "--arn", arn, "--tenant", marker())
        reply = signed(world.laptop, credentials, path, body)
    assert reply.status_code in (200, 503), reply.text
    return reply.status_code == 200


def principal_is_known(world: World) -> bool:
    return _principal_is_known(world, "/usage")


def principal_sees_its_files(world: World) -> bool:
    return _principal_is_known(world, "/files")


def principal_is_answered(world: World) -> bool:
    body = {"model": world.laptop.model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    return _principal_is_known(world, "/chat/completions", body)


PROBES = [
    Probe("JobsRole", ("logs:PutLogEvents",), _log_of(JOBS)),
    Probe(
        "JobsRole",
        ("dynamodb:PutItem@WorkTable", "dynamodb:Query@WorkTable", "s3:PutObject", "sqs:SendMessage"),
        job_is_taken,
    ),
    Probe("JobsRole", ("dynamodb:GetItem@WorkTable",), job_is_shown, an_ended_job),
    Probe("JobsRole", ("s3:GetObject",), result_is_given, an_ended_job),
    Probe("JobsRole", ("s3:DeleteObject", "dynamodb:DeleteItem@WorkTable"), job_is_deleted, an_ended_job),
    Probe("JobsRole", ("dynamodb:UpdateItem@WorkTable",), batch_is_cancelled),
    Probe(
        "WorkerRole",
        (
            *("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"),
            *("dynamodb:GetItem@WorkTable", "dynamodb:UpdateItem@WorkTable", "dynamodb:DeleteItem@WorkTable"),
            *("s3:GetObject", "s3:PutObject", "sagemaker:InvokeEndpointWithResponseStream"),
        ),
        job_is_answered,
    ),
    Probe("WorkerRole", ("sagemaker:InvokeEndpoint",), texts_are_embedded),
    Probe("WorkerRole", ("logs:PutLogEvents",), worker_is_logged),
    Probe("WorkerRole", ("s3:DeleteObject", "dynamodb:PutItem@WorkTable"), batch_is_answered),
    Probe("WorkerRole", ("dynamodb:PutItem@RecordsTable",), answer_is_recorded),
    Probe("WorkerRole", ("dynamodb:UpdateItem@RecordsTable",), answer_is_charged),
    Probe("WorkerRole", ("dynamodb:BatchGetItem@AccessTable",), split_is_read),
    Probe("WorkerRole", ("sqs:SendMessage",), ticket_is_put_back),
    Probe(
        "InferenceRole", ("dynamodb:GetItem@WorkTable", "dynamodb:PutItem@WorkTable"), answer_is_given_again
    ),
    Probe(
        "InferenceRole",
        ("dynamodb:Query@WorkTable", "s3:PutObject", "sqs:SendMessage"),
        request_becomes_a_job,
    ),
    Probe("InferenceRole", ("dynamodb:DeleteItem@WorkTable",), broken_hand_over_is_undone),
    Probe("ApiRole", ("dynamodb:GetItem@AccessTable",), principal_is_known),
    Probe("JobsRole", ("dynamodb:GetItem@AccessTable",), principal_sees_its_files),
    Probe("InferenceRole", ("dynamodb:GetItem@AccessTable",), principal_is_answered),
]
