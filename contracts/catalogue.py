"""The models of one environment: what callers may put into `model`, and where each of them runs.

Two sources, read by the functions that answer callers. The variable `MODELS` holds a JSON list of
`ModelEntry`, written by the settings. The access table's item `CATALOGUE#<endpoint name>` holds another such
list, as text in the attribute `entries`: it is written by an operator, takes effect within
`contracts.routing.ROUTING_CACHE_SECONDS` and without a deployment, and wins over an entry of the same name.
The environment's own model (variables `ENDPOINT_NAME`, `MODEL_NAME`, `MODEL_VERSION`) is in the catalogue
even where neither source names it.

The functions may read the secrets that the settings name, and call the endpoints and Bedrock models of the
settings: an operator's entry that needs another has to be deployed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from contracts.guards import GuardSettings
from contracts.targets import Target, TargetByKind

ModelKind = Literal["chat", "embedding", "rerank", "classification"]
"""What a model is for. `chat` also continues text (`/v1/completions`)."""

MODELS_VARIABLE = "MODELS"
ENTRIES_ATTRIBUTE = "entries"
OWNER = "evergreen"
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}$")]
MOST_ENTRIES = 64


class Capabilities(BaseModel):
    """What a chat model takes beside text. What it does not declare is refused before it is called."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: bool = False
    tools: bool = True
    structured_output: bool = True


class ModelLimits(BaseModel):
    """What is known of a model's size: shown to callers, and enforced by whoever runs the model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_context_tokens: int | None = Field(default=None, ge=1)
    max_output_tokens: int | None = Field(default=None, ge=1)


class ModelPrice(BaseModel):
    """US dollars per million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: float = Field(ge=0)
    output: float = Field(default=0, ge=0)


class ModelEntry(BaseModel):
    """One model.

    `kind` None: whatever its container does, as with an environment's only model. `guards` None: the
    environment's; `price` None: its too on its own endpoint, else unknown. `fallbacks` are asked, in order,
    while the target cannot answer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ModelName
    target: TargetByKind
    kind: ModelKind | None = "chat"
    aliases: tuple[ModelName, ...] = Field(default=(), max_length=16)
    owner: str = Field(default=OWNER, min_length=1, max_length=64)
    capabilities: Capabilities = Capabilities()
    limits: ModelLimits = ModelLimits()
    price: ModelPrice | None = None
    guards: GuardSettings | None = None
    fallbacks: tuple[TargetByKind, ...] = Field(default=(), max_length=8)

    @property
    def targets(self) -> tuple[Target, ...]:
        """Its own and its fallbacks."""
        return (self.target, *self.fallbacks)

    @property
    def measured_as(self) -> str:
        """The metrics' dimension `endpoint`: the endpoint's name, or the model's where none is ours."""
        return self.target.endpoint_name if self.target.kind == "endpoint" else self.name

    @model_validator(mode="after")
    def _bedrock_knows_chat_only(self) -> ModelEntry:
        if self.target.kind == "bedrock" and self.kind != "chat":
            raise ValueError(f"'{self.name}': a model in Amazon Bedrock can only be of kind chat")
        return self


class ModelCard(BaseModel):
    """One entry of `GET /v1/models`: OpenAI's fields, and what the catalogue says beside them.

    An alias has a card of its own, with `alias_of`. `created` is unknown here and therefore 0.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = OWNER
    kind: ModelKind | None = None
    aliases: list[str] | None = None
    alias_of: str | None = None
    capabilities: Capabilities | None = None
    limits: ModelLimits | None = None


class ModelList(BaseModel):
    """Reply of `GET /v1/models`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    object: Literal["list"] = "list"
    data: list[ModelCard]


def cards(entry: ModelEntry) -> list[ModelCard]:
    """The cards of a model: its own, then one for each alias."""
    own = ModelCard(
        id=entry.name,
        created=0,
        owned_by=entry.owner,
        kind=entry.kind,
        aliases=list(entry.aliases) or None,
        capabilities=entry.capabilities if entry.kind in (None, "chat") else None,
        limits=None if entry.limits == ModelLimits() else entry.limits,
    )
    changes = {"aliases": None, "alias_of": entry.name}
    return [own, *(own.model_copy(update={"id": alias, **changes}) for alias in entry.aliases)]


_ENTRIES = TypeAdapter(Annotated[list[ModelEntry], Field(max_length=MOST_ENTRIES)])


def read_entries(text: str) -> list[ModelEntry]:
    """The entries of a JSON list. Raises pydantic's ValidationError."""
    return _ENTRIES.validate_json(text)


def write_entries(entries: Iterable[ModelEntry]) -> str:
    """The inverse of `read_entries`, without what an entry leaves at its default."""
    return _ENTRIES.dump_json(list(entries), exclude_defaults=True).decode()


class Catalogue:
    """The entries by name and alias. Raises ValueError where two would answer to one name."""

    def __init__(self, entries: Iterable[ModelEntry]) -> None:
        self.entries = tuple(entries)
        self._by_name: dict[str, ModelEntry] = {}
        for entry in self.entries:
            for name in (entry.name, *entry.aliases):
                other = self._by_name.setdefault(name, entry)
                if other is not entry:
                    raise ValueError(f"two models answer to '{name}': {other.name} and {entry.name}")

    def find(self, name: str) -> ModelEntry | None:
        """The model of that name or alias; None where there is none."""
        return self._by_name.get(name)

    def overlaid(self, entries: Iterable[ModelEntry]) -> Catalogue:
        """With these entries beside its own; those of the same name replace them. Raises ValueError."""
        added = {entry.name: entry for entry in entries}
        kept = [added.pop(entry.name, entry) for entry in self.entries]
        return Catalogue([*kept, *added.values()])

    @classmethod
    def of_environment(cls, own: ModelEntry, entries: Iterable[ModelEntry]) -> Catalogue:
        """The environment's own model first, unless `entries` describe it. Raises ValueError."""
        listed = list(entries)
        return cls(listed if any(entry.name == own.name for entry in listed) else [own, *listed])


def catalogue_pk(endpoint_name: str) -> str:
    """The access table's key of an environment's catalogue, by the name of its own endpoint."""
    return f"CATALOGUE#{endpoint_name}"
