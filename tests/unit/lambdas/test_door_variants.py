"""Which variant answers whom."""

from __future__ import annotations

import json

from contracts.routing import Routing, VariantRoute
from tests.support.fake_model_endpoint import Reply
from tests.support.front_door import ENDPOINT, Door, chat

AB_TEST = Routing(
    endpoint_name=ENDPOINT,
    experiment="e1",
    variants=[
        VariantRoute(name="champion", weight=1, model_version="v1"),
        VariantRoute(name="challenger", weight=1, model_version="v2"),
    ],
)


def test_an_experiment_names_the_variant_and_its_version(door: Door) -> None:
    door.route(AB_TEST)
    seen = set()
    for number in range(40):
        door.ask(chat(user=f"u-{number}"))
        seen.add(door.sagemaker.calls[-1][0]["x-amzn-sagemaker-target-variant"])
    assert seen == {"champion", "challenger"}


def test_the_same_user_gets_the_same_variant(door: Door) -> None:
    door.route(AB_TEST)
    for _ in range(10):
        door.ask(chat(user="u-1"))
    assert len({headers["x-amzn-sagemaker-target-variant"] for headers, _ in door.sagemaker.calls}) == 1


def test_a_variant_that_vanished_is_replaced_by_the_endpoints_choice(door: Door) -> None:
    door.route(AB_TEST.model_copy(update={"variants": [AB_TEST.variants[1]]}))
    good = door.sagemaker.replies[0]
    vanished = Reply(status=400, error=("ValidationError", {"Message": "Variant challenger not found"}))
    door.sagemaker.replies = [vanished, good]
    reply, _ = door.ask(chat())
    assert reply.status == 200
    assert reply.headers["x-evergreen-variant"] == "champion"
    asked = ["x-amzn-sagemaker-target-variant" in headers for headers, _ in door.sagemaker.calls]
    assert asked == [True, False]


def test_without_routing_item_the_endpoint_decides(door: Door) -> None:
    reply, _ = door.ask(chat())
    assert reply.headers["x-evergreen-variant"] == "champion"
    assert "x-amzn-sagemaker-target-variant" not in door.sagemaker.calls[0][0]


def test_a_routing_table_that_fails_does_not_stop_answers(door: Door) -> None:
    door.tables.delete_table(TableName="access")
    reply, _ = door.ask(chat())
    assert reply.status == 200


def test_a_key_with_the_scope_may_name_the_variant(door: Door) -> None:
    caller = {"tenant": "shop", "key_name": "web", "scopes": "inference choose-variant"}
    door.route(AB_TEST)
    for name in ("champion", "challenger"):
        door.ask(chat(), headers={"x-evergreen-variant": name}, **caller)
        assert door.sagemaker.calls[-1][0]["x-amzn-sagemaker-target-variant"] == name
    vanished = Reply(status=400, error=("ValidationError", {"Message": "Variant third not found"}))
    door.sagemaker.replies = [vanished]
    for name in ("third", "x\r\nx-evil: 1", ""):
        reply, body = door.ask(chat(), headers={"x-evergreen-variant": name}, **caller)
        assert (reply.status, json.loads(body)["error"]["code"]) == (400, "unknown_variant")


def test_other_keys_may_not_name_the_variant(door: Door) -> None:
    reply, body = door.ask(chat(), headers={"x-evergreen-variant": "challenger"})
    assert (reply.status, json.loads(body)["error"]["code"]) == (403, "insufficient_scope")
    assert door.sagemaker.calls == []
