"""The buffered routes through their entry point, with tables in moto."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from contracts import metrics
from contracts.access import Principal
from contracts.records import InferenceRecord
from contracts.usage import Prices
from lambdas.aws.dynamodb import DynamoDB, from_item
from lambdas.aws.records_table import RecordsTable
from lambdas.aws.usage_ledger import Billed, Charge, UsageLedger
from tests.support.front_door import ENDPOINT, MODEL, emitted

Call = Callable[..., tuple[int, Any, dict[str, Any]]]


@pytest.fixture
def call(tables: Any, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Ask the entry point as API Gateway would: status, parsed body, headers."""
    variables = {
        "ENVIRONMENT": "test",
        "ACCESS_TABLE": "access",
        "ENDPOINT_NAME": ENDPOINT,
        "MODEL_NAME": MODEL,
        "MODEL_VERSION": "v1",
        "RECORDS_TABLE": "records",
        "RECORD_TTL_DAYS": "7",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    import lambdas.api.handler as module

    module = importlib.reload(module)

    def ask(
        method: str, path: str, body: Any = None, tenant: str | None = "shop", **query: str
    ) -> tuple[int, Any, Any]:
        event = {
            "httpMethod": method,
            "path": path,
            "headers": {},
            "multiValueHeaders": {},
            "queryStringParameters": query or None,
            "multiValueQueryStringParameters": None,
            "body": body if isinstance(body, str) or body is None else json.dumps(body),
            "isBase64Encoded": False,
            "requestContext": {
                "requestId": "req-9",
                "authorizer": {"tenant": tenant, "key_name": "web", "scopes": "inference"}
                if tenant
                else None,
            },
        }
        reply = module.handler(event, None)
        return reply["statusCode"], json.loads(reply["body"] or "null"), reply["multiValueHeaders"]

    return ask


@pytest.fixture
def recorded(tables: Any) -> None:
    """A request that tenant `shop` has made."""
    RecordsTable("records", 7, DynamoDB()).store(
        InferenceRecord(
            request_id="req-1",
            tenant="shop",
            user=None,
            received_at=1.5,
            model=MODEL,
            model_version="v2",
            variant="challenger",
            streamed=True,
            status=200,
            duration_ms=12.5,
        )
    )


def test_health_needs_no_tenant(call: Call) -> None:
    assert call("GET", "/health", tenant=None)[:2] == (200, {"status": "ok"})


def test_models_are_listed(call: Call) -> None:
    status, body, headers = call("GET", "/v1/models")
    assert status == 200
    assert [card["id"] for card in body["data"]] == [MODEL]
    assert headers["x-request-id"] == ["req-9"]


def test_one_model_is_shown(call: Call) -> None:
    assert call("GET", f"/v1/models/{MODEL}")[1]["object"] == "model"
    status, body, _ = call("GET", "/v1/models/gpt-9")
    assert (status, body["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/nothing"), ("DELETE", "/v1/models"), ("GET", "/")])
def test_an_unknown_route_is_an_error_object(call: Call, method: str, path: str) -> None:
    status, body, _ = call(method, path)
    assert (status, body["error"]["type"], body["error"]["code"]) == (404, "not_found_error", "unknown_route")


@pytest.mark.parametrize(
    "path",
    ["/health", "/v1/models", f"/v1/models/{MODEL}", "/v1/openapi.json", "/v1/usage", "/iam/v1/models"],
)
def test_head_answers_as_get_does_without_the_body(call: Call, path: str) -> None:
    status, body, headers = call("GET", path)
    assert (status, body is None) == (200, False)
    assert call("HEAD", path) == (200, None, headers)
    assert call("HEAD", f"{path}/") == (200, None, headers), "with a slash at its end too"


@pytest.mark.parametrize(("path", "status"), [("/v1/models/gpt-9", 404), ("/v1/feedback", 404)])
def test_head_fails_where_get_does(call: Call, path: str, status: int) -> None:
    assert call("GET", path)[0] == status
    assert call("HEAD", path)[:2] == (status, None)


