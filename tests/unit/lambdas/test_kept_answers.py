"""Answers that are given again: only when asked for, only to the same key, only what ended well."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from contracts import metrics
from contracts.guards import GuardSettings
from contracts.routing import Routing, VariantRoute
from lambdas.aws.dynamodb import DynamoDB, from_item
from lambdas.aws.work_table import AnswersTable
from lambdas.pipeline.operations import EMBEDDINGS, TEXT_COMPLETION
from tests.support.fake_model_endpoint import Reply, chat_events, cut
from tests.support.front_door import AUTHORIZER, ENDPOINT, SETTINGS, Door, chat, emitted, events

MakeDoor = Callable[..., Door]
KEPT = SETTINGS.model_copy(update={"cache_max_seconds": 600})
ASK = {"x-evergreen-cache": "60"}
KEY = {**AUTHORIZER, "key_id": "abc"}


@pytest.fixture
def door(make_door: MakeDoor) -> Door:
    made = make_door(KEPT, answers=AnswersTable("work", DynamoDB()))
    made.sagemaker.replies = [
        Reply(parts=cut(chat_events(text, "!"), 60)) for text in ("one", "two", "three")
    ]
    return made


def ask(door: Door, *, headers: dict[str, str] = ASK, caller: dict[str, str] = KEY, **fields: Any) -> Any:
    """What `x-evergreen-cache` says of the reply, and the answer's text."""
    reply, body = door.ask(chat(**fields), headers=headers, **caller)
    if fields.get("stream"):
        pieces = [c["choices"][0]["delta"].get("content") or "" for c in events(body)[:-1] if c["choices"]]
        return reply.headers.get("x-evergreen-cache"), "".join(pieces)
    return reply.headers.get("x-evergreen-cache"), json.loads(body)["choices"][0]["message"]["content"]


def test_the_same_request_gets_the_same_answer_without_the_model(door: Door) -> None:
    assert ask(door) == ("miss", "one!")
    assert ask(door) == ("hit", "one!")
    assert len(door.sagemaker.calls) == 1


def test_nothing_is_kept_or_given_unless_asked_for(door: Door) -> None:
    assert ask(door, headers={}) == (None, "one!")
    assert ask(door) == ("miss", "two!")
    assert ask(door, headers={}) == (None, "three!")


def test_another_key_never_sees_it(door: Door) -> None:
    assert ask(door) == ("miss", "one!")
    assert ask(door, caller={**KEY, "key_id": "def"}) == ("miss", "two!")
    assert ask(door, caller={**KEY, "tenant": "rival"}) == ("miss", "three!")
    assert ask(door) == ("hit", "one!")


def test_bearers_of_one_tenants_tokens_do_not_share_answers(door: Door) -> None:
    assert ask(door, caller={**KEY, "subject": "ann"}) == ("miss", "one!")
    assert ask(door, caller={**KEY, "subject": "bob"}) == ("miss", "two!")
    assert ask(door, caller={**KEY, "subject": "ann"}) == ("hit", "one!")


@pytest.mark.parametrize(
    "fields", [{"temperature": 0.5}, {"user": "u-7"}, {"max_tokens": 7}, {"text": "Hi "}, {"seed": 1}]
)
def test_any_difference_is_another_request(door: Door, fields: dict[str, Any]) -> None:
    ask(door)
    assert ask(door, **fields)[0] == "miss"


def test_the_order_of_fields_is_no_difference(door: Door) -> None:
    ask(door, temperature=0.5, seed=1)
    assert ask(door, seed=1, temperature=0.5)[0] == "hit"


def test_a_streams_answer_serves_a_whole_one_and_the_other_way_round(door: Door) -> None:
    assert ask(door, stream=True) == ("miss", "one!")
    assert ask(door) == ("hit", "one!")
    assert ask(door, stream=True) == ("hit", "one!")


def test_a_stream_is_given_again_as_a_stream(door: Door) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    first, body = door.ask(chat(**options), headers=ASK, **KEY)
    again, replayed = door.ask(chat(**options), headers=ASK, **KEY)
    assert first.headers["content-type"] == again.headers["content-type"]
    told, retold = events(body), events(replayed)
    assert retold[-1] == "[DONE]"
    assert retold[-2]["usage"] == told[-2]["usage"]
    texts = [
        [
            c["choices"][0]["delta"].get("content")
            for c in each[:-2]
            if c["choices"][0]["delta"].get("content")
        ]
        for each in (told, retold)
    ]
    assert texts[0] == texts[1] == ["one", "!"]
    assert retold[-3]["choices"][0]["finish_reason"] == "stop"
    assert all(chunk["id"] == "chatcmpl-req-1" for chunk in retold[:-1])


def test_text_completions_are_given_again_as_well(door: Door) -> None:
    base = {"id": "i", "object": "text_completion", "created": 1, "model": "m"}
    chunks = [
        {**base, "choices": [{"index": 0, "text": "Hey", "finish_reason": None}]},
        {**base, "choices": [{"index": 0, "text": "", "finish_reason": "length"}]},
    ]
    raw = b"".join(b"data: " + json.dumps(c).encode() + b"\n\n" for c in chunks) + b"data: [DONE]\n\n"
    door.sagemaker.replies = [Reply(parts=cut(raw, 60))]
    request = {"model": "smollm2", "prompt": "Hi"}
    said = []
    for _ in range(2):
        reply, body = door.ask(request, route=TEXT_COMPLETION.route, headers=ASK, **KEY)
        said.append((reply.headers["x-evergreen-cache"], json.loads(body)["choices"][0]["text"]))
    assert said == [("miss", "Hey"), ("hit", "Hey")]


