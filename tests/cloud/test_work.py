"""Jobs, batches and kept answers on the laptop cloud: with the official client and by plain HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest

from tests.support.keys import make_key
from tests.support.laptop import Laptop

HELLO = [{"role": "user", "content": "Hello there"}]
DONE_WITHIN_SECONDS = 90
PLAIN_TEXT = "zanzibar 4711"


def until(done: Callable[[], Any]) -> Any:
    """What `done` gives once it gives something."""
    deadline = time.monotonic() + DONE_WITHIN_SECONDS
    while time.monotonic() < deadline:
        if found := done():
            return found
        time.sleep(0.2)
    raise AssertionError("it did not happen in time")


def call(laptop: Laptop, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
    return httpx.request(
        method, f"{laptop.api_url}{path}", json=body, headers=laptop.headers | headers, timeout=60
    )


def chat(laptop: Laptop, text: str = "Hi", **fields: Any) -> dict[str, Any]:
    return {"model": laptop.model, "messages": [{"role": "user", "content": text}], "max_tokens": 4, **fields}


def submit(laptop: Laptop, **headers: str) -> httpx.Response:
    return call(laptop, "POST", "/jobs", {"url": "/v1/chat/completions", "body": chat(laptop)}, **headers)


def finished(laptop: Laptop, id: str) -> dict[str, Any]:
    """A job once it is over."""

    def over() -> Any:
        job = call(laptop, "GET", f"/jobs/{id}").json()
        return job if job["status"] not in ("queued", "in_progress", "cancelling") else None

    job: dict[str, Any] = until(over)
    return job


def uploaded(laptop: Laptop, *lines: dict[str, Any]) -> openai.types.FileObject:
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    return laptop.openai().files.create(file=("requests.jsonl", content), purpose="batch")


def line(laptop: Laptop, custom_id: str, **fields: Any) -> dict[str, Any]:
    body = chat(laptop, **fields)
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


def test_the_official_client_runs_a_batch(laptop: Laptop) -> None:
    client = laptop.openai()
    file = uploaded(laptop, line(laptop, "a"), line(laptop, "b", text=PLAIN_TEXT), line(laptop, "c", magic=1))
    assert client.files.retrieve(file.id).purpose == "batch"
    assert file.id in [each.id for each in client.files.list()]
    batch = client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"why": "test"},
    )
    assert batch.id in [each.id for each in client.batches.list()]

    def over() -> Any:
        seen = client.batches.retrieve(batch.id)
        return seen if seen.status == "completed" else None

    seen = until(over)
    assert (seen.request_counts.total, seen.request_counts.completed, seen.request_counts.failed) == (3, 2, 1)
    answers = [json.loads(text) for text in client.files.content(seen.output_file_id).text.splitlines()]
    assert [answer["custom_id"] for answer in answers] == ["a", "b"]
    assert answers[0]["response"]["body"]["usage"]["completion_tokens"] > 0
    (refused,) = [json.loads(text) for text in client.files.content(seen.error_file_id).text.splitlines()]
    assert (refused["custom_id"], refused["response"]["status_code"]) == ("c", 400)
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)


def test_a_batch_is_cancelled_by_the_official_client(laptop: Laptop) -> None:
    client = laptop.openai()
    file = uploaded(laptop, *(line(laptop, str(n), max_tokens=256) for n in range(40)))
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    client.batches.cancel(batch.id)

    def over() -> Any:
        seen = client.batches.retrieve(batch.id)
        return seen if seen.status == "cancelled" else None

    seen = until(over)
    left = client.files.content(seen.error_file_id).text.splitlines()
    assert json.loads(left[-1])["error"]["code"] == "batch_cancelled"


def test_a_job_is_answered_and_the_same_key_makes_it_once(laptop: Laptop) -> None:
    first = submit(laptop, **{"idempotency-key": "k-1"})
    again = submit(laptop, **{"idempotency-key": "k-1"})
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["id"] == again.json()["id"]
    job = finished(laptop, first.json()["id"])
    assert job["status"] == "completed"
    result = call(laptop, "GET", job["result_url"].removeprefix("/v1"))
    assert result.status_code == 200
    assert result.json()["choices"][0]["message"]["content"]
    assert call(laptop, "DELETE", f"/jobs/{job['id']}").json()["deleted"] is True
    assert call(laptop, "GET", f"/jobs/{job['id']}").status_code == 404


def test_the_same_question_is_answered_again_from_what_was_kept(laptop: Laptop) -> None:
    body = chat(laptop, text="what is kept?", temperature=1.5, max_tokens=12)
    replies = []
    for _ in range(2):
        reply = call(laptop, "POST", "/chat/completions", body, **{"cache-control": "max-age=120"})
        laptop.settled(reply.json()["id"])
        replies.append(reply)
    assert [reply.headers["x-cache"] for reply in replies] == ["miss", "hit"]
    first, second = (reply.json()["choices"] for reply in replies)
    assert first == second


def test_another_keys_work_looks_like_none(laptop: Laptop) -> None:
    made = submit(laptop).json()["id"]
    other = Laptop(laptop.home, laptop.port, laptop.environment, dict(laptop.outputs))
    other.outputs["api_key"] = make_key(laptop)
    for method, path in (("GET", ""), ("GET", "/result"), ("POST", "/cancel"), ("DELETE", "")):
        assert call(other, method, f"/jobs/{made}{path}").status_code == 404
    assert finished(laptop, made)["status"] == "completed"


def test_nothing_of_what_was_asked_is_in_the_logs_or_the_queue(laptop: Laptop) -> None:
    body = {"url": "/v1/chat/completions", "body": chat(laptop, text=PLAIN_TEXT)}
    finished(laptop, call(laptop, "POST", "/jobs", body).json()["id"])
    logs = laptop.aws("logs")
    for group in logs.describe_log_groups()["logGroups"]:
        found = logs.filter_log_events(logGroupName=group["logGroupName"], filterPattern='"zanzibar"')
        assert found["events"] == []
