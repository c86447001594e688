"""Jobs through their entry point: made once, seen by their own key alone, bounded, stopped, forgotten."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from lambdas.aws.dynamodb import from_item
from tests.support.fake_model_endpoint import Reply, chat_events, cut
from tests.support.front_door import chat
from tests.support.jobs_api import CHAT, KEY, Jobs

OTHER = {**KEY, "key_id": "def"}


def test_a_job_is_queued_answered_and_its_result_is_the_answer(jobs: Jobs) -> None:
    status, job = jobs.submit(chat("Hello"))
    assert (status, job["object"], job["status"], job["result_url"]) == (202, "job", "queued", None)
    assert jobs.headers["retry-after"] == "2"
    assert jobs.ask("GET", f"/v1/jobs/{job['id']}/result")[0] == 409

    jobs.work()

    status, job = jobs.ask("GET", f"/v1/jobs/{job['id']}")
    assert (status, job["status"]) == (200, "completed")
    assert job["created_at"] <= job["started_at"] <= job["finished_at"] <= job["deadline"]
    status, answer = jobs.ask("GET", job["result_url"])
    assert (status, answer["choices"][0]["message"]["content"]) == (200, "Hello")
    assert answer["id"] == f"chatcmpl-{job['id']}-0"


def test_the_model_is_asked_what_the_caller_asked(jobs: Jobs) -> None:
    jobs.submit(chat("Hello", max_tokens=7))
    jobs.work()
    ((_, body),) = jobs.door.sagemaker.calls
    sent = json.loads(body)
    assert (sent["max_tokens"], sent["messages"][0]["content"]) == (7, "Hello")


def test_a_job_is_booked_on_its_key_like_any_request(jobs: Jobs) -> None:
    jobs.submit(chat())
    jobs.work()
    rows = [from_item(item) for item in jobs.door.tables.scan(TableName="records")["Items"]]
    usage = next(row for row in rows if row["pk"] == "USAGE#shop")
    assert (usage["requests"], usage["input_tokens"], usage["output_tokens"]) == (1, 5, 3)


def test_what_the_request_would_have_got_is_what_the_result_gives(jobs: Jobs) -> None:
    _, job = jobs.submit({"model": "gpt-9", "messages": [{"role": "user", "content": "Hi"}]})
    jobs.work()
    _, job = jobs.ask("GET", f"/v1/jobs/{job['id']}")
    assert (job["status"], job["error"]["code"]) == ("failed", "model_not_found")
    status, body = jobs.ask("GET", f"/v1/jobs/{job['id']}/result")
    assert (status, body["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("GET", "/result"), ("POST", "/cancel"), ("DELETE", "")]
)
def test_another_keys_job_looks_like_none(jobs: Jobs, method: str, path: str) -> None:
    _, job = jobs.submit(chat())
    theirs = jobs.ask(method, f"/v1/jobs/{job['id']}{path}", caller=OTHER)
    never_was = jobs.ask(method, f"/v1/jobs/job_{'0' * 28}{path}", caller=OTHER)
    assert theirs == never_was
    assert theirs[0] == 404
    assert jobs.ask("GET", f"/v1/jobs/{job['id']}")[1]["status"] == "queued"


def test_bearers_of_one_tenants_tokens_do_not_see_each_others_jobs(jobs: Jobs) -> None:
    ann, bob = ({**KEY, "subject": name} for name in ("ann", "bob"))
    _, job = jobs.submit(chat(), caller=ann)
    assert jobs.ask("GET", f"/v1/jobs/{job['id']}", caller=ann)[0] == 200
    assert jobs.ask("GET", f"/v1/jobs/{job['id']}", caller=bob)[0] == 404


@pytest.mark.parametrize("id", ["SLOT%230000", "SLOT#0000", "batch_", "job_../x", "job_" + "a" * 2000])
def test_an_id_that_is_none_is_not_found(jobs: Jobs, id: str) -> None:
    jobs.submit(chat())
    assert jobs.ask("GET", f"/v1/jobs/{id}")[0] == 404


def test_the_same_idempotency_key_is_the_same_job(jobs: Jobs) -> None:
    headers = {"Idempotency-Key": "order-17"}
    _, first = jobs.submit(chat("Hello"), headers=headers)
    status, second = jobs.submit(chat("Hello"), headers=headers)
    assert (status, second["id"]) == (202, first["id"])
    assert len(jobs.stores.messages) == 1
    status, body = jobs.submit(chat("Other"), headers=headers)
    assert (status, body["error"]["code"]) == (409, "idempotency_key_reused")
    _, theirs = jobs.submit(chat("Hello"), headers=headers, caller=OTHER)
    assert theirs["id"] != first["id"]


def test_the_same_json_written_otherwise_is_the_same_job(jobs: Jobs) -> None:
    headers = {"Idempotency-Key": "k"}
    body = {
        "url": CHAT,
        "body": {"model": "m", "temperature": 1, "messages": [{"role": "user", "content": "é"}]},
    }
    _, first = jobs.ask("POST", "/v1/jobs", json.dumps(body), headers=headers)
    otherwise = (
        '{"body": {"messages": [{"content": "\\u00e9", "role": "user"}], "temperature": 1.0,'
        f' "model": "m"}}, "url": "{CHAT}"}}'
    )
    status, second = jobs.ask("POST", "/v1/jobs", otherwise, headers=headers)
    assert (status, second["id"]) == (202, first["id"])
    status, _ = jobs.ask("POST", "/v1/jobs", otherwise.replace("1.0", "1.01"), headers=headers)
    assert status == 409


def test_an_idempotency_key_raced_makes_one_job(jobs: Jobs) -> None:
    made: list[Any] = []

    def submit() -> None:
        made.append(jobs.submit(chat("Hello"), headers={"Idempotency-Key": "k"})[1].get("id"))

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    # Whoever finds no room meanwhile is told so; nobody gets a second job.
    assert len(set(made) - {None}) == 1
    assert len(jobs.stores.messages) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
def test_a_bad_idempotency_key_is_refused(jobs: Jobs, key: str) -> None:
    status, body = jobs.submit(chat(), headers={"idempotency-key": key})
    assert (status, body["error"]["param"]) == (400, "idempotency-key")


def test_a_key_has_so_many_jobs_open_and_no_more(jobs: Jobs) -> None:
    for _ in range(3):
        assert jobs.submit(chat())[0] == 202
    status, body = jobs.submit(chat())
    assert (status, body["error"]["code"]) == (429, "too_many_open_jobs")
    assert jobs.submit(chat(), caller=OTHER)[0] == 202
    jobs.deliver()
    assert jobs.submit(chat())[0] == 202


def test_open_jobs_raced_stay_within_the_bound(jobs: Jobs) -> None:
    seen: list[int] = []
    threads = [threading.Thread(target=lambda: seen.append(jobs.submit(chat())[0])) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(seen) == [202] * 3 + [429] * 9


def test_a_queued_job_is_cancelled_at_once_and_never_asked(jobs: Jobs) -> None:
    _, job = jobs.submit(chat())
    assert jobs.ask("POST", f"/v1/jobs/{job['id']}/cancel")[1]["status"] == "cancelled"
    jobs.work()
    assert jobs.door.sagemaker.calls == []
    status, body = jobs.ask("GET", f"/v1/jobs/{job['id']}/result")
    assert (status, body["error"]["code"]) == (404, "no_result")
    # Cancelling what is over changes nothing.
    assert jobs.ask("POST", f"/v1/jobs/{job['id']}/cancel")[1]["status"] == "cancelled"


def test_a_job_that_is_over_can_be_deleted(jobs: Jobs) -> None:
    _, job = jobs.submit(chat())
    assert jobs.ask("DELETE", f"/v1/jobs/{job['id']}")[1]["status"] == "cancelled"
    assert jobs.ask("DELETE", f"/v1/jobs/{job['id']}")[1]["deleted"] is True
    assert jobs.ask("GET", f"/v1/jobs/{job['id']}")[0] == 404
    assert jobs.stores.objects == {}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("{", "invalid_json"),
        ("[" * 5000, "invalid_json"),
        ('{"url": "/v1/chat/completions"}', "missing_parameter"),
        ('{"body": {}}', "invalid_value"),
        ('{"url": "/v1/models", "body": {}}', "invalid_value"),
        ('{"url": "/v1/chat/completions", "endpoint": "/v1/chat/completions", "body": {}}', "invalid_value"),
        ('{"url": "/v1/chat/completions", "body": {"stream": true}}', "invalid_value"),
        ('{"url": "/v1/chat/completions", "body": {}, "magic": 1}', "unknown_parameter"),
    ],
)
def test_a_bad_submission_is_refused(jobs: Jobs, body: str, code: str) -> None:
    status, answer = jobs.ask("POST", "/v1/jobs", body)
    assert (status, answer["error"]["code"]) == (400, code)
    assert jobs.stores.messages == []


def test_a_large_submission_is_refused(jobs: Jobs) -> None:
    assert jobs.submit(chat("x" * 100_000))[0] == 413


def test_a_user_too_long_for_any_request_is_refused_when_it_is_asked(jobs: Jobs) -> None:
    _, job = jobs.submit(chat(user="u" * 20_000))
    jobs.work()
    _, job = jobs.ask("GET", f"/v1/jobs/{job['id']}")
    assert (job["status"], job["error"]["param"]) == ("failed", "user")


def test_endpoint_is_another_name_of_url(jobs: Jobs) -> None:
    assert jobs.ask("POST", "/v1/jobs", {"endpoint": CHAT, "body": chat()})[0] == 202


def test_submitting_takes_a_key_with_the_scope(jobs: Jobs) -> None:
    assert jobs.submit(chat(), caller={})[0] == 401
    status, body = jobs.submit(chat(), caller={**KEY, "scopes": "choose-variant"})
    assert (status, body["error"]["code"]) == (403, "insufficient_scope")


def test_a_queue_that_fails_leaves_no_job_and_no_slot_behind(
    jobs: Jobs, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs.stores.queue_failures = [503, 503, 503]
    assert jobs.submit(chat("zanzibar-4711"))[0] == 500
    assert jobs.stores.queue_failures == []
    for _ in range(3):
        assert jobs.submit(chat())[0] == 202
    assert "zanzibar-4711" not in capsys.readouterr().out


def test_a_job_nobody_works_on_shows_as_expired(jobs: Jobs) -> None:
    _, job = jobs.submit(chat())
    (row,) = [r for r in jobs.door.tables.scan(TableName="work")["Items"] if r["sk"]["S"] == job["id"]]
    row["deadline"] = {"N": "1000"}
    jobs.door.tables.put_item(TableName="work", Item=row)
    status, seen = jobs.ask("GET", f"/v1/jobs/{job['id']}")
    assert (status, seen["status"], seen["error"]["type"]) == (200, "expired", "timeout_error")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/jobs"), ("PUT", "/v1/files"), ("GET", "/v1/jobs/a/b")]
)
def test_an_unknown_route_is_an_error_object(jobs: Jobs, method: str, path: str) -> None:
    status, body = jobs.ask(method, path)
    assert (status, body["error"]["code"]) == (404, "unknown_route")


def test_no_prompt_and_no_answer_is_logged(jobs: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    jobs.door.sagemaker.replies = [Reply(parts=cut(chat_events("marrakesh-4712"), 50))]
    jobs.submit(chat("zanzibar-4711"))
    jobs.work()
    output = capsys.readouterr().out
    assert "task_ended" in output
    assert "zanzibar-4711" not in output
    assert "marrakesh-4712" not in output
