"""What a catalogue may say: names, targets, and how two sources of entries become one."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.catalogue import Catalogue, ModelEntry, read_entries, write_entries
from contracts.targets import EndpointTarget, OpenAITarget


def entry(name: str, *aliases: str, endpoint: str = "e") -> ModelEntry:
    target = {"kind": "endpoint", "endpoint_name": endpoint, "model_version": "v1"}
    return ModelEntry.model_validate({"name": name, "target": target, "aliases": aliases})


def test_a_model_is_found_by_its_name_and_by_each_alias() -> None:
    catalogue = Catalogue([entry("a", "gpt-4o", "small"), entry("b")])
    assert [catalogue.find(name) for name in ("a", "gpt-4o", "small")] == [catalogue.entries[0]] * 3
    assert catalogue.find("c") is None


@pytest.mark.parametrize("second", [entry("a"), entry("b", "a"), entry("x"), entry("b", "x")])
def test_no_two_models_answer_to_one_name(second: ModelEntry) -> None:
    with pytest.raises(ValueError, match="two models answer to"):
        Catalogue([entry("a", "x"), second])


def test_the_second_source_wins_and_keeps_the_order() -> None:
    catalogue = Catalogue([entry("a"), entry("b")]).overlaid([entry("c"), entry("a", endpoint="new")])
    assert [each.name for each in catalogue.entries] == ["a", "b", "c"]
    assert catalogue.entries[0].target.name == "new"


def test_the_environments_own_model_is_there_unless_it_is_described() -> None:
    own = entry("own")
    assert [each.name for each in Catalogue.of_environment(own, [entry("b")]).entries] == ["own", "b"]
    described = entry("own", "alias")
    assert Catalogue.of_environment(own, [entry("b"), described]).find("own") is described


def test_entries_survive_being_written() -> None:
    made = ModelEntry(name="c", kind=None, target=EndpointTarget(endpoint_name="e", model_version="v1"))
    entries = [entry("a", "x"), entry("b"), made]
    assert read_entries(write_entries(entries)) == entries


@pytest.mark.parametrize(
    "url", ["https://api.example.com/v1/", "https://api.example.com:8443/v1", "http://127.0.0.1:8000/v1"]
)
def test_urls_that_are_safe(url: str) -> None:
    assert OpenAITarget(kind="openai", base_url=url, model="m").base_url == url.rstrip("/")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://api.example.com/v1", "use https"),
        ("http://localhost:8000/v1", "use https"),
        ("ftp://api.example.com", "use https"),
        ("https://user:secret@api.example.com/v1", "without user"),
        ("https://api.example.com/v1?key=x", "query"),
        ("https:///v1", "give a URL"),
        ("https://api.example.com:99999/v1", "[Pp]ort"),
    ],
)
def test_urls_that_are_not(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        OpenAITarget(kind="openai", base_url=url, model="m")


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "with space"},
        {"aliases": ["../etc"]},
        {"kind": "image"},
        {"target": {"kind": "ollama", "endpoint_name": "e"}},
        {"target": {"kind": "bedrock", "model_id": "amazon.nova-1"}, "kind": "embedding"},
        {"price": {"input": -1}},
        {"unknown": 1},
    ],
)
def test_entries_that_are_refused(fields: dict[str, Any]) -> None:
    good: dict[str, Any] = {
        "name": "a",
        "target": {"kind": "endpoint", "endpoint_name": "e", "model_version": "v"},
    }
    ModelEntry.model_validate(good)
    with pytest.raises(ValueError, match=r"validation error"):
        ModelEntry.model_validate(good | fields)
