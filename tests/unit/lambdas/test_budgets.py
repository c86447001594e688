"""Budgets of single keys: what is reserved, refused, settled and told, against tables over HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from contracts import metrics
from contracts.access import Principal
from contracts.usage import Prices
from lambdas.aws.dynamodb import DynamoDB, from_item
from lambdas.aws.usage_ledger import Billed, Charge, QuotaExceededError, Spent, UsageLedger
from tests.support.fake_model_endpoint import Reply, chat_events, cut, payload_part
from tests.support.front_door import AUTHORIZER, SETTINGS, Door, chat, emitted

DAY = "2026-11-22"
BILLED = Billed("any", Prices(input=1.0, output=2.0))
LIMITED = {**AUTHORIZER, "key_id": "abc"}


def caller(**limits: Any) -> Principal:
    return Principal("shop", "web", frozenset({"inference"}), "abc", **limits)


def rows(tables: Any) -> list[dict[str, Any]]:
    items = [from_item(item) for item in tables.scan(TableName="records")["Items"]]
    return [item for item in items if item["pk"] == "USAGE#shop"]


@pytest.fixture
def ledger(tables: Any) -> UsageLedger:
    return UsageLedger("records", DynamoDB())


def test_what_fits_is_reserved_and_what_does_not_is_refused(ledger: UsageLedger) -> None:
    limited = caller(tokens_per_day=100)
    assert ledger.reserve(limited, DAY, 60, BILLED) == Spent(1, 60)
    assert ledger.reserve(limited, DAY, 40, BILLED) == Spent(2, 100)
    with pytest.raises(QuotaExceededError) as refused:
        ledger.reserve(limited, DAY, 1, BILLED)
    assert refused.value.spent == Spent(2, 100)


def test_a_new_day_is_a_new_budget(ledger: UsageLedger) -> None:
    limited = caller(requests_per_day=1)
    ledger.reserve(limited, DAY, 5, BILLED)
    with pytest.raises(QuotaExceededError):
        ledger.reserve(limited, DAY, 5, BILLED)
    ledger.reserve(limited, "2026-11-23", 5, BILLED)


def test_settling_replaces_the_reservation(ledger: UsageLedger, tables: Any) -> None:
    limited = caller(tokens_per_day=100)
    ledger.reserve(limited, DAY, 90, BILLED)
    ledger.settle(limited, DAY, Charge(input_tokens=10, output_tokens=20, reserved=90), BILLED)
    (row,) = rows(tables)
    assert (row["requests"], row["charged"], row["input_tokens"], row["output_tokens"]) == (1, 30, 10, 20)
    # At 1 and 2 dollars per million tokens, in billionths of a dollar.
    assert row["cost_nano_usd"] == 10 * 1_000 + 20 * 2_000


def test_two_hundred_requests_at_once_cannot_overspend(ledger: UsageLedger, tables: Any) -> None:
    limited = caller(tokens_per_day=1_000)
    granted = []
    start = threading.Barrier(20)

    def worker() -> None:
        # The tables of the test answer one call at a time: all 200 may have to queue.
        own = UsageLedger("records", DynamoDB(read_timeout=120))
        start.wait(60)
        for _ in range(10):
            try:
                own.reserve(limited, DAY, 30, BILLED)
            except QuotaExceededError:
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


def test_a_rate_is_kept_to_the_request(ledger: UsageLedger, tables: Any) -> None:
    limited = caller(requests_per_second=2, burst=3)
    granted, refusals = [], set()
    for tick in range(40):  # a request every 100 ms for four seconds
        now = 1_700_000_000 + tick / 10
        try:
            ledger.reserve(limited, DAY, 1, BILLED, now)
            granted.append(now)
        except QuotaExceededError as refused:
            refusals.add(refused.limit)
    assert refusals == {"requests_per_second"}
    # Three at once, and two for each second after the first: 3 + 2 x 3.9, as whole requests.
    assert len(granted) == 10
    for start in granted:
        assert sum(start <= moment < start + 1 for moment in granted) <= 3 + 2
    (row,) = rows(tables)
    assert row["requests"] == 10


def test_requests_at_one_moment_share_one_bucket(ledger: UsageLedger, tables: Any) -> None:
    limited = caller(requests_per_second=5, burst=10)
    granted, start = [], threading.Barrier(10)

    def worker() -> None:
        # The tables of the test answer one call at a time: all 200 may have to queue.
        own = UsageLedger("records", DynamoDB(read_timeout=120))
        start.wait(60)
        for _ in range(4):
            try:
                own.reserve(limited, DAY, 1, BILLED, 1_700_000_000.0)
            except QuotaExceededError:
                continue
            granted.append(1)

    threads = [threading.Thread(target=worker) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    (row,) = rows(tables)
    assert row["requests"] == len(granted) <= 10


def test_a_month_has_its_budget_in_dollars(ledger: UsageLedger, tables: Any) -> None:
    # 2 dollars per million tokens at most: 1,000 tokens are reserved as 0.002 dollars.
    limited = caller(usd_per_month=0.003)
    spent = ledger.reserve(limited, DAY, 1_000, BILLED)
    assert (spent.nano_usd, spent.reserved_nano_usd) == (2_000_000, 2_000_000)
    with pytest.raises(QuotaExceededError) as refused:
        ledger.reserve(limited, DAY, 1_000, BILLED)
    assert refused.value.limit == "usd_per_month"
    ledger.settle(limited, DAY, Charge(100, 200, 1_000, spent.reserved_nano_usd), BILLED)
    (month,) = [row for row in rows(tables) if row["sk"].startswith("MONTH#2026-11#")]
    assert month["charged_nano_usd"] == 100 * 1_000 + 200 * 2_000
    ledger.reserve(limited, DAY, 1_000, BILLED)  # there is room again
    ledger.reserve(limited, "2026-12-01", 1_000, BILLED)  # and a new month is a new budget


def test_what_the_day_refuses_the_month_gets_back(ledger: UsageLedger, tables: Any) -> None:
    limited = caller(usd_per_month=1, requests_per_day=1)
    ledger.reserve(limited, DAY, 500, BILLED)
    with pytest.raises(QuotaExceededError) as refused:
        ledger.reserve(limited, DAY, 500, BILLED)
    assert refused.value.limit == "requests_per_day"
    (month,) = [row for row in rows(tables) if row["sk"].startswith("MONTH#")]
    assert month["charged_nano_usd"] == 500 * 2_000


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


def test_a_rate_that_is_met_says_so(door: Door) -> None:
    limits = {"requests_per_second": "0.5", "burst": "2"}
    replies = [door.ask(chat(), **LIMITED, **limits) for _ in range(3)]
    assert [reply.status for reply, _ in replies] == [200, 200, 429]
    assert [reply.headers["x-ratelimit-remaining-requests"] for reply, _ in replies] == ["1", "0", "0"]
    error = json.loads(replies[-1][1])["error"]
    assert error["code"] == "requests_per_second_exceeded"
    assert "0.5 requests per second" in error["message"]
    assert replies[-1][0].headers["x-ratelimit-limit-requests"] == "2"
    assert int(replies[-1][0].headers["retry-after"]) in (1, 2)


def test_dollars_that_are_spent_say_so(make_door: Callable[..., Door]) -> None:
    door = make_door(SETTINGS.model_copy(update={"input_token_price": 1.0, "output_token_price": 2.0}))
    reply, body = door.ask(chat(max_tokens=50), **LIMITED, usd_per_month="0.00001")
    assert (reply.status, json.loads(body)["error"]["code"]) == (429, "usd_per_month_exceeded")
    assert reply.headers["x-ratelimit-limit-usd"] == "0.000010"
    reply, _ = door.ask(chat(max_tokens=50), **LIMITED, usd_per_month="1")
    assert (reply.status, reply.headers["x-ratelimit-limit-usd"]) == (200, "1.000000")
    assert 0.99 < float(reply.headers["x-ratelimit-remaining-usd"]) < 1


def test_a_budget_in_dollars_is_refused_where_tokens_have_no_price(
    make_door: Callable[..., Door], tables: Any
) -> None:
    door = make_door(SETTINGS)
    reply, body = door.ask(chat(), **LIMITED, usd_per_month="1")
    assert (reply.status, json.loads(body)["error"]["code"]) == (403, "budget_without_price")
    assert door.sagemaker.calls == []
    assert rows(tables) == []
    assert door.ask(chat(), **LIMITED, tokens_per_day="1000")[0].status == 200


def test_tokens_without_a_price_are_counted_and_cost_nobody_knows_what(
    make_door: Callable[..., Door], tables: Any
) -> None:
    door = make_door(SETTINGS)
    door.ask(chat(), **LIMITED)
    (row,) = rows(tables)
    assert row["unpriced_tokens"] == row["input_tokens"] + row["output_tokens"] == 8
    assert "cost_nano_usd" not in row
    record = door.record()
    assert record is not None
    assert record.get("cost_nano_usd") is None


def test_half_a_price_is_none() -> None:
    assert Prices(1.0, None).cost(5, 5) is None
    assert Prices(0.0, 0.0).cost(5, 5) == 0


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
