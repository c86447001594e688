"""The OpenAPI document: it is whole, it is the one that is published, and it only ever grows."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from door_world import chat
from jsonschema import Draft202012Validator

from lambdas.api.openapi import document
from lambdas.inference.operations import CHAT, EMBEDDINGS, TEXT_COMPLETION

VERSION_ONE = Path(__file__).with_name("openapi_v1.json")
"""The API as clients of version 1 know it. A change that breaks it takes a major version and a new file."""

PUBLISHED = Path(__file__).resolve().parents[3] / "docs/openapi.json"


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_every_reference_leads_somewhere() -> None:
    whole = document()
    found = list(references(whole))
    assert found
    for reference in found:
        assert reference.removeprefix("#/components/schemas/") in whole["components"]["schemas"]


def test_every_operation_of_the_door_is_described() -> None:
    paths = document()["paths"]
    assert {CHAT.route, TEXT_COMPLETION.route, EMBEDDINGS.route} <= set(paths)


def test_schemas_accept_and_refuse_as_the_door_does() -> None:
    whole = document()
    schema = {**whole["components"]["schemas"]["ChatRequest"], "components": whole["components"]}
    validator = Draft202012Validator(schema)
    assert validator.is_valid(chat(stream=True, max_tokens=5))
    assert not validator.is_valid(chat(max_tokens=0))
    assert not validator.is_valid(chat(magic=1))
    assert not validator.is_valid({"model": "m"})


def test_the_published_document_is_current() -> None:
    current = json.loads(json.dumps(document()))
    assert json.loads(PUBLISHED.read_text()) == current, (
        "write it anew: python -m lambdas.api.openapi > docs/openapi.json"
    )


# --- compatibility ---------------------------------------------------------------------------------------


def breaks(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What a client written against `old` would stumble over in `new`."""
    found: list[str] = []
    for path, operations in old["paths"].items():
        for method, operation in operations.items():
            now = new["paths"].get(path, {}).get(method)
            if now is None:
                found.append(f"{method} {path} is gone")
            elif set(operation["responses"]) - set(now["responses"]):
                found.append(f"{method} {path} lost a reply")
    for name, schema in old["components"]["schemas"].items():
        now = new["components"]["schemas"].get(name, {})
        lost = set(schema.get("properties", {})) - set(now.get("properties", {}))
        found += [f"{name}.{field} is gone" for field in sorted(lost)]
        if name.endswith("Request"):
            required = set(now.get("required", [])) - set(schema.get("required", []))
            found += [f"{name}.{field} has become required" for field in sorted(required)]
    return found


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["paths"].pop("/v1/usage"), "get /v1/usage is gone"),
        (
            lambda d: d["components"]["schemas"]["ChatCompletion"]["properties"].pop("usage"),
            "ChatCompletion.usage is gone",
        ),
        (
            lambda d: d["components"]["schemas"]["ChatRequest"]["required"].append("user"),
            "ChatRequest.user has become required",
        ),
    ],
)
def test_a_breaking_change_is_noticed(change: Any, said: str) -> None:
    changed = copy.deepcopy(document())
    change(changed)
    assert breaks(document(), changed) == [said]


def test_nothing_of_version_one_is_broken() -> None:
    assert breaks(json.loads(VERSION_ONE.read_text()), document()) == []
