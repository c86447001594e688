"""Probes of the front door's roles: authorizer, inference, api."""

from __future__ import annotations

from typing import Any

import httpx

from contracts.access import key_pk, routing_pk
from contracts.catalogue import ENTRIES_ATTRIBUTE, ModelEntry, catalogue_pk, write_entries
from contracts.targets import EndpointTarget
from tests.cloud.roles.world import Probe, World, marker
from tests.support.laptop import EMBEDDING

INFERENCE, API, AUTHORIZER = "lambdas.inference.handler", "lambdas.api.handler", "lambdas.authorizer.handler"


def _ask(world: World, **more: Any) -> httpx.Response:
    body = {"model": world.laptop.model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
    return httpx.post(
        f"{world.laptop.api_url}/chat/completions",
        json=body, headers=world.laptop.headers | more.get("headers", {}), timeout=60,
    )  # fmt: skip


def _get(world: World, path: str) -> httpx.Response:
    return httpx.get(f"{world.laptop.api_url}{path}", headers=world.laptop.headers, timeout=60)


def _answered(world: World) -> str:
    """A request whose record has been written; its id."""
    reply = _ask(world)
    assert reply.status_code == 200, reply.text
    return world.laptop.settled(reply.json()["id"]).removeprefix("chatcmpl-")


def key_is_read(world: World) -> bool:
    """Any route behind the authorizer."""
    reply = _get(world, "/models")
    assert reply.status_code in (200, 500), reply.text
    return reply.status_code == 200


def model_is_called(world: World) -> bool:
    reply = _ask(world)
    assert "arn:" not in reply.text
    return reply.status_code == 200


def embedding_model_is_called(world: World) -> bool:
    """A further model, on a serverless endpoint: it gives its answer whole."""
    reply = httpx.post(
        f"{world.laptop.api_url}/embeddings",
        json={"model": EMBEDDING, "input": "Hi"}, headers=world.laptop.headers, timeout=60,
    )  # fmt: skip
    assert "arn:" not in reply.text
    return reply.status_code == 200


def record_is_kept(world: World) -> bool:
    """An answer comes either way; without the record nobody can say what they think of it."""
    rows = world.rows("RecordsTableName", _answered(world))
    return any(row["sk"]["S"] == "RECORD" for row in rows)


def budget_is_charged(world: World) -> bool:
    """Requests pass while the ledger cannot be asked; the headers that tell what is left are missing then."""
    access = world.data["AccessTableName"]
    key = {"pk": {"S": key_pk(world.laptop.outputs["api_key"])}}
    tables = world.laptop.aws("dynamodb")
    plain = tables.get_item(TableName=access, Key=key)["Item"]
    world.item("AccessTableName", plain | {"tokens_per_day": {"N": "100000000"}})
    try:
        reply = _ask(world)
    finally:
        world.item("AccessTableName", plain)
    assert reply.status_code == 200, reply.text
    return "x-ratelimit-remaining-tokens" in reply.headers


def routing_is_read(world: World) -> bool:
    """The version in the record is the routing item's. New processes: the old ones may remember the item."""
    name = routing_pk(world.laptop.outputs["endpoint_name"])
    version = marker()
    variant = {"name": {"S": "champion"}, "weight": {"N": "1"}, "model_version": {"S": version}}
    item = {
        "pk": {"S": name},
        "endpoint_name": {"S": world.laptop.outputs["endpoint_name"]},
        "variants": {"L": [{"M": variant}]},
    }
    with world.routing_kept():
        world.item("AccessTableName", item)
        world.restart(INFERENCE)
        request_id = _answered(world)
    (record,) = [r for r in world.rows("RecordsTableName", request_id) if r["sk"]["S"] == "RECORD"]
    return record["model_version"]["S"] == version


def added_model_is_listed(world: World) -> bool:
    """An operator's entry stands in the list. New processes: the old ones may remember the item."""
    name = marker()
    target = EndpointTarget(endpoint_name=world.laptop.outputs["endpoint_name"], model_version="1")
    item = {
        "pk": {"S": catalogue_pk(target.endpoint_name)},
        ENTRIES_ATTRIBUTE: {"S": write_entries([ModelEntry(name=name, target=target)])},
    }
    with world.access_item_kept(catalogue_pk(target.endpoint_name)):
        world.item("AccessTableName", item)
        world.restart(API)
        reply = _get(world, "/models")
    assert reply.status_code == 200, reply.text
    return name in [card["id"] for card in reply.json()["data"]]


def feedback_is_taken(world: World) -> bool:
    answered = _answered(world)
    given = httpx.post(
        f"{world.laptop.api_url}/feedback",
        json={"request_id": answered, "thumbs": "up"}, headers=world.laptop.headers, timeout=60,
    )  # fmt: skip
    assert given.status_code in (201, 500), given.text
    return given.status_code == 201


def usage_is_shown(world: World) -> bool:
    reply = _get(world, "/usage")
    assert reply.status_code in (200, 500), reply.text
    return reply.status_code == 200


def _log_of(module: str) -> Any:
    """Whether a function's words reach its log; each of them logs the id of the request."""

    def works(world: World) -> bool:
        word = marker()
        event = {
            "httpMethod": "GET", "path": f"/{word}", "headers": {}, "multiValueHeaders": {},
            "methodArn": "arn:aws:execute-api:us-east-1:1:a/b/GET/c", "requestContext": {"requestId": word},
        }  # fmt: skip
        world.invoke(module, event)
        return world.logged(module, word)

    return works


PROBES = [
    Probe("AuthorizerRole", ("dynamodb:GetItem@AccessTable",), key_is_read),
    Probe("AuthorizerRole", ("logs:PutLogEvents",), _log_of(AUTHORIZER)),
    Probe("InferenceRole", ("sagemaker:InvokeEndpointWithResponseStream",), model_is_called),
    Probe("InferenceRole", ("sagemaker:InvokeEndpoint",), embedding_model_is_called),
    Probe("InferenceRole", ("dynamodb:PutItem@RecordsTable",), record_is_kept),
    Probe("InferenceRole", ("dynamodb:UpdateItem@RecordsTable",), budget_is_charged),
    Probe("InferenceRole", ("dynamodb:BatchGetItem@AccessTable",), routing_is_read),
    Probe("InferenceRole", ("logs:PutLogEvents",), _log_of(INFERENCE)),
    Probe("ApiRole", ("dynamodb:GetItem@RecordsTable", "dynamodb:PutItem@RecordsTable"), feedback_is_taken),
    Probe("ApiRole", ("dynamodb:Query@RecordsTable",), usage_is_shown),
    Probe("ApiRole", ("dynamodb:BatchGetItem@AccessTable",), added_model_is_listed),
    Probe("ApiRole", ("logs:PutLogEvents",), _log_of(API)),
]
