"""Where the spans of requests go. Knows nothing of CDK, files or line numbers."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from contracts import tracing
from contracts.tracing import DEFAULT_RATIO, OtlpTracing, XRayTracing
from infra.settings.base import RuleError, SettingsModel, setting


class _Sampled(SettingsModel):
    """Which requests are traced."""

    sample_ratio: float = setting(
        "Share of the traces that begin here, by trace id; X-Ray's own choices come on top with kind xray.",
        0.05,
        ge=0,
        le=1,
        default=DEFAULT_RATIO,
    )
    parent_based: bool = setting(
        "Whether a caller's `traceparent` decides for its own trace; otherwise the share holds for all.",
        True,
        default=True,
    )


class XRay(_Sampled):
    """X-Ray in the environment's region: its OTLP endpoint, which needs Transaction Search in the account."""

    kind: Literal["xray"] = setting("Where spans go.", "xray")

    def for_functions(self) -> XRayTracing:
        """As the functions read it."""
        return XRayTracing.model_validate(self.model_dump())


class Otlp(_Sampled):
    """A collector of yours that takes OTLP over HTTP as JSON."""

    kind: Literal["otlp"] = setting("Where spans go.", "otlp")
    url: str = setting(
        "The whole address, with https.",
        f"https://collector.example.com{tracing.PATH}",
        min_length=1,
        max_length=512,
    )

    secret: str | None = setting(
        "Name or ARN of the secret in Secrets Manager that the collector asks for, to the letter (for "
        "`authorization` with its scheme: `Bearer …`); left out, none is sent.",
        "evergreen/prod/tracing",
        pattern=tracing.NAME_OF_SECRET,
        form="a secret's name or ARN",
        default=None,
    )
    secret_header: str = setting(
        "The header that carries the secret, in lower case.",
        "authorization",
        pattern=tracing.HEADER_PATTERN,
        form="a header's name in lower case",
        default="authorization",
    )

    def for_functions(self) -> OtlpTracing:
        """As the functions read it."""
        return OtlpTracing.model_validate(self.model_dump())

    @model_validator(mode="after")
    def _is_an_address(self) -> Self:
        try:
            self.for_functions()
        except ValidationError as error:
            raise RuleError(
                "url",
                what=f"'{self.url}' is not an address that spans can be sent to.",
                why=str(error.errors()[0]["msg"]).removeprefix("Value error, ") + ".",
                change="the collector's whole address",
                example=f"https://collector.example.com{tracing.PATH}",
            ) from None
        return self


Tracing = Annotated[XRay | Otlp, Field(discriminator="kind")]


def check_tracing(target: XRay | Otlp | None, *, laptop: bool) -> None:
    """Raises RuleError from the file's root."""
    if laptop and isinstance(target, XRay):
        raise RuleError(
            "tracing",
            "kind",
            what="The laptop has no X-Ray.",
            why="Its spans would be lost, one metric for each request.",
            change="a collector on this machine",
            example={"kind": "otlp", "url": f"http://127.0.0.1:4318{tracing.PATH}"},
        )
