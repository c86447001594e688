"""The two entries as Lambda loads them, and the seams that only they put together."""

from __future__ import annotations

import importlib
import json
import sys
from types import ModuleType
from typing import Any

import pytest

from contracts.routing import Routing, VariantRoute
from lambdas.aws.access_table import CatalogueTable
from lambdas.aws.dynamodb import to_item
from lambdas.release.aws import clients
from lambdas.release.errors import BadInputError
from lambdas.release.store import RoutingItem, TrafficTable
from lambdas.runtime.environment import InvalidEnvironmentError
from tests.support.release_loop import LOOP

VARIABLES = {
    "ENVIRONMENT": "test",
    "ENDPOINT_NAME": "evergreen-test",
    "SERVING_STACK": "evergreen-test-serving",
    "ACCESS_TABLE": "access",
    "RECORDS_TABLE": "records",
    "LEDGER_TABLE": "ledger",
    "ARTEFACTS_BUCKET": "artefacts",
    "MODEL_PACKAGE_GROUP": "group",
    "GATE": json.dumps({"metric": "token_f1"}),
    "CANARY": json.dumps(
        {"shares": [0.1], "planned_sample": [30], "deadline_minutes": 10, "maximum_error_rate": 0.02}
    ),
    "LOOP": LOOP.model_dump_json(),
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
}


def loaded(monkeypatch: pytest.MonkeyPatch, module: str, **changes: str | None) -> ModuleType:
    """The module as a starting function loads it."""
    for name, value in (VARIABLES | changes).items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    monkeypatch.delitem(sys.modules, module, raising=False)
    return importlib.import_module(module)


@pytest.mark.parametrize("module", ["lambdas.release.analysis_handler", "lambdas.release.handler"])
def test_given_the_environment_when_a_function_starts_then_it_refuses_what_is_no_task_of_its_own(
    monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    function = loaded(monkeypatch, module)
    with pytest.raises(BadInputError, match="task"):
        function.handler({"task": "reboot", "release_id": "r"}, None)


def test_given_no_topic_when_release_starts_then_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert loaded(monkeypatch, "lambdas.release.handler", APPROVAL_TOPIC_ARN=None).handler


def test_given_a_second_region_when_release_starts_then_its_client_stands_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = {"FAILOVER_STACK": "evergreen-test-failover", "FAILOVER_REGION": "us-west-2"}
    asked: list[tuple[str, str | None]] = []
    real = clients.client

    def noted(service: str, region: str | None = None) -> Any:
        asked.append((service, region))
        return real(service, region)

    monkeypatch.setattr(clients, "client", noted)
    loaded(monkeypatch, "lambdas.release.handler", **there, FAILOVER_BUCKET="copies")
    assert [region for service, region in asked if service == "cloudformation"] == [None, "us-west-2"]

    asked.clear()
    loaded(monkeypatch, "lambdas.release.handler", FAILOVER_STACK=None)
    assert [region for service, region in asked if service == "cloudformation"] == [None]


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("LEDGER_TABLE", None, "LEDGER_TABLE"),
        ("GATE", "{", "GATE"),
        ("GATE", '{"metric": "token_f1", "maximum_latency_ratio": 0.5}', "GATE"),
        ("CANARY", '{"shares": [0.1, 0.5], "planned_sample": [30]}', "CANARY"),
    ],
)
def test_given_a_broken_variable_when_analysis_starts_then_it_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str | None, problem: str
) -> None:
    with pytest.raises(InvalidEnvironmentError, match=problem):
        loaded(monkeypatch, "lambdas.release.analysis_handler", **{name: value})


class Pages:
    """A table whose answers come in pages."""

    def __init__(self, pages: list[list[dict[str, Any]]]) -> None:
        self._pages = pages
        self.asked: list[dict[str, Any]] = []

    def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        self.asked.append(parameters)
        number = int(parameters.get("ExclusiveStartKey", {"page": "0"})["page"])
        more = {"LastEvaluatedKey": {"page": str(number + 1)}} if number + 1 < len(self._pages) else {}
        return {"Items": [to_item(row) for row in self._pages[number]], **more}


def test_given_more_rows_than_a_page_holds_then_all_are_read() -> None:
    rows = [{"variant": "champion", "received_at": 10.5 + n, "status": 200} for n in range(5)]
    found = TrafficTable("records", Pages([rows[:2], [], rows[2:]])).calls("v1", "champion", 10)
    assert [call.received_at for call in found] == [10.5, 11.5, 12.5, 13.5, 14.5]
    assert found[0].ttft_ms is None


def test_given_words_without_a_rating_then_they_are_no_rating() -> None:
    rows = [
        {"variant": "champion", "request_id": "a", "given_at": 1, "comment": "hm"},
        {"variant": "champion", "request_id": "b", "given_at": 2, "thumbs": "down"},
        {"variant": "champion", "request_id": "c", "given_at": 3, "score": 0.25, "thumbs": "up"},
    ]
    found = TrafficTable("records", Pages([rows])).ratings("v1", "champion", 0)
    assert [(one.request_id, one.score) for one in found] == [("b", 0.0), ("c", 0.25)]


def test_given_a_split_that_release_wrote_then_the_front_door_reads_the_same(release: Any) -> None:
    routing = Routing(
        endpoint_name="evergreen-test",
        experiment="r1",
        variants=[
            VariantRoute(name="champion", weight=0.9, model_version="a"),
            VariantRoute(name="challenger", weight=0.1, model_version="b"),
        ],
    )
    RoutingItem("access", "evergreen-test", release.tables).write(routing)
    items = CatalogueTable("access", "evergreen-test", release.tables).read(["evergreen-test"])
    assert items.routings["evergreen-test"] == routing
    assert RoutingItem("access", "evergreen-test", release.tables).read() == routing
    assert RoutingItem("access", "evergreen-other", release.tables).read() is None
