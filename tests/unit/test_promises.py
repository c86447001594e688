"""docs/promises.yaml has a row for every promise, and names tests that exist."""

from __future__ import annotations

import ast
import functools
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
COUNTS = {"S": 11, "G": 12, "W": 11, "E": 13, "L": 10, "P": 13}
EXPECTED = [f"{letter}{number}" for letter, count in COUNTS.items() for number in range(1, count + 1)]


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        assert not twice, f"{sorted(twice)} stand twice"
        return super().construct_mapping(node, deep)


def _rows() -> dict[str, dict[str, Any]]:
    text = (ROOT / "docs" / "promises.yaml").read_text()
    rows: dict[str, dict[str, Any]] = yaml.load(text, Loader=_UniqueKeyLoader)
    return rows


@functools.cache
def _tests_of(path: str) -> frozenset[str]:
    """`test_…` and `TestClass::test_…` of one file, read without importing it."""
    tree = ast.parse((ROOT / path).read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = {node.name for node in tree.body if isinstance(node, functions)}
    for group in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        found |= {f"{group.name}::{node.name}" for node in group.body if isinstance(node, functions)}
    return frozenset(found)


def test_every_promise_has_one_row() -> None:
    assert sorted(_rows()) == sorted(EXPECTED)


def test_rows_hold_what_rows_hold() -> None:
    for name, row in _rows().items():
        assert set(row) <= {"promise", "tests", "missing"}, name
        assert row["promise"].endswith("."), name
        assert isinstance(row["tests"], list), name
        assert len(set(row["tests"])) == len(row["tests"]), f"{name} names a test twice"


def test_every_named_test_exists() -> None:
    for name, row in _rows().items():
        for test in row["tests"]:
            path, _, function = test.partition("::")
            assert (ROOT / path).is_file(), f"{name}: there is no file {path}"
            assert function in _tests_of(path), f"{name}: {path} has no {function}"
            assert function.split("::")[-1].startswith("test_"), f"{name}: {function} is no test"


def test_every_row_has_tests_or_says_what_is_missing() -> None:
    for name, row in _rows().items():
        missing = row.get("missing", "")
        assert row["tests"] or missing, f"{name} has neither tests nor a word on what is missing"
        assert "\n" not in missing, f"{name}: one line says what is missing"
