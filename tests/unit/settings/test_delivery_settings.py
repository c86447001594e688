"""Who may deploy from GitHub: subjects of tokens, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from infra.settings import Settings, load
from infra.settings.delivery import GitHub


def github(**changes: Any) -> GitHub:
    return GitHub.model_validate({"repository": "example/ml-platform", "environments": ["prod"]} | changes)


def test_subjects_name_repository_and_job() -> None:
    given = github(branches=["main", "release/1.x"])

    assert given.deploy_subjects == [
        "repo:example/ml-platform:environment:prod",
        "repo:example/ml-platform:ref:refs/heads/main",
        "repo:example/ml-platform:ref:refs/heads/release/1.x",
    ]
    assert given.diff_subject == "repo:example/ml-platform:pull_request"


def test_a_newer_repository_has_its_numbers_in_every_subject() -> None:
    """GitHub's immutable subject claims: a name that somebody takes over later has other numbers."""
    given = github(owner_id=123456, repository_id=456789)

    assert given.deploy_subjects == ["repo:example@123456/ml-platform@456789:environment:prod"]
    assert given.diff_subject == "repo:example@123456/ml-platform@456789:pull_request"


@pytest.mark.parametrize(
    "change",
    [
        {"repository": "example/*"},
        {"repository": "*/ml-platform"},
        {"repository": "example"},
        {"repository": "example/ml-platform:ref"},
        {"repository": "example/ml/platform"},
        {"environments": ["*"]},
        {"environments": ["prod?"]},
        {"environments": ["prod:environment:x"]},
        {"environments": [""]},
        {"branches": ["release/*"]},
        {"branches": ["main:x"]},
        {"environments": [], "branches": []},
        {"owner_id": 1},
        {"repository_id": 1},
        {"owner_id": 0, "repository_id": 1},
        {"branch": "main"},
    ],
)
def test_patterns_and_half_a_number_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        github(**change)


def test_production_is_not_deployed_by_a_branch() -> None:
    shipped = load("prod").model_dump()
    section: dict[str, Any] = {"provider": "reuse", "github": github().model_dump()}
    assert Settings.model_validate(shipped | {"delivery": section}).delivery is not None

    section["github"]["branches"] = ["main"]
    with pytest.raises(ValidationError, match="A branch may deploy production"):
        Settings.model_validate(shipped | {"delivery": section})
