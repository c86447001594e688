"""The one base of every settings model: frozen, strict, closed to unknown keys.

Knows nothing of YAML files or CDK. Every field carries a `description` and `examples`; the loader quotes
them when a file is wrong and docs/settings.md is written from them.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class SettingsModel(BaseModel):
    """Frozen, closed and strict: a quoted number is not a number, a number is not a string."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class RuleError(ValueError):
    """A combination that the service, or a promise of ours, does not allow.

    `path` is relative to the model whose validator raises: the key to change first. `change` says to what;
    `example` is a value that would pass. `rule` is the id of the exclusion, where it is a registered one.
    """

    def __init__(self, *path: str, what: str, why: str, change: str, example: Any, rule: str = "") -> None:
        super().__init__(f"{what} {why}")
        self.path = path
        self.rule = rule
        self.change = change
        self.example = example


def setting(description: str, example: Any, **constraints: Any) -> Any:
    """A pydantic field with the description and the example that errors and the reference show.

    `default` is among the constraints; a field without one must be in the file.
    """
    return Field(description=description, examples=[example], **constraints)
