"""Budgets of single keys: what is reserved, refused, settled and told, against tables over HTTP."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from door_world import AUTHORIZER, Door, chat, emitted
from fake_model_endpoint import Reply, chat_events, cut, payload_part

from contracts import metrics
from lambdas.common.dynamo import DynamoDB, from_item
from lambdas.inference.exchange import Caller
from lambdas.inference.prices import Prices
from lambdas.inference.stages.budget import Charge, Exhausted, Spent
from lambdas.inference.usage_table import UsageTable

DAY = "2026-11-22"
LIMITED = {**AUTHORIZER, "key_id": "abc"}


def caller(**limits: int) -> Caller:
    return Caller("shop", "web", frozenset({"inference"}), "abc", **limits)


def rows(tables: Any) -> list[dict[str, Any]]:
    items = [from_item(item) for item in tables.scan(TableName="records")["Items"]]
    return [item for item in items if item["pk"] == "USAGE#shop"]


@pytest.fixture
def ledger(tables: Any) -> UsageTable:
    return UsageTable("records", Prices(input=1.0, output=2.0), DynamoDB())


def test_what_fits_is_reserved_and_what_does_not_is_refused(ledger: UsageTable) -> None:
    limited = caller(tokens_per_day=100)
    assert ledger.reserve(limited, DAY, 60) == Spent(1, 60)
    assert ledger.reserve(limited, DAY, 40) == Spent(2, 100)
    with pytest.raises(Exhausted) as refused:
        ledger.reserve(limited, DAY, 1)
    assert refused.value.spent == Spent(2, 100)


def test_a_new_day_is_a_new_budget(ledger: UsageTable) -> None:
    limited = caller(requests_per_day=1)
    ledger.reserve(limited, DAY, 5)
    with pytest.raises(Exhausted):
        ledger.reserve(limited, DAY, 5)
    ledger.reserve(limited, "2026-11-23", 5)


def test_settling_replaces_the_reservation(ledger: UsageTable, tables: Any) -> None:
    limited = caller(tokens_per_day=100)
    ledger.reserve(limited, DAY, 90)
    ledger.settle(limited, DAY, Charge(input_tokens=10, output_tokens=20, reserved=90))
    (row,) = rows(tables)
    assert (row["requests"], row["charged"], row["input_tokens"], row["output_tokens"]) == (1, 30, 10, 20)
    # At 1 and 2 dollars per million tokens, in billionths of a dollar.
    assert row["cost_nano_usd"] == 10 * 1_000 + 20 * 2_000


def test_two_hundred_requests_at_once_cannot_overspend(ledger: UsageTable, tables: Any) -> None:
    limited = caller(tokens_per_day=1_000)
    granted = []
    start = threading.Barrier(20)

    def worker() -> None:
        own = UsageTable("records", Prices(0, 0), DynamoDB())
        start.wait(60)
        for _ in range(10):
            try:
                own.reserve(limited, DAY, 30)
            except Exhausted:
                continue
            granted.append(30)

    threads = [threading.Thread(target=worker) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    # 33 reservations of 30 fit into 1,000; the 34th does not.
    assert sum(granted) == 990
    (row,) = rows(tables)
    assert row["charged"] == 990


# --- through the door ------------------------------------------------------------------------------------


def test_a_limited_key_is_told_what_is_left(door: Door) -> None:
    reply, _ = door.ask(chat(max_tokens=50), **LIMITED, tokens_per_day="1000", requests_per_day="10")
    assert reply.status == 200
    assert reply.headers["x-ratelimit-limit-requests"] == "10"
    assert reply.headers["x-ratelimit-remaining-requests"] == "9"
    assert reply.headers["x-ratelimit-limit-tokens"] == "1000"
    # The estimate (a quarter of the bytes, and the 50 tokens asked for) is what is charged for now.
    estimate = len(json.dumps(chat(max_tokens=50))) // 4 + 50
    assert reply.headers["x-ratelimit-remaining-tokens"] == str(1000 - estimate)
    assert reply.headers["x-ratelimit-reset-tokens"].endswith("s")
    (row,) = rows(door.tables)
    assert (row["charged"], row["requests"]) == (8, 1)


def test_a_spent_budget_says_which_limit_and_when_it_resets(door: Door) -> None:
    reply, body = door.ask(chat(max_tokens=50), **LIMITED, tokens_per_day="20")
    error = json.loads(body)["error"]
    assert (reply.status, error["type"], error["code"]) == (
        429,
        "rate_limit_error",
        "tokens_per_day_exceeded",
    )
    assert "20 tokens per day" in error["message"]
    assert 0 < int(reply.headers["retry-after"]) <= 86_400
    assert reply.headers["x-ratelimit-limit-tokens"] == "20"
    assert door.sagemaker.calls == []
    assert rows(door.tables) == []


def test_requests_per_day_are_counted(door: Door) -> None:
    statuses = []
    for _ in range(4):
        reply, body = door.ask(chat(), **LIMITED, requests_per_day="2")
        statuses.append(reply.status)
    assert statuses == [200, 200, 429, 429]
    assert json.loads(body)["error"]["code"] == "requests_per_day_exceeded"


def test_a_request_that_failed_costs_no_tokens(door: Door) -> None:
    door.sagemaker.replies = [Reply(status=500, error=("InternalFailure", {"Message": "no"}))]
    door.ask(chat(), **LIMITED, tokens_per_day="1000")
    (row,) = rows(door.tables)
    assert (row["charged"], row["requests"]) == (0, 1)


def test_an_answer_that_broke_off_costs_what_was_seen_of_it(door: Door) -> None:
    door.sagemaker.replies = [Reply(parts=cut(chat_events("a", "b", "c", done=False)[:-200], 40))]
    door.ask(chat(stream=True), **LIMITED, tokens_per_day="1000")
    (row,) = rows(door.tables)
    assert row["charged"] == row["output_tokens"] == 3


def test_a_key_without_limits_is_booked_all_the_same(door: Door) -> None:
    reply, _ = door.ask(chat())
    assert not [name for name in reply.headers if name.startswith("x-ratelimit")]
    (row,) = rows(door.tables)
    assert (row["requests"], row["input_tokens"], row["output_tokens"], row["key_name"]) == (1, 5, 3, "web")


def test_a_refused_request_is_not_booked(door: Door) -> None:
    door.ask(b"{")
    door.ask(chat(), tenant="shop", key_name="web", scopes="none")
    assert rows(door.tables) == []


def test_a_ledger_that_fails_lets_requests_pass_and_counts_them(
    door: Door, capsys: pytest.CaptureFixture[str]
) -> None:
    door.tables.delete_table(TableName="records")
    reply, _ = door.ask(chat(), **LIMITED, tokens_per_day="1000")
    assert reply.status == 200
    assert len(emitted(capsys.readouterr().out, metrics.BUDGET_UNCHECKED)) == 1


def test_a_stream_is_settled_too(door: Door) -> None:
    door.sagemaker.replies = [Reply(parts=[payload_part(chat_events("a", usage=(7, 11)))])]
    door.ask(chat(stream=True), **LIMITED, tokens_per_day="1000")
    (row,) = rows(door.tables)
    assert row["charged"] == 18
