"""The floors of branch coverage: what is below one, has none or was not measured is named."""

from __future__ import annotations

from tests.support.coverage_floors import measured, misses


def _file(lines: int, of_lines: int, branches: int, of_branches: int) -> dict[str, dict[str, int]]:
    return {
        "summary": {
            "covered_lines": lines,
            "num_statements": of_lines,
            "covered_branches": branches,
            "num_branches": of_branches,
        }
    }


def test_lines_and_branches_of_a_package_count_together() -> None:
    report = {"files": {"infra/a.py": _file(8, 10, 1, 4), "infra/b/c.py": _file(6, 6, 0, 0)}}

    assert measured(report) == {"infra": 75.0}


def test_what_falls_short_is_named() -> None:
    found = {"infra": 74.9, "lambdas": 90.0, "local": 50.0}

    assert misses(found, {"infra": 75.0, "lambdas": 90.0, "evaluation": 80.0}) == [
        "local has no floor in pyproject.toml",
        "evaluation was not measured",
        "infra: 74.9 % is below its floor of 75.0 %",
    ]
