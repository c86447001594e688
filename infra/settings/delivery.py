"""Who may deploy from GitHub Actions: the repository, and which of its jobs. Knows nothing of CDK."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import model_validator

from infra.settings.base import RuleError, SettingsModel, setting, text

EnvironmentName = Annotated[
    str, text(r"^[A-Za-z0-9][A-Za-z0-9_-]*$", "letters, digits, - and _; no patterns", max_length=255)
]
Branch = Annotated[
    str, text(r"^[A-Za-z0-9][A-Za-z0-9._/-]*$", "a branch's name in full; no patterns", max_length=255)
]


class GitHub(SettingsModel):
    """The repository whose jobs may assume the deploy role, by the subject of their OIDC token."""

    repository: str = setting(
        "Repository on github.com; forks of it are others.",
        "example/ml-platform",
        form="owner/name",
        pattern=r"^[A-Za-z0-9](-?[A-Za-z0-9])*/[A-Za-z0-9._-]+$",
    )
    owner_id: int | None = setting(
        "The owner's number, with `repository_id`: the tokens of repositories made since July 2026 have both "
        "(`gh api repos/<owner>/<name>` names them as `owner.id` and `id`).",
        123456,
        ge=1,
        le=2**53,
        default=None,
    )
    repository_id: int | None = setting("The repository's number.", 456789, ge=1, le=2**53, default=None)
    environments: list[EnvironmentName] = setting(
        "GitHub environments whose jobs may deploy; their reviewers and branch rules protect this one.",
        ["prod"],
        default=[],
        max_length=10,
    )
    branches: list[Branch] = setting(
        "Branches whose jobs may deploy without a GitHub environment, and so without approval.",
        ["main"],
        default=[],
        max_length=10,
    )
    pull_requests: bool = setting(
        "Make a second role for jobs of pull requests, which may only look: for `cdk diff`.",
        True,
        default=False,
    )

    @property
    def prefix(self) -> str:
        """How the subject of every token of this repository begins."""
        if self.owner_id is None:
            return f"repo:{self.repository}"
        owner, _, name = self.repository.partition("/")
        return f"repo:{owner}@{self.owner_id}/{name}@{self.repository_id}"

    @property
    def deploy_subjects(self) -> list[str]:
        """The subjects of jobs that may deploy."""
        environments = [f"{self.prefix}:environment:{name}" for name in self.environments]
        return environments + [f"{self.prefix}:ref:refs/heads/{name}" for name in self.branches]

    @property
    def diff_subject(self) -> str:
        """The subject of jobs of pull requests."""
        return f"{self.prefix}:pull_request"

    @model_validator(mode="after")
    def _numbers_come_together(self) -> Self:
        if (self.owner_id is None) != (self.repository_id is None):
            missing = "owner_id" if self.owner_id is None else "repository_id"
            raise RuleError(
                missing,
                what=f"{missing} is missing.",
                why="A token has the numbers of owner and repository, or neither.",
                change="both numbers, or neither",
                example=123456,
            )
        return self

    @model_validator(mode="after")
    def _somebody_may_deploy(self) -> Self:
        if not self.environments and not self.branches:
            raise RuleError(
                "environments",
                what="No job may assume the deploy role.",
                why="It is made for jobs of named GitHub environments or branches.",
                change="the GitHub environment that deploys",
                example=["prod"],
            )
        return self


class Delivery(SettingsModel):
    """Deployment from GitHub Actions without stored credentials."""

    github: GitHub = setting("The repository that deploys.", {"repository": "example/ml-platform"})
    provider: Literal["create", "reuse"] = setting(
        "An account has one OIDC provider for GitHub: `create` it here, or `reuse` the one that is there.",
        "create",
    )


def check_delivery(delivery: Delivery | None) -> None:
    """Production is deployed by GitHub environments only. Raises RuleError at the branches."""
    if delivery is not None and delivery.github.branches:
        raise RuleError(
            "delivery",
            "github",
            "branches",
            what="A branch may deploy production.",
            why="Its jobs wait for nobody's approval; those of a protected GitHub environment do.",
            change="environments in place of branches",
            example=[],
        )
