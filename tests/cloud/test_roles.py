"""Least privilege, proved by running: take one allowed action away from a role and something breaks.

Each case names the function, the action, and what a person sees break; the role is put back afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.cloud.conftest import Laptop

HELLO = [{"role": "user", "content": "Hi"}]


def role_of(laptop: Laptop, handler: str) -> str:
    """The name of the role that the function with this handler runs under."""
    functions = laptop.aws("lambda").list_functions()["Functions"]
    (arn,) = {f["Role"] for f in functions if f.get("Handler") == handler}
    return str(arn).rpartition("/")[2]


def without(document: dict[str, Any], action: str) -> dict[str, Any]:
    """A policy document with one action taken out of every Allow statement."""
    statements = []
    for statement in document["Statement"]:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        left = [name for name in actions if name != action]
        if left:
            statements.append(statement | {"Action": left})
    return document | {"Statement": statements}


@contextmanager
def role_lacks(laptop: Laptop, role: str, action: str) -> Iterator[None]:
    """Removes an action from a role's inline policies for the length of the block."""
    iam = laptop.aws("iam")
    kept: dict[str, dict[str, Any]] = {}
    for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        document = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        if without(document, action) != document:
            kept[name] = document
    assert kept, f"{role} does not allow {action}"
    for name, document in kept.items():
        iam.put_role_policy(
            RoleName=role, PolicyName=name, PolicyDocument=json.dumps(without(document, action))
        )
    try:
        yield
    finally:
        for name, document in kept.items():
            iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(document))


def chat(laptop: Laptop, key: str | None = None) -> httpx.Response:
    """One short chat request."""
    body = {"model": laptop.model, "messages": HELLO, "max_tokens": 2}
    headers = {"Authorization": f"Bearer {key}"} if key else laptop.headers
    return httpx.post(f"{laptop.api_url}/chat/completions", json=body, headers=headers, timeout=60)


def test_inference_without_invoke_cannot_answer(laptop: Laptop) -> None:
    role = role_of(laptop, "lambdas.inference.handler.handler")
    with role_lacks(laptop, role, "sagemaker:InvokeEndpointWithResponseStream"):
        reply = chat(laptop)
    assert reply.status_code == 500
    assert reply.json()["error"]["type"] == "server_error"
    assert "arn:" not in reply.text
    assert chat(laptop).status_code == 200


def test_inference_without_put_item_answers_but_leaves_no_record(laptop: Laptop) -> None:
    role = role_of(laptop, "lambdas.inference.handler.handler")
    with role_lacks(laptop, role, "dynamodb:PutItem"):
        reply = chat(laptop)
        assert reply.status_code == 200
        laptop.settled(reply.json()["id"])
    given = httpx.post(
        f"{laptop.api_url}/feedback",
        json={"request_id": reply.json()["id"], "thumbs": "up"},
        headers=laptop.headers,
        timeout=30,
    )
    assert given.status_code == 404


@pytest.mark.parametrize("action", ["dynamodb:GetItem", "dynamodb:PutItem"])
def test_api_without_its_table_actions_cannot_take_feedback(laptop: Laptop, action: str) -> None:
    answered = laptop.settled(chat(laptop).json()["id"])
    with role_lacks(laptop, role_of(laptop, "lambdas.api.handler.handler"), action):
        given = httpx.post(
            f"{laptop.api_url}/feedback",
            json={"request_id": answered, "thumbs": "up"},
            headers=laptop.headers,
            timeout=30,
        )
    assert given.status_code == 500
    assert given.json()["error"]["type"] == "server_error"
