"""The section `model`: what callers name, and the artefact that a first deployment starts with.

Knows nothing of CDK, files or line numbers.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import model_validator

from infra.settings.base import RuleError, SettingsModel, setting, text

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}$"
NAME_FORM = "letters, digits and . _ : / @ + -"
VERSION_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
SOURCE_PATTERN = r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/.+(/|\.tar\.gz)$"
SOURCE_FORM = "an S3 address: s3://bucket/prefix/ with a slash at its end, or one .tar.gz"


class Model(SettingsModel):
    """The model callers name, and the artefact a first deployment starts with."""

    name: str = setting(
        "What callers put into `model`.",
        "llama-3.1-8b-instruct",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$",
    )
    version: str = setting("Version of the first artefact.", "1", pattern=VERSION_PATTERN)
    source: str | None = setting(
        "S3 prefix of the first artefact (for serverless one tar.gz); left out, the deploy names it "
        "(parameter ChampionModelUri).",
        "s3://my-models/llama-3.1-8b-instruct/",
        pattern=SOURCE_PATTERN,
        form=SOURCE_FORM,
        default=None,
    )
    size_gb: float | None = setting(
        "Size of the artefact; timeouts, memory and serverless fit are derived from it.",
        16.1,
        gt=0,
        le=2000,
        default=None,
    )
    input_token_price: float | None = setting(
        "What callers are charged for a million input tokens, in US dollars; left out, requests have no "
        "known cost (`status` shows what tokens have cost).",
        0.1,
        ge=0,
        default=None,
    )
    output_token_price: float | None = setting(
        "What callers are charged for a million output tokens, in US dollars.", 0.4, ge=0, default=None
    )
    aliases: list[Annotated[str, text(NAME_PATTERN, NAME_FORM)]] = setting(
        "Further names that callers may say.", ["gpt-4o-mini"], default=[], max_length=16
    )
    images: bool = setting(
        "Whether the model reads image parts of messages; engine vllm only.", True, default=False
    )

    @property
    def token_prices(self) -> tuple[float, float] | None:
        """US dollars per million input and output tokens; None where none are set."""
        if self.input_token_price is None or self.output_token_price is None:
            return None
        return self.input_token_price, self.output_token_price

    @model_validator(mode="after")
    def _prices_come_together(self) -> Self:
        if (self.input_token_price is None) != (self.output_token_price is None):
            missing = "input_token_price" if self.input_token_price is None else "output_token_price"
            raise RuleError(
                missing,
                what="Only one of the two token prices is set.",
                why="Half a price would make the other tokens free without anybody having said so.",
                change="both prices; 0 where these tokens are free",
                example=0.0,
            )
        return self
