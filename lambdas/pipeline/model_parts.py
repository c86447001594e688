"""What each model of the catalogue has for itself: calls with their circuit breakers, guards, prices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from contracts.catalogue import ModelEntry
from contracts.usage import Prices
from lambdas.pipeline.answer_guard import GuardAnswer
from lambdas.pipeline.model_calls import Calls, ModelStream
from lambdas.pipeline.prompt_guard import GuardPrompt
from lambdas.pipeline.request import Admission, Response

A = TypeVar("A")


@dataclass(frozen=True)
class ModelParts:
    """The parts of one model. `salt` is what a kept answer depends on beside the request and the version."""

    entry: ModelEntry
    calls: Calls
    guard_prompt: GuardPrompt | None
    guard_answer: GuardAnswer | None
    prices: Prices
    salt: str


class Models:
    """The parts by entry, made when a model is first asked for; an entry that changed gets new ones."""

    def __init__(self, make: Callable[[ModelEntry], ModelParts]) -> None:
        self._make = make
        self._by_name: dict[str, ModelParts] = {}

    def parts(self, entry: ModelEntry) -> ModelParts:
        """Of one entry."""
        parts = self._by_name.get(entry.name)
        if parts is None or (parts.entry is not entry and parts.entry != entry):
            parts = self._by_name[entry.name] = self._make(entry)
        return parts


class CatalogueCalls:
    """Calls to whichever model a request means."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def open(self, admission: Admission, response: Response, read: Callable[[ModelStream], A]) -> A:
        """See Calls.open."""
        return self._models.parts(admission.request.entry).calls.open(admission, response, read)
