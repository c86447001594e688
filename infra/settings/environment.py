"""The section `environment`: where the stacks live, how long things are kept, what they may cost.

Knows nothing of CDK, files or line numbers.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from infra.settings.base import RuleError, SettingsModel, setting
from infra.settings.machines import InstanceType
from infra.settings.tags import check_tags
from infra.settings.texts import AccountId, Region

Removal = Literal["retain", "destroy"]
LogDays = Literal[1, 3, 7, 14, 30, 60, 90, 180, 365, 731, 1827, 3653]


class RemovalPolicies(SettingsModel):
    """What `cdk destroy`, or a replacement, does to each class of data."""

    models: Removal = setting("Model artefacts.", "retain")
    records: Removal = setting("Records, feedback and the release ledger.", "retain")
    access: Removal = setting("Callers' keys and routing.", "retain")
    logs: Removal = setting("Log groups and access logs.", "destroy")


class Environment(SettingsModel):
    """Where the stacks live and how long things are kept."""

    account: AccountId = setting("AWS account id, in quotes.", "111122223333")
    region: Region = setting("AWS region.", "us-east-1")
    production: bool = setting(
        "Callers depend on this environment: its stacks cannot be deleted by mistake, and what production "
        "must not lack (a web ACL, kept records and keys) is asked for.",
        True,
        default=False,
    )
    tags: dict[str, str] = setting("Tags on every resource.", {"team": "ml-platform"})
    removal: RemovalPolicies = setting("Removal policy by data class.", {"models": "retain"})
    disposable: bool = setting(
        "`make prove` may deploy, break and delete this environment; all of `removal` must be destroy.",
        True,
        default=False,
    )
    log_retention_days: LogDays = setting("Days CloudWatch keeps logs.", 90)
    monthly_cost_cap_usd: float = setting(
        "Synth fails when the endpoint at full size would cost more per month.", 12000.0, gt=0
    )
    prices_usd_per_hour: dict[InstanceType, Annotated[float, Field(gt=0)]] = setting(
        "Prices that differ from infra/prices.yaml: another region, a discount.",
        {"ml.g6e.xlarge": 2.2},
        default={},
    )

    @model_validator(mode="after")
    def _tags_are_taken(self) -> Self:
        check_tags(self.tags)
        return self

    @model_validator(mode="after")
    def _disposable_keeps_nothing(self) -> Self:
        kept = [name for name, choice in self.removal if choice == "retain"]
        against = f"removal retains {', '.join(kept)}" if kept else "production is true"
        if self.disposable and (kept or self.production):
            raise RuleError(
                "disposable",
                what=f"The environment is disposable, and {against}.",
                why="`make prove` breaks it and deletes it to the end.",
                change="false, or no production and a removal of destroy for all four",
                example=False,
            )
        return self
