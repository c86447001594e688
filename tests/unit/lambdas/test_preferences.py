"""Request headers of RFC 7240 and RFC 9111, and the deprecated ones that they replace."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from contracts.container import decode_attributes
from lambdas.aws.dynamodb import DynamoDB
from lambdas.aws.s3 import Bucket
from lambdas.aws.sqs import TicketQueue
from lambdas.aws.work_table import AnswersTable, WorkTable
from lambdas.pipeline.job_submission import Submissions
from lambdas.pipeline.preferences import LONGEST_SECONDS, Preferences, cache_seconds, deadline_ms
from lambdas.pipeline.request import IncomingRequest
from tests.support.fake_jobs_aws import FakeWork
from tests.support.fake_model_endpoint import Reply
from tests.support.front_door import AUTHORIZER, SETTINGS, Door, chat

KEY = {**AUTHORIZER, "key_id": "abc"}
FULL = Reply(status=503, error=("ServiceUnavailable", {"Message": "full"}))


def incoming(**headers: str) -> IncomingRequest:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return IncomingRequest("r", b"", {}, named, None, 1_000.0)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("respond-async", Preferences(True, None)),
        ("Respond-Async, wait=30", Preferences(True, 30)),
        ("wait=30", Preferences(False, 30)),
        ('wait="30"; x=1, return=minimal', Preferences(False, 30)),
        ("wait=100000", Preferences(False, LONGEST_SECONDS)),
        ("wait=soon", Preferences()),
        ("wait=-1", Preferences()),
        ("wait=0, respond-asynchronously", Preferences()),
        ("", Preferences()),
    ],
)
def test_preferences_are_read_and_what_cannot_be_read_is_ignored(header: str, expected: Preferences) -> None:
    assert Preferences.of(incoming(prefer=header)) == expected


def test_a_deadline_follows_from_wait_or_from_the_deprecated_header() -> None:
    assert deadline_ms(incoming(prefer="wait=30")) == 1_030_000
    assert deadline_ms(incoming(x_request_timeout="0.5")) == 1_000_500
    assert deadline_ms(incoming(prefer="wait=30", x_request_timeout="5")) == 1_030_000
    assert deadline_ms(incoming()) is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"cache_control": "max-age=60"}, 60),
        ({"cache_control": "max-age=6000"}, 600),
        ({"cache_control": "max-age=0"}, None),  # what a browser's reload sends
        ({"cache_control": "no-cache"}, None),
        ({"cache_control": "no-store, max-age=60"}, None),
        ({"cache_control": "max-age=soon"}, None),
        ({"x_evergreen_cache": "60"}, 60),
        ({"cache_control": "max-age=30", "x_evergreen_cache": "60"}, 30),
        ({}, None),
    ],
)
def test_the_age_of_an_answer_that_will_do(headers: dict[str, str], seconds: int | None) -> None:
    assert cache_seconds(incoming(**headers), 600) == seconds


def test_a_kept_answer_says_that_it_is_one(make_door: Callable[..., Door]) -> None:
    settings = SETTINGS.model_copy(update={"cache_max_seconds": 600})
    door = make_door(settings, answers=AnswersTable("work", DynamoDB()))
    for expected in ("miss", "hit"):
        reply, _ = door.ask(chat(), headers={"cache-control": "max-age=60"}, **KEY)
        assert reply.headers["x-cache"] == expected
        assert "x-evergreen-cache" not in reply.headers
    assert int(reply.headers["age"]) >= 0
    old, _ = door.ask(chat(), headers={"x-evergreen-cache": "60"}, **KEY)
    assert (old.headers["x-cache"], old.headers["x-evergreen-cache"]) == ("hit", "hit")


def test_the_model_hears_how_long_the_caller_waits(door: Door) -> None:
    reply, body = door.ask(chat(), headers={"prefer": "wait=5"})  # these requests arrived in 2023
    assert (reply.status, json.loads(body)["error"]["code"]) == (504, "model_timeout")
    door.ask(chat())
    attributes = decode_attributes(door.sagemaker.calls[-1][0]["x-amzn-sagemaker-custom-attributes"])
    assert "timeout_ms" not in attributes


@pytest.mark.parametrize(
    ("headers", "status", "applied"),
    [
        ({"prefer": "respond-async"}, 202, "respond-async"),
        ({"x-evergreen-when-busy": "job"}, 202, "respond-async"),
        ({"prefer": "respond-async, wait=5"}, 202, "respond-async, wait=5"),  # late already
        ({"prefer": "wait=5"}, 504, None),
        ({}, 503, None),
    ],
)
def test_a_busy_model_makes_a_job_for_whoever_prefers_one(
    make_door: Callable[..., Door],
    work_stores: FakeWork,
    headers: dict[str, str],
    status: int,
    applied: str | None,
) -> None:
    submissions = Submissions(
        WorkTable("work", DynamoDB()),
        Bucket("work"),
        TicketQueue("http://queue"),
        open_per_key=3,
        deadline=60,
        retention=60,
    )
    door = make_door(SETTINGS, jobs=submissions)
    door.sagemaker.replies = [FULL]
    reply, _ = door.ask(chat(), headers=headers, **KEY)
    assert (reply.status, reply.headers.get("preference-applied")) == (status, applied)
    assert ("location" in reply.headers) == (status == 202)
    assert len(work_stores.messages) == (status == 202)
