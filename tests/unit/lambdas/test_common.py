"""What all functions share: environment, DynamoDB items, proxy events, error mapping, metric lines."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from contracts.errors import ErrorReply
from lambdas.aws.dynamodb import from_item, to_attribute, to_item
from lambdas.pipeline.environment import InferenceEnvironment
from lambdas.runtime import http_event as requests
from lambdas.runtime.environment import InvalidEnvironmentError, load
from lambdas.runtime.errors import ApiError, to_api_error
from lambdas.runtime.metrics import MetricLine

VARIABLES = {
    "ENVIRONMENT": "local",
    "ACCESS_TABLE": "a",
    "ENDPOINT_NAME": "e",
    "MODEL_NAME": "m",
    "MODEL_VERSION": "v",
    "RECORDS_TABLE": "r",
    "RECORD_TTL_DAYS": "30",
    "MAX_BODY_BYTES": "1000000",
    "PATH": "/bin",
}


def test_the_environment_is_typed() -> None:
    read = load(InferenceEnvironment, VARIABLES)
    assert (read.record_ttl_days, read.max_body_bytes, read.log_level) == (30, 1_000_000, "INFO")


def test_every_missing_or_malformed_variable_is_named_at_once() -> None:
    broken = {**VARIABLES, "RECORD_TTL_DAYS": "soon"}
    del broken["MODEL_NAME"]
    with pytest.raises(
        InvalidEnvironmentError, match=r"MODEL_NAME.*RECORD_TTL_DAYS|RECORD_TTL_DAYS.*MODEL_NAME"
    ):
        load(InferenceEnvironment, broken)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=30)
@given(st.dictionaries(st.text(min_size=1), plain, max_size=4))
def test_items_come_back_as_they_went(values: dict[str, Any]) -> None:
    kept = {name: value for name, value in values.items() if value is not None}
    assert from_item(to_item(values)) == kept


def test_what_dynamodb_cannot_hold_is_refused() -> None:
    with pytest.raises(TypeError):
        to_attribute(object())


def event(body: str | None, encoded: bool = False) -> dict[str, Any]:
    return {"body": body, "isBase64Encoded": encoded, "headers": {"X-Api-Key": "k"}}


def test_bodies_come_as_bytes() -> None:
    assert requests.body_bytes(event("grüße")) == "grüße".encode()
    assert requests.body_bytes(event(base64.b64encode(b"\xff\x00").decode(), encoded=True)) == b"\xff\x00"
    assert requests.body_bytes(event(None)) == b""


@pytest.mark.parametrize("broken", [event("!!", encoded=True), event("\ud800")])
def test_a_body_that_is_no_text_stays_none(broken: dict[str, Any]) -> None:
    with pytest.raises(UnicodeDecodeError):
        requests.body_bytes(broken).decode()


def test_headers_are_found_in_any_case() -> None:
    assert requests.headers(event(None)) == {"x-api-key": "k"}
    assert requests.headers({"headers": None}) == {}


def test_an_unforeseen_failure_says_nothing_of_its_inside() -> None:
    error = to_api_error(RuntimeError("password is hunter2"))
    assert (error.status, error.type) == (500, "server_error")
    assert "hunter2" not in error.body


def test_the_body_is_the_contracts_error_reply() -> None:
    error = ApiError("rate_limit_error", "Slow down.", code="x", retry_after=7)
    assert ErrorReply.model_validate_json(error.body).error.message == "Slow down."
    assert error.headers["retry-after"] == "7"
    assert error.status == 429


class Inner(BaseModel):
    value: int | list[int]


class Outer(BaseModel):
    items: list[Inner]


def test_params_name_the_field_without_the_members_of_a_union() -> None:
    with pytest.raises(ValueError) as caught:
        Outer.model_validate({"items": [{"value": "x"}]})
    assert to_api_error(caught.value).param == "items[0].value"


def test_a_metric_line_is_in_embedded_metric_format(capsys: pytest.CaptureFixture[str]) -> None:
    line = MetricLine({"endpoint": "e", "variant": "v"})
    line.add({"a": (1, "Count")}, [["endpoint"], ["endpoint", "variant"]])
    line.add({"b": (2.5, "Milliseconds")}, [["endpoint"]])
    line.emit(request_id="r", nothing=None)

    written = json.loads(capsys.readouterr().out)
    timestamp = written.pop("_aws").pop("Timestamp")
    assert timestamp > 1_600_000_000_000
    assert written == {"endpoint": "e", "variant": "v", "a": 1, "b": 2.5, "request_id": "r"}


def test_every_dimension_and_metric_of_a_line_has_its_value(capsys: pytest.CaptureFixture[str]) -> None:
    line = MetricLine({"endpoint": "e"})
    line.add({"a": (1, "Count")}, [["endpoint"]])
    line.emit()
    written = json.loads(capsys.readouterr().out)
    for directive in written["_aws"]["CloudWatchMetrics"]:
        assert all(name in written for names in directive["Dimensions"] for name in names)
        assert all(metric["Name"] in written for metric in directive["Metrics"])
