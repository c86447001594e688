"""The one base of every settings model: frozen, strict, closed to unknown keys and to infinite numbers.

Knows nothing of YAML files or CDK. Every field carries a `description` and `examples`; the loader quotes
them when a file is wrong and docs/settings.md is written from them.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

FORM = "x-form"
"""Where a field keeps the words for its pattern."""


class SettingsModel(BaseModel):
    """Frozen, closed and strict: a quoted number is not a number, a number is not a string."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


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


def setting(description: str, example: Any, *, form: str = "", **constraints: Any) -> Any:
    """A pydantic field with the description and the example that errors and the reference show.

    Args:
        description: What the key means, with its unit.
        example: A value that passes.
        form: What a `pattern` asks for, in words: errors and the reference show them in place of it.
        constraints: Pydantic's, `default` among them; a field without one must be in the file.
    """
    return Field(description=description, examples=[example], **_said(form), **constraints)


def text(pattern: str, form: str, **constraints: Any) -> Any:
    """What a text in a list or a mapping must match, and the same in words."""
    return Field(pattern=pattern, **_said(form), **constraints)


def _said(form: str) -> dict[str, Any]:
    return {"json_schema_extra": {FORM: form}} if form else {}