@pytest.mark.usefixtures("recorded")
@pytest.mark.parametrize("request_id", ["req-1", "chatcmpl-req-1", "cmpl-req-1"])
def test_feedback_is_kept_with_the_variant_that_answered(
    call: Call, tables: Any, request_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, receipt, _ = call(
        "POST", "/v1/feedback", {"request_id": request_id, "thumbs": "up", "comment": "ja"}
    )
    assert status == 201
    assert receipt["request_id"] == "req-1"

    key = {"pk": {"S": "req-1"}, "sk": {"S": f"FEEDBACK#{receipt['id']}"}}
    row = from_item(tables.get_item(TableName="records", Key=key)["Item"])
    expected = {
        "tenant": "shop",
        "variant": "challenger",
        "model_version": "v2",
        "thumbs": "up",
        "comment": "ja",
    }
    assert {name: row[name] for name in expected} == expected
    assert row["expires_at"] > row["given_at"]

    (line,) = emitted(capsys.readouterr().out, metrics.FEEDBACK)
    assert (line[metrics.FEEDBACK], line[metrics.FEEDBACK_SCORE]) == (1, 1.0)
    assert (line["variant"], line["model_version"]) == ("challenger", "v2")


@pytest.mark.usefixtures("recorded")
def test_a_word_without_score_counts_as_feedback_only(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    call("POST", "/v1/feedback", {"request_id": "req-1", "comment": "hm"})
    output = capsys.readouterr().out
    assert emitted(output, metrics.FEEDBACK)
    assert not emitted(output, metrics.FEEDBACK_SCORE)
    assert "hm" not in output


@pytest.mark.usefixtures("recorded")
def test_words_are_kept_without_personal_data(call: Call, tables: Any) -> None:
    call("POST", "/v1/feedback", {"request_id": "req-1", "comment": "ask ann@x.org", "correction": "ok"})
    rows = [from_item(item) for item in tables.scan(TableName="records")["Items"]]
    (row,) = [row for row in rows if row["sk"].startswith("FEEDBACK#")]
    assert (row["comment"], row["correction"]) == ("ask [EMAIL]", "ok")


@pytest.mark.usefixtures("recorded")
def test_two_pieces_of_feedback_are_two_rows(call: Call, tables: Any) -> None:
    for score in (0.2, 0.8):
        call("POST", "/v1/feedback", {"request_id": "req-1", "score": score})
    rows = [from_item(item) for item in tables.scan(TableName="records")["Items"]]
    assert sorted(row["score"] for row in rows if row["sk"].startswith("FEEDBACK#")) == [0.2, 0.8]


@pytest.mark.usefixtures("recorded")
@pytest.mark.parametrize(
    ("body", "tenant", "status", "param"),
    [
        pytest.param(
            {"request_id": "req-7", "thumbs": "up"}, "shop", 404, "request_id", id="unknown request"
        ),
        pytest.param(
            {"request_id": "req-1", "thumbs": "up"}, "rival", 404, "request_id", id="another tenant's"
        ),
        pytest.param({"request_id": "req-1", "thumbs": "up"}, None, 401, None, id="no tenant"),
        pytest.param({"request_id": "req-1"}, "shop", 400, None, id="says nothing"),
        pytest.param({"request_id": "req-1", "thumbs": "so"}, "shop", 400, "thumbs", id="unknown thumbs"),
        pytest.param({"request_id": "req-1", "score": 2}, "shop", 400, "score", id="score too high"),
        pytest.param({"request_id": "req-1", "score": 1, "x": 1}, "shop", 400, "x", id="unknown field"),
        pytest.param({"thumbs": "up"}, "shop", 400, "request_id", id="no request id"),
        pytest.param("{", "shop", 400, None, id="not JSON"),
        pytest.param("\ud800", "shop", 400, None, id="not UTF-8"),
        pytest.param("x" * 300_000, "shop", 413, None, id="too long"),
    ],
)
def test_bad_feedback_is_refused_by_name(
    call: Call, tables: Any, body: Any, tenant: str | None, status: int, param: str | None
) -> None:
    got, reply, _ = call("POST", "/v1/feedback", body, tenant)
    assert (got, reply["error"]["param"]) == (status, param)
    assert len(tables.scan(TableName="records")["Items"]) == 1


def test_another_tenants_request_looks_like_one_that_never_was(call: Call, recorded: None) -> None:
    theirs = call("POST", "/v1/feedback", {"request_id": "req-1", "thumbs": "up"}, "rival")[1]
    nobodys = call("POST", "/v1/feedback", {"request_id": "req-7", "thumbs": "up"}, "rival")[1]
    assert theirs == nobodys


def test_a_table_that_fails_is_a_server_error_without_inside(
    call: Call, tables: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    tables.delete_table(TableName="records")
    status, body, _ = call("POST", "/v1/feedback", {"request_id": "req-1", "comment": "hush"})
    assert (status, body["error"]["type"]) == (500, "server_error")
    assert "records" not in body["error"]["message"]
    assert "hush" not in capsys.readouterr().out


# --- usage -----------------------------------------------------------------------------------------------

PRICES = Prices(input=2.0, output=0.0)


def book(tenant: str, day: str, input_tokens: int, prices: Prices = PRICES) -> None:
    """A request of this tenant's key on that day, as the streaming function books it."""
    caller = Principal(tenant, "web", frozenset(), "abc")
    charge = Charge(input_tokens, output_tokens=0, reserved=None)
    UsageLedger("records", DynamoDB()).settle(caller, day, charge, Billed("any", prices))


def test_usage_shows_the_tenants_own_days_and_their_sums(call: Call) -> None:
    for day, tokens in (("2026-01-31", 1), ("2026-02-01", 10), ("2026-02-01", 20), ("2026-02-02", 5)):
        book("shop", day, tokens)
    book("rival", "2026-02-01", 1_000)
    status, body, _ = call("GET", "/v1/usage", start="2026-02-01", end="2026-02-02")
    assert status == 200
    assert [(row["day"], row["requests"], row["input_tokens"]) for row in body["data"]] == [
        ("2026-02-01", 2, 30),
        ("2026-02-02", 1, 5),
    ]
    assert (body["requests"], body["input_tokens"]) == (3, 35)
    assert body["cost_usd"] == pytest.approx(35 * 2 / 1e6)


def test_tokens_without_a_price_make_the_cost_unknown_and_not_zero(call: Call) -> None:
    book("shop", "2026-02-01", 10)
    book("shop", "2026-02-02", 10)
    book("shop", "2026-02-02", 7, Prices(None, None))
    _, body, _ = call("GET", "/v1/usage", start="2026-02-01", end="2026-02-02")
    assert [row["cost_usd"] for row in body["data"]] == [pytest.approx(10 * 2 / 1e6), None]
    assert (body["cost_usd"], body["unpriced_tokens"]) == (None, 7)
    _, body, _ = call("GET", "/v1/usage", start="2026-02-01", end="2026-02-01")
    assert (body["cost_usd"], body["unpriced_tokens"]) == (pytest.approx(10 * 2 / 1e6), 0)


def test_usage_without_dates_is_this_month(call: Call) -> None:
    status, body, _ = call("GET", "/v1/usage")
    assert (status, body["data"]) == (200, [])
    assert body["start"].endswith("-01")


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"start": "yesterday"}, "start"),
        ({"end": "2026-02-30"}, "end"),
        ({"start": "2026-02-02", "end": "2026-02-01"}, "start"),
        ({"start": "2020-01-01", "end": "2026-02-01"}, "start"),
    ],
)
def test_bad_dates_are_refused_by_name(call: Call, query: dict[str, str], param: str) -> None:
    status, body, _ = call("GET", "/v1/usage", **query)
    assert (status, body["error"]["param"]) == (400, param)


def test_usage_takes_a_tenant(call: Call) -> None:
    assert call("GET", "/v1/usage", tenant=None)[0] == 401


def test_the_openapi_document_is_served(call: Call) -> None:
    status, body, _ = call("GET", "/v1/openapi.json")
    assert (status, body["openapi"]) == (200, "3.1.0")
