"""The models of an environment that have artefacts of their own: where each is stored, and what serves it.

The environment's own model comes first, then further endpoints, then adapters that are components. Hosted
models have no artefact, and an adapter that is a folder of the own model's artefact is brought with that.
"""

from __future__ import annotations

from dataclasses import dataclass

from contracts.catalogue import ModelKind
from infra.settings import Settings
from infra.settings.catalogue import AdapterModel
from infra.settings.endpoint import ServerlessEndpoint
from operations.progress import CommandError
from operations.target import Target


@dataclass(frozen=True)
class ModelPlace:
    """One model.

    Args:
        name: What callers say.
        settings: Of the endpoint that serves it.
        source: Where the settings have it; None where an upload brings it.
        adapter: The entry, for an adapter.
        task: What it is for.
    """

    name: str
    settings: Settings
    source: str | None
    adapter: AdapterModel | None = None
    task: ModelKind = "chat"

    @property
    def is_chat(self) -> bool:
        """Whether it generates texts."""
        return self.task == "chat"

    @property
    def is_own(self) -> bool:
        """Whether it is the environment's own model."""
        return self.adapter is None and self.settings.endpoint_name == self.settings.prefix

    @property
    def packed(self) -> bool:
        """Whether it is stored as one archive rather than file by file."""
        return self.adapter is not None or isinstance(self.settings.endpoint, ServerlessEndpoint)

    @property
    def note(self) -> str:
        """Name of the SSM parameter that says which artefact was uploaded last."""
        inside = f"adapters/{self.adapter.part}/" if self.adapter else ""
        return f"/{self.settings.endpoint_name}/{inside}uploaded-model"

    @property
    def stack(self) -> str:
        """Part of the name of the stack that serves it in the first region."""
        return self.settings.serving_part

    def parameters(self, uri: str, digest: str, version: str) -> dict[str, str]:
        """What the stack's parameters must be for an artefact to be served."""
        if self.adapter:
            start = "Adapter" + "".join(word.title() for word in self.adapter.part.split("-"))
            return {f"{start}Uri": uri, f"{start}Version": version}
        return {"ChampionModelUri": uri, "ChampionModelDigest": digest, "ChampionModelVersion": version}


def places(target: Target) -> list[ModelPlace]:
    """Every model with an artefact of its own."""
    settings = target.settings
    own = ModelPlace(settings.model.name, settings, settings.model.source)
    tasks = {entry.name: entry.task for entry in settings.models}
    further = [
        ModelPlace(there.model.name, there, there.model.source, task=tasks[there.model.name])
        for there in settings.further_endpoints
    ]
    adapters = [ModelPlace(one.name, settings, one.source, one) for one in settings.component_adapters]
    return [own, *further, *adapters]


def place_of(target: Target, name: str | None) -> ModelPlace:
    """The model of a name, or the environment's own. Raises CommandError naming those that there are."""
    known = places(target)
    if name is None:
        return known[0]
    found = next((place for place in known if place.name == name), None)
    if found is not None:
        return found
    hosted = [entry.name for entry in target.settings.models]
    why = "it has no artefact of its own" if name in hosted else "there is no such model"
    raise CommandError(
        f"'{name}' cannot be brought to {target.name}: {why} in settings/{target.name}.yaml. Models with "
        f"artefacts: {', '.join(place.name for place in known)}."
    )
