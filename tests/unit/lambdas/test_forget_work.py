"""A user is forgotten in jobs, files and kept answers as well, and nobody else is."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import boto3
import pytest

from lambdas.aws.dynamodb import DynamoDB
from lambdas.aws.responses_table import ResponsesTable
from lambdas.aws.work_table import AnswersTable
from operations.forget_jobs import Erased, WorkEraser
from tests.support.front_door import SETTINGS, Door, chat
from tests.support.jobs_api import KEY, Jobs, line

Erase = Callable[[], tuple[Erased, dict[str, bytes]]]


@pytest.fixture
def erase(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> Erase:
    """Forgets `u-7` of `shop`; gives what was erased and the objects that are left."""

    def run() -> tuple[Erased, dict[str, bytes]]:
        monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="work")
        for entry in s3.list_objects_v2(Bucket="work").get("Contents", []):  # of an earlier test
            s3.delete_object(Bucket="work", Key=entry["Key"])
        for key, body in jobs.stores.objects.items():
            s3.put_object(Bucket="work", Key=key, Body=body)
        erased = WorkEraser(s3, jobs.door.tables, "work", "work").forget("shop", "u-7")
        listed = s3.list_objects_v2(Bucket="work").get("Contents", [])
        keys = [entry["Key"] for entry in listed]
        return erased, {key: s3.get_object(Bucket="work", Key=key)["Body"].read() for key in keys}

    return run


def test_a_users_jobs_are_gone_and_others_are_not(jobs: Jobs, erase: Erase) -> None:
    _, done = jobs.submit(chat("mine-4711", user="u-7"))
    jobs.work()
    _, open_ = jobs.submit(chat("mine-4711", user="u-7"))
    _, other = jobs.submit(chat("theirs", user="u-8"))
    _, rival = jobs.submit(chat("rivals", user="u-7"), caller={**KEY, "tenant": "rival"})
    erased, left = erase()
    assert erased == Erased(jobs=2)
    assert not [key for key, body in left.items() if b"4711" in body]
    for job in (done, open_):
        assert jobs.ask("GET", f"/v1/jobs/{job['id']}")[0] == 404
    assert jobs.ask("GET", f"/v1/jobs/{other['id']}")[0] == 200
    assert jobs.ask("GET", f"/v1/jobs/{rival['id']}", caller={**KEY, "tenant": "rival"})[0] == 200
    # The open one's place is free, its ticket leads nowhere.
    slots = [row for row in jobs.door.tables.scan(TableName="work")["Items"] if "task" in row]
    assert {slot["task"]["S"] for slot in slots} == {other["id"], rival["id"]}


def test_a_users_lines_are_cut_out_of_files_and_results(jobs: Jobs, erase: Erase) -> None:
    _, batch = jobs.batch(
        line("a", "theirs", user="u-8"), line("b", "mine-4711", user="u-7"), line("c", magic=1, user="u-7")
    )
    jobs.work()
    batch = jobs.ask("GET", f"/v1/batches/{batch['id']}")[1]
    erased, left = erase()
    assert erased == Erased(lines=4)
    texts = b"".join(left.values()).decode()
    assert "4711" not in texts
    names = {each["custom_id"] for body in left.values() for each in map(json.loads, body.splitlines())}
    assert names == {"a"}
    # A file of which nothing is left is gone, the others tell their new size.
    assert jobs.ask("GET", f"/v1/files/{batch['error_file_id']}")[0] == 404
    sizes = [
        jobs.ask("GET", f"/v1/files/{batch[n]}")[1]["bytes"] for n in ("input_file_id", "output_file_id")
    ]
    assert sorted(sizes) == sorted(len(body) for body in left.values())


def test_a_batch_under_way_is_ended_when_its_file_loses_lines(jobs: Jobs, erase: Erase) -> None:
    _, batch = jobs.batch(line("a", user="u-8"), line("b", user="u-7"))
    _, other = jobs.batch(line("c", user="u-8"))
    erase()
    assert jobs.ask("GET", f"/v1/batches/{batch['id']}")[1]["status"] == "cancelled"
    assert jobs.ask("GET", f"/v1/batches/{other['id']}")[1]["status"] == "validating"


def test_results_whose_input_is_gone_are_gone_whole(jobs: Jobs, erase: Erase) -> None:
    _, batch = jobs.batch(line("a", "mine-4711", user="u-7"))
    jobs.work()
    batch = jobs.ask("GET", f"/v1/batches/{batch['id']}")[1]
    jobs.ask("DELETE", f"/v1/files/{batch['input_file_id']}")
    _, left = erase()
    assert left == {}


def test_kept_answers_of_the_user_are_gone(
    jobs: Jobs, erase: Erase, make_door: Callable[..., Door], tables: Any
) -> None:
    kept = SETTINGS.model_copy(update={"cache_max_seconds": 600})
    door = make_door(kept, answers=AnswersTable("work", DynamoDB()))
    for user in ("u-7", "u-8"):
        door.ask(chat(user=user), headers={"x-evergreen-cache": "60"}, **KEY)
    erased, _ = erase()
    assert erased == Erased(answers=1)
    (row,) = tables.scan(TableName="work")["Items"]
    assert row["user"] == {"S": "u-8"}


def test_a_users_kept_responses_are_gone(make_door: Callable[..., Door], erase: Erase, tables: Any) -> None:
    door = make_door(
        SETTINGS.model_copy(update={"responses_kept_seconds": 600}),
        responses=ResponsesTable("work", DynamoDB()),
    )
    for user in ("u-7", "u-8"):
        asked = {"model": SETTINGS.model_name, "input": "Hi", "user": user}
        caller: dict[str, Any] = {**KEY, "request_id": user}
        door.ask(asked, route="/v1/responses", **caller)
    erased, _ = erase()
    assert erased == Erased(answers=1)
    (row,) = tables.scan(TableName="work")["Items"]
    assert row["user"] == {"S": "u-8"}


def test_a_file_that_is_no_json_lines_is_left_as_it_is(jobs: Jobs, erase: Erase) -> None:
    jobs.upload('not json\n"text"\n{"custom_id": "a", "body": null}\n')
    before = dict(jobs.stores.objects)
    erased, left = erase()
    assert (erased, left) == (Erased(), before)
