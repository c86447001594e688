"""Reads the settings models back: which key stands at a path, and what it may hold, in words.

Error messages and docs/settings.md both speak through this module, so they cannot disagree.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from infra.settings.base import FORM

_BOUNDS = {
    "ge": "from",
    "gt": "above",
    "le": "up to",
    "lt": "below",
    "pattern": "matching",
    "max_length": "with at most this many characters:",
}
_WORDS: dict[Any, str] = {
    int: "whole number",
    float: "number",
    str: "text",
    bool: "true or false",
    Any: "anything",
}


@dataclass(frozen=True)
class Key:
    """One key of a model: its name and pydantic's description of it."""

    name: str
    field: FieldInfo

    @property
    def required(self) -> bool:
        """Whether the file must hold the key."""
        return self.field.is_required()

    @property
    def example(self) -> Any:
        """The example that its definition carries."""
        return self.field.examples[0] if self.field.examples else None

    @property
    def models(self) -> list[type[BaseModel]]:
        """The models the key may hold, or lists: none for a plain value, several for a choice of kinds."""
        parts = [inner for part in _parts(self.field.annotation) for inner in _elements(part)]
        return [part for part in parts if _is_model(part)]

    @property
    def is_list(self) -> bool:
        """Whether the key holds a list of models rather than one."""
        return any(get_origin(part) is list for part in _parts(self.field.annotation))

    @property
    def is_mapping(self) -> bool:
        """Whether the key holds values under names of the file's own."""
        return any(get_origin(part) is dict for part in _parts(self.field.annotation))

    @property
    def item_models(self) -> list[type[BaseModel]]:
        """The models that a list under the key may hold."""
        lists = [part for part in _parts(self.field.annotation) if get_origin(part) is list]
        return [item for each in lists for item in _parts(get_args(each)[0]) if _is_model(item)]

    def allowed(self) -> str:
        """What the key may hold, in words."""
        kinds = [str(get_args(model.model_fields["kind"].annotation)[0]) for model in self.models_with_kind()]
        mapping = "a list of mappings" if self.is_list else "a mapping"
        if kinds:
            return f"{mapping} whose `kind` is one of {', '.join(kinds)}"
        if self.models:
            return f"{mapping} with the keys " + ", ".join(self.models[0].model_fields)
        if form := _form(self.field):
            return form
        parts = [part for part in _alternatives(self.field.annotation) if part is not type(None)]
        return " or ".join(_describe(part, self.field.metadata) for part in parts)

    def models_with_kind(self) -> list[type[BaseModel]]:
        """The models told apart by `kind`; none where there is no choice."""
        return [model for model in self.models if "kind" in model.model_fields]


def keys(model: type[BaseModel]) -> Iterator[Key]:
    """The keys of one model, in the order of the file."""
    return (Key(name, field) for name, field in model.model_fields.items())


def resolve(
    root: type[BaseModel], path: Sequence[str], kinds: Sequence[str]
) -> tuple[type[BaseModel], Key | None]:
    """The model that holds the last part of `path`, and the key there; None where no such key exists.

    `kinds` names the chosen members of the unions on the way, outermost first. Places in a list, which
    `path` holds as numbers, are passed over.
    """
    chosen = list(kinds)
    model, key = root, None
    for depth, name in enumerate(path):
        if name.isdigit() and key is not None:
            continue
        field = model.model_fields.get(name)
        if field is None:
            return model, None
        key = Key(name, field)
        if depth < len(path) - 1:
            members = key.models
            if not members:
                return model, key
            model = _member(members, chosen)
    return model, key


def _member(members: list[type[BaseModel]], chosen: list[str]) -> type[BaseModel]:
    if len(members) > 1 and chosen:
        kind = chosen.pop(0)
        return next(m for m in members if kind in get_args(m.model_fields["kind"].annotation))
    return members[0]


def _elements(annotation: Any) -> list[Any]:
    """What a list holds; anything else stands for itself."""
    return _parts(get_args(annotation)[0]) if get_origin(annotation) is list else [annotation]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _alternatives(annotation: Any) -> list[Any]:
    """The members of a choice of types, each with its own bounds; anything else stands for itself."""
    if get_origin(annotation) in (Union, types.UnionType):
        return [part for member in get_args(annotation) for part in _alternatives(member)]
    return [annotation]


def _parts(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Annotated:
        return _parts(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [part for member in get_args(annotation) for part in _parts(member)]
    return [annotation]


def _describe(annotation: Any, metadata: Sequence[Any]) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *rules = get_args(annotation)
        if form := next((_form(rule) for rule in rules if isinstance(rule, FieldInfo)), ""):
            return form
        return _describe(inner, _flat(rules))
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(part, metadata) for part in _parts(annotation))
    if origin is Literal:
        return "one of " + ", ".join(str(value) for value in get_args(annotation))
    if origin is list:
        return "a list of " + _describe(get_args(annotation)[0], [])
    if origin is dict:
        return "a mapping of names to " + _describe(get_args(annotation)[1], [])
    if _is_model(annotation):
        return "mappings with the keys " + ", ".join(annotation.model_fields)
    return _WORDS[annotation] + _bounds(metadata)


def _form(field: FieldInfo) -> str:
    """The words that a field has for its pattern; none where it has no pattern, or no words."""
    extra = field.json_schema_extra
    return str(extra.get(FORM, "")) if isinstance(extra, dict) else ""


def _flat(rules: Sequence[Any]) -> list[Any]:
    """The single rules behind pydantic's `Field(...)` in an annotation."""
    return [single for rule in rules for single in (rule.metadata if isinstance(rule, FieldInfo) else [rule])]


def _bounds(metadata: Sequence[Any]) -> str:
    said = [
        f" {word} {getattr(rule, attribute)}"
        for rule in metadata
        for attribute, word in _BOUNDS.items()
        if getattr(rule, attribute, None) is not None
    ]
    return "".join(said)