def test_an_answer_runs_out(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(door)
    now = time.time()
    monkeypatch.setattr("lambdas.aws.work_table.time.time", lambda: now + 61)
    assert ask(door)[0] == "miss"


def test_the_asker_says_how_old_is_too_old(make_door: MakeDoor) -> None:
    answers = AnswersTable("work", DynamoDB())
    old = make_door(KEPT, answers=answers)
    ask(old, headers={"x-evergreen-cache": "600"})
    item = old.tables.scan(TableName="work")["Items"][0]
    item["made_at"] = {"N": repr(time.time() - 100)}
    old.tables.put_item(TableName="work", Item=item)
    assert ask(old, headers={"x-evergreen-cache": "200"})[0] == "hit"
    assert ask(old, headers={"x-evergreen-cache": "60"})[0] == "miss"


def test_another_model_version_is_another_answer(make_door: MakeDoor, door: Door) -> None:
    ask(door)
    newer = KEPT.model_copy(update={"model_version": "v2"})
    assert ask(make_door(newer, answers=AnswersTable("work", DynamoDB())))[0] == "miss"


def test_a_new_split_is_another_answer(door: Door, make_door: MakeDoor) -> None:
    ask(door)
    door.route(
        Routing(
            endpoint_name=ENDPOINT,
            experiment="e1",
            variants=[VariantRoute(name="challenger", weight=1, model_version="v2")],
        )
    )
    fresh = make_door(KEPT, answers=AnswersTable("work", DynamoDB()))
    assert ask(fresh)[0] == "miss"


def test_other_guards_are_another_answer(door: Door, make_door: MakeDoor) -> None:
    ask(door)
    guarded = KEPT.model_copy(update={"guards": GuardSettings(mask_pii=True)})
    assert ask(make_door(guarded, answers=AnswersTable("work", DynamoDB())))[0] == "miss"


@pytest.mark.parametrize("value", ["0", "601", "x", "", "-1", "1e3", "9" * 400, "²", "١"])
def test_a_bad_age_is_refused(door: Door, value: str) -> None:
    reply, body = door.ask(chat(), headers={"x-evergreen-cache": value}, **KEY)
    assert (reply.status, json.loads(body)["error"]["param"]) == (400, "x-evergreen-cache")


@pytest.mark.parametrize(
    "reply",
    [
        Reply(parts=cut(chat_events("half", finish="content_filter"), 60)),
        Reply(parts=cut(chat_events("half", done=False), 60)),
        Reply(parts=cut(chat_events("x" * 400_000), 9000)),
    ],
)
def test_what_did_not_end_well_or_is_too_long_is_not_kept(door: Door, reply: Reply) -> None:
    door.sagemaker.replies = [reply]
    door.ask(chat(stream=True), headers=ASK, **KEY)
    assert door.tables.scan(TableName="work")["Items"] == []


def test_a_refused_prompt_is_not_kept(make_door: MakeDoor) -> None:
    guards = GuardSettings(denied_topics={"sea": ["kraken"]})
    door = make_door(KEPT.model_copy(update={"guards": guards}), answers=AnswersTable("work", DynamoDB()))
    reply, _ = door.ask(chat("kraken"), headers=ASK, **KEY)
    assert reply.headers["x-evergreen-cache"] == "bypass"
    assert door.tables.scan(TableName="work")["Items"] == []


def test_a_client_that_left_leaves_no_answer(door: Door) -> None:
    reply = door.start(chat(stream=True), headers=ASK, **KEY)
    next(iter(reply.body))
    reply.body.close()  # type: ignore[attr-defined]
    reply.after()
    assert door.tables.scan(TableName="work")["Items"] == []


def test_a_hit_costs_no_tokens_and_is_recorded_as_one(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    limited = {**KEY, "tokens_per_day": "1000", "requests_per_day": "5"}
    ask(door, caller=limited)
    capsys.readouterr()
    reply, _ = door.ask(chat(), headers=ASK, **limited)
    output = capsys.readouterr().out
    assert reply.status == 200
    rows = [from_item(item) for item in door.tables.scan(TableName="records")["Items"]]
    usage = next(row for row in rows if row["pk"] == "USAGE#shop")
    assert (usage["requests"], usage["charged"], usage["input_tokens"]) == (2, 8, 5)
    record = door.record()
    assert record is not None
    assert (record["cached"], record["cost_nano_usd"]) == (True, 0)
    assert emitted(output, metrics.CACHE_HITS)
    assert not emitted(output, metrics.OUTPUT_TOKENS)
    assert not emitted(output, metrics.TIME_TO_FIRST_TOKEN)


def test_a_table_that_fails_is_a_miss(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    door.tables.delete_table(TableName="work")
    assert ask(door, text="zanzibar-4711") == ("miss", "one!")
    output = capsys.readouterr().out
    assert "cache_failed" in output
    assert "zanzibar-4711" not in output


def test_embeddings_pass_by(door: Door) -> None:
    vectors = {
        "data": [{"index": 0, "embedding": [0.5]}],
        "model": "m",
        "usage": {"prompt_tokens": 1, "total_tokens": 1},
    }
    door.sagemaker.replies = [Reply(parts=cut(json.dumps(vectors).encode(), 50))]
    reply, _ = door.ask({"model": "smollm2", "input": "Hi"}, route=EMBEDDINGS.route, headers=ASK, **KEY)
    assert (reply.status, reply.headers["x-evergreen-cache"]) == (200, "bypass")
