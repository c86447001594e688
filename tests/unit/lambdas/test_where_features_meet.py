"""Where one feature of the door meets another: jobs and rate limits, kept answers and stand-ins …"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from contracts.fallback import FallbackTarget
from contracts.guards import GuardSettings
from contracts.routing import Routing, VariantRoute
from lambdas.aws.dynamodb import DynamoDB
from lambdas.aws.s3 import Bucket
from lambdas.aws.sqs import TicketQueue
from lambdas.aws.work_table import AnswersTable, WorkTable
from lambdas.pipeline.guards.pii import PiiRules
from lambdas.pipeline.job_submission import Submissions
from tests.support.fake_jobs_aws import FakeWork
from tests.support.fake_model_endpoint import Reply, chat_events, cut
from tests.support.front_door import ENDPOINT, SETTINGS, Door, chat, events
from tests.support.jobs_api import KEY, Jobs, line

MakeDoor = Callable[..., Door]
FULL = Reply(status=424, error=("ModelError", {"OriginalStatusCode": 503, "OriginalMessage": "busy"}))
REFUSED = Reply(status=424, error=("ModelError", {"OriginalStatusCode": 400, "OriginalMessage": "no"}))
CHOOSER = {**KEY, "scopes": "inference choose-variant"}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
CACHED = SETTINGS.model_copy(update={"cache_max_seconds": 600})


def answer(text: str) -> Reply:
    return Reply(parts=cut(chat_events(text), 60))


def kept(door: Door, *, caller: dict[str, str] = KEY, seconds: str = "60", **headers: str) -> Any:
    """What the door says of the cache, and the status."""
    reply, _ = door.ask(chat(), headers={"x-evergreen-cache": seconds, **headers}, **caller)
    return reply.status, reply.headers.get("x-evergreen-cache")


def caching(make_door: MakeDoor, **settings: Any) -> Door:
    return make_door(CACHED.model_copy(update=settings), answers=AnswersTable("work", DynamoDB()))


# ---- kept answers ----


def test_the_answer_of_a_stand_in_is_not_kept_for_the_endpoint(make_door: MakeDoor) -> None:
    door = caching(make_door, fallbacks=[FallbackTarget(endpoint_name="second", model_version="v0")])
    door.sagemaker.replies_of = {ENDPOINT: FULL, "second": answer("stand-in")}
    assert kept(door) == (200, "miss")
    door.sagemaker.replies_of[ENDPOINT] = answer("own")
    assert kept(door) == (200, "miss")
    assert kept(door) == (200, "hit")


def test_a_variant_by_name_gets_no_other_variants_answer(make_door: MakeDoor) -> None:
    door = caching(make_door)
    assert kept(door, caller=CHOOSER, **{"x-evergreen-variant": "champion"}) == (200, "miss")
    assert kept(door, caller=CHOOSER, **{"x-evergreen-variant": "challenger"})[1] == "miss"


def test_variants_of_one_model_version_do_not_share_answers(make_door: MakeDoor) -> None:
    door = caching(make_door)
    routes = [VariantRoute(name="large", weight=1, model_version="v1")]
    routes.append(VariantRoute(name="champion", weight=1, model_version="v1"))
    door.route(Routing(endpoint_name=ENDPOINT, experiment="sizes", variants=routes))
    for name in ("champion", "large"):
        assert kept(door, caller=CHOOSER, **{"x-evergreen-variant": name})[1] == "miss"


@pytest.mark.parametrize("seconds", ["0000000019999999", "000000001" + "9" * 5000, "601", "٦٠"])
def test_no_answer_is_kept_longer_than_allowed(make_door: MakeDoor, seconds: str) -> None:
    assert kept(caching(make_door), seconds=seconds)[0] == 400


def test_an_answer_that_a_guard_missed_is_not_kept(
    make_door: MakeDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = caching(make_door, guards=GuardSettings(mask_pii=True, fail_open=True))
    check = PiiRules.check

    def fails(self: PiiRules, text: str) -> Any:
        raise RuntimeError

    monkeypatch.setattr(PiiRules, "check", fails)
    assert kept(door) == (200, "miss")
    monkeypatch.setattr(PiiRules, "check", check)
    assert kept(door) == (200, "miss")


# ---- stand-ins ----


@pytest.mark.parametrize(
    "fields", [{"tools": TOOLS}, {"response_format": {"type": "json_object"}}, {"n": 2}, {"logprobs": True}]
)
def test_what_a_stand_in_cannot_do_is_not_the_callers_fault(
    make_door: MakeDoor, fields: dict[str, Any]
) -> None:
    targets = [FallbackTarget(endpoint_name=name, model_version="v0") for name in ("second", "third")]
    door = make_door(SETTINGS.model_copy(update={"fallbacks": targets}))
    door.sagemaker.replies_of = {ENDPOINT: FULL, "second": REFUSED, "third": REFUSED}
    reply, body = door.ask(chat(**fields))
    assert (reply.status, json.loads(body)["error"]["type"]) == (503, "overloaded_error")
    door.sagemaker.replies_of["third"] = answer("third")
    assert door.ask(chat(**fields))[0].status == 200


def test_a_plain_request_that_a_stand_in_refuses_is_refused(make_door: MakeDoor) -> None:
    target = FallbackTarget(endpoint_name="second", model_version="v0")
    door = make_door(SETTINGS.model_copy(update={"fallbacks": [target]}))
    door.sagemaker.replies_of = {ENDPOINT: FULL, "second": REFUSED}
    assert door.ask(chat())[0].status == 400


# ---- jobs ----


def test_a_variant_by_name_is_not_handed_over(make_door: MakeDoor, work_stores: FakeWork) -> None:
    submissions = Submissions(
        WorkTable("work", DynamoDB()),
        Bucket("work"),
        TicketQueue("http://queue"),
        open_per_key=2,
        deadline=3600,
        retention=86_400,
    )
    door = make_door(SETTINGS, jobs=submissions)
    door.sagemaker.replies = [FULL]
    headers = {"x-evergreen-when-busy": "job", "x-evergreen-variant": "champion"}
    assert door.ask(chat(), headers=headers, **CHOOSER)[0].status == 503
    assert work_stores.messages == []


def test_a_batch_keeps_to_its_keys_rate_in_one_run(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_800_000_000.0]
    monkeypatch.setattr("lambdas.pipeline.budgets.time.time", lambda: now[0])
    limited = {**KEY, "requests_per_second": "1"}
    _, batch = jobs.batch(*(line(str(number)) for number in range(5)), caller=limited)
    worker = jobs.worker(parallel=4)
    worker._pause = lambda seconds: now.__setitem__(0, now[0] + seconds)
    jobs.deliver(worker)
    batch = jobs.ask("GET", f"/v1/batches/{batch['id']}")[1]
    assert (batch["status"], batch["request_counts"]["completed"]) == ("completed", 5)
    assert jobs.stores.messages == []


def test_a_jobs_body_is_no_larger_than_its_callers(make_door: MakeDoor, jobs: Jobs) -> None:
    jobs.door.service = make_door(SETTINGS.model_copy(update={"max_body_bytes": 3_000})).service
    _, job = jobs.submit(chat("ж" * 1_400))
    jobs.work()
    assert jobs.ask("GET", f"/v1/jobs/{job['id']}")[1]["status"] == "completed"


def test_pages_in_browsers_may_read_what_the_jobs_routes_say(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    import lambdas.jobs.handler as module

    monkeypatch.setenv("CORS_ORIGINS", '["https://shop.example"]')
    jobs.handler = importlib.reload(module).handler
    for path in ("/v1/files", "/v1/nothing"):
        jobs.ask("GET", path, headers={"Origin": "https://shop.example"})
        assert jobs.headers["access-control-allow-origin"] == "https://shop.example"
        assert "location" in jobs.headers["access-control-expose-headers"]
    jobs.ask("GET", "/v1/files", headers={"Origin": "https://rival.example"})
    assert "access-control-allow-origin" not in jobs.headers


def test_a_limit_of_thousands_of_digits_is_wrong(jobs: Jobs) -> None:
    status, body = jobs.ask("GET", "/v1/files", limit="9" * 5_000)
    assert (status, body["error"]["param"]) == (400, "limit")


class Meanwhile:
    """Answers, and lets something happen while the model is at work."""

    def __init__(self, service: Any, happens: Callable[[], None]) -> None:
        self._service, self._happens, self.asked = service, happens, 0

    def answer(self, route: str, incoming: Any) -> Any:
        self.asked += 1
        self._happens()
        return self._service.answer(route, incoming)


def test_a_job_forgotten_while_it_runs_leaves_nothing(jobs: Jobs) -> None:
    jobs.submit(chat("mine", user="u-7"))

    def forget() -> None:
        for row in jobs.door.tables.scan(TableName="work")["Items"]:
            jobs.door.tables.delete_item(TableName="work", Key={"pk": row["pk"], "sk": row["sk"]})
        jobs.stores.objects.clear()

    jobs.door.service = Meanwhile(jobs.door.service, forget)
    jobs.work()
    assert jobs.stores.objects == {}


def test_a_batch_ended_while_it_runs_asks_no_more_and_leaves_nothing(jobs: Jobs) -> None:
    _, batch = jobs.batch(line("a"), line("b"), line("c"))
    before = dict(jobs.stores.objects)

    def end() -> None:
        rows = jobs.door.tables.scan(TableName="work")["Items"]
        (row,) = (row for row in rows if row["sk"]["S"] == batch["id"])
        ended = {**row, "status": {"S": "cancelled"}, "parts": {"N": "0"}}
        jobs.door.tables.put_item(TableName="work", Item=ended)

    jobs.door.service = service = Meanwhile(jobs.door.service, end)
    jobs.work()
    assert service.asked == 1
    assert jobs.stores.objects == before
    assert len(jobs.ask("GET", "/v1/files")[1]["data"]) == 1


def test_a_batch_ended_before_its_last_word_leaves_no_files(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, batch = jobs.batch(line("a"))
    file = WorkTable.add

    def ends_first(self: WorkTable, row: dict[str, Any]) -> bool:
        if row.get("purpose") == "batch_output":
            task = self.task(row["pk"], batch["id"])
            assert task is not None
            self.end(task, "cancelled", {})
        return file(self, row)

    monkeypatch.setattr(WorkTable, "add", ends_first)
    jobs.work()
    assert [each["purpose"] for each in jobs.ask("GET", "/v1/files")[1]["data"]] == ["batch"]


# ---- guards and several answers ----


def guarded(make_door: MakeDoor, *chunks: list[dict[str, Any]]) -> Door:
    door = make_door(SETTINGS.model_copy(update={"guards": GuardSettings(denied_topics={"war": ["war"]})}))
    base = {"id": "i", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    raw = b"".join(b"data: " + json.dumps({**base, "choices": each}).encode() + b"\n\n" for each in chunks)
    door.sagemaker.replies = [Reply(parts=cut(raw + b"data: [DONE]\n\n", 60))]
    return door


def says(index: int, text: str, ends: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": {"content": text}, "finish_reason": ends}


def test_a_blocked_answer_ends_those_that_have_not_begun(make_door: MakeDoor) -> None:
    door = guarded(make_door, [says(0, "all about war. ", "stop")], [says(1, "Hello", "stop")])
    choices = json.loads(door.ask(chat(n=2))[1])["choices"]
    assert [(each["index"], each["finish_reason"]) for each in choices] == [
        (0, "content_filter"),
        (1, "content_filter"),
    ]


def test_an_answer_that_has_ended_is_not_lost_with_a_blocked_one_beside_it(make_door: MakeDoor) -> None:
    door = guarded(make_door, [says(0, "Hello", "stop"), says(1, "all about war. ", "stop")])
    choices = json.loads(door.ask(chat(n=2))[1])["choices"]
    assert [(each["message"]["content"], each["finish_reason"]) for each in choices] == [
        ("Hello", "stop"),
        ("", "content_filter"),
    ]
    last = [c for e in events(door.ask(chat(n=2, stream=True))[1])[:-1] for c in e["choices"]]
    assert {c["index"]: c["finish_reason"] for c in last} == {0: "stop", 1: "content_filter"}


def calls(make_door: MakeDoor, arguments: str, **guards: Any) -> Any:
    """The choice a guarded door makes of a model's call with these arguments."""
    door = make_door(SETTINGS.model_copy(update={"guards": GuardSettings(**guards)}))
    base = {"id": "i", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    delta = {"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"}
    raw = b"data: " + json.dumps({**base, "choices": [delta]}).encode() + b"\n\ndata: [DONE]\n\n"
    door.sagemaker.replies = [Reply(parts=cut(raw, 60))]
    return json.loads(door.ask(chat(tools=TOOLS))[1])["choices"][0]


@pytest.mark.parametrize("escaped", ["\n", "\t", "é"])
def test_a_mask_tears_no_escape_in_a_calls_arguments(make_door: MakeDoor, escaped: str) -> None:
    arguments = json.dumps({"text": f"Write to{escaped}bob@y.org", "card": 4111111111111111})
    choice = calls(make_door, arguments, mask_pii=True)
    masked = json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"])
    assert "[EMAIL]" in masked["text"]
    assert masked["card"] == "[CARD]"


def test_an_escape_hides_no_word_in_a_calls_arguments(make_door: MakeDoor) -> None:
    choice = calls(make_door, '{"text": "\\u0077ar"}', denied_topics={"war": ["war"]})
    assert choice["finish_reason"] == "content_filter"


def test_what_a_call_said_is_masked_word_for_word_in_the_next_prompt(make_door: MakeDoor) -> None:
    door = make_door(SETTINGS.model_copy(update={"guards": GuardSettings(mask_pii=True)}))
    call = {"name": "f", "arguments": json.dumps({"text": "Write to\nbob@y.org", "phone": "555 1234567"})}
    turns = [
        {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": call}]},
        {"role": "tool", "tool_call_id": "c", "content": "done"},
    ]
    door.ask({**chat(), "messages": turns})
    ((_, body),) = door.sagemaker.calls
    sent = json.loads(json.loads(body)["messages"][0]["tool_calls"][0]["function"]["arguments"])
    assert sent == {"text": "Write to\n[EMAIL_1]", "phone": "[PHONE_1]"}
