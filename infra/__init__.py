"""The infrastructure: `build` composes an environment's stacks from its settings file."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import aws_cdk as cdk


def build(app: cdk.App, env_name: str) -> list[cdk.Stack]:
    """Compose all stacks of `settings/<env_name>.yaml` into `app`. Raises SettingsError."""
    from infra.compose import compose  # CDK takes seconds to load, and settings are read without it
    from infra.settings import load

    return compose(app, load(env_name))
