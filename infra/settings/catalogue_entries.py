"""The settings' models as the functions read them (`contracts.catalogue`). Knows nothing of CDK."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, Self

from contracts.catalogue import Capabilities, ModelEntry, ModelLimits, ModelPrice, write_entries
from contracts.guards import GuardSettings
from contracts.targets import BedrockTarget, EndpointTarget, OpenAITarget, Target
from infra.settings import catalogue_rules
from infra.settings.catalogue import AdapterModel, BedrockModel, EndpointModel, HostedModel, OpenAIModel
from infra.settings.components import ScaleToZeroEndpoint
from infra.settings.endpoint import AnyEndpoint, ServerlessEndpoint
from infra.settings.fallback import Fallback
from infra.settings.guards import GuardrailSettings
from infra.settings.model import Model

_LONGEST_VERSION = 63
Versions = Callable[[str], str]
"""The version of what serves, by the name of its parameter: see `version_parameter` of Settings."""


class CatalogueSettings(Protocol):
    """What the catalogue is made of: `Settings`, which build on this module."""

    @property
    def model(self) -> Model: ...
    @property
    def endpoint(self) -> AnyEndpoint: ...
    @property
    def models(self) -> Sequence[EndpointModel | AdapterModel | HostedModel]: ...
    @property
    def guards(self) -> GuardrailSettings: ...
    @property
    def fallback_chain(self) -> Sequence[Fallback]: ...
    @property
    def endpoint_name(self) -> str: ...
    @property
    def component_names(self) -> Sequence[str]: ...
    @property
    def version_parameter(self) -> str: ...
    def of_model(self, entry: EndpointModel) -> Self:
        """The settings of a further model's endpoint."""

    def adapter_component(self, adapter: AdapterModel) -> str | None:
        """An adapter's component, where it is one."""

    def adapter_version_parameter(self, adapter: AdapterModel) -> str:
        """The SSM parameter of a component's version."""


def entries(settings: CatalogueSettings, version: Versions) -> list[ModelEntry]:
    """The environment's own model first, then adapters of its endpoint, then `models` in their order.

    `version` gives a version, which may be a CloudFormation token, by the name of the SSM parameter that
    holds it.
    """
    own = [_own(settings, version)]
    for adapter, component in zip(_endpoint_adapters(settings), settings.component_names[1:], strict=False):
        target = _target(settings, version(settings.version_parameter), component=component)
        own.append(ModelEntry(name=adapter, target=target))
    return own + [_entry(settings, entry, version) for entry in settings.models]


def check_variables(settings: CatalogueSettings) -> None:
    """What the settings say as JSON fits into the functions' variables. Raises RuleError."""
    guards = settings.guards.for_functions()
    catalogue_rules.check_variables(
        len(write_entries(entries(settings, lambda _: "v" * _LONGEST_VERSION)).encode()),
        len(guards.model_dump_json(exclude_defaults=True).encode()) if guards else 0,
        sum(len(target.model_dump_json(exclude_none=True).encode()) for target in settings.fallback_chain),
    )


def _endpoint_adapters(settings: CatalogueSettings) -> list[str]:
    spec = settings.endpoint
    return [adapter.name for adapter in spec.adapters] if isinstance(spec, ScaleToZeroEndpoint) else []


def _own(settings: CatalogueSettings, version: Versions) -> ModelEntry:
    model, names = settings.model, settings.component_names
    given: dict[str, object] = {}
    if model.aliases:
        given["aliases"] = tuple(model.aliases)
    if model.images:
        given["capabilities"] = Capabilities(images=True)
    return ModelEntry(
        name=model.name,
        target=_target(settings, version(settings.version_parameter), component=names[0] if names else None),
        limits=_limits(settings),
        **given,
    )


def _entry(
    settings: CatalogueSettings, entry: EndpointModel | AdapterModel | HostedModel, version: Versions
) -> ModelEntry:
    given: dict[str, object] = {}
    if isinstance(entry, EndpointModel):
        given["limits"] = _limits(settings.of_model(entry))
    elif isinstance(entry, BedrockModel | OpenAIModel):
        given["owner"] = "amazon-bedrock" if isinstance(entry, BedrockModel) else _host(entry)
        limits = {
            "max_context_tokens": entry.max_context_tokens,
            "max_output_tokens": entry.max_output_tokens,
        }
        if any(limits.values()):
            given["limits"] = ModelLimits(**{key: value for key, value in limits.items() if value})
    if entry.task != "chat":
        given["kind"] = entry.task
    if entry.aliases:
        given["aliases"] = tuple(entry.aliases)
    if entry.images:
        given["capabilities"] = Capabilities(images=True)
    if entry.input_token_price is not None:
        given["price"] = _price(entry.input_token_price, entry.output_token_price)
    if entry.guards is not None:
        given["guards"] = entry.guards.for_functions() or GuardSettings()
    return ModelEntry(name=entry.name, target=_where(settings, entry, version), **given)


def _where(
    settings: CatalogueSettings, entry: EndpointModel | AdapterModel | HostedModel, version: Versions
) -> Target:
    if isinstance(entry, EndpointModel):
        there = settings.of_model(entry)
        names = there.component_names
        return _target(there, version(there.version_parameter), component=names[0] if names else None)
    if isinstance(entry, AdapterModel):
        component = settings.adapter_component(entry)
        if component is None:  # a folder of the base's artefact, and so of its version
            return _target(settings, version(settings.version_parameter), adapter=entry.name)
        return _target(settings, version(settings.adapter_version_parameter(entry)), component=component)
    if isinstance(entry, BedrockModel):
        return BedrockTarget(kind="bedrock", model_id=entry.model_id, **_without_none(region=entry.region))
    return OpenAITarget(
        kind="openai", base_url=entry.base_url, model=entry.model, **_without_none(secret=entry.secret)
    )


def _target(
    settings: CatalogueSettings, version: str, *, component: str | None = None, adapter: str | None = None
) -> EndpointTarget:
    whole = {"streamed": False} if isinstance(settings.endpoint, ServerlessEndpoint) else {}
    return EndpointTarget(
        kind="endpoint",
        endpoint_name=settings.endpoint_name,
        model_version=version,
        **_without_none(component=component, adapter=adapter),
        **whole,
    )


def _limits(settings: CatalogueSettings) -> ModelLimits:
    return ModelLimits(max_context_tokens=settings.endpoint.engine.max_context_tokens)


def _price(given: float, output: float | None) -> ModelPrice:
    """Only what writes no tokens may have no price for them."""
    return ModelPrice(input=given) if output is None else ModelPrice(input=given, output=output)


def _host(entry: OpenAIModel) -> str:
    return entry.base_url.split("/")[2][:64]


def _without_none(**values: str | None) -> dict[str, str]:
    return {key: value for key, value in values.items() if value is not None}
