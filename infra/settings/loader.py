"""Reads `settings/<env>.yaml` into `Settings`, or ends with one clear error.

The error names the file and the line of the key, says what is wrong, what is allowed, and shows an
example. Knows nothing of CDK.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from infra.settings import schema
from infra.settings.base import RuleError
from infra.settings.cost import check_cost
from infra.settings.environment_settings import Settings
from infra.settings.yaml_rules import YamlRuleError, check_aliases, check_nodes, entries

FOLDER = Path(__file__).resolve().parents[2] / "settings"

# Pydantic's own words name classes or a pattern here: what is allowed says it better.
_NO_WORDS = ("string_pattern_mismatch", "model_type", "model_attributes_type", "dict_type", "list_type")


class SettingsError(Exception):
    """A settings file cannot be used; the text is what its author needs to correct it."""


def load(name: str, folder: Path = FOLDER) -> Settings:
    """The settings of environment `name`. Raises SettingsError with file, line, what is allowed, example."""
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.yaml"))) or "none yet"
        raise SettingsError(
            f"{_shown(path)}: there is no such environment.\n"
            f"  allowed: {known}\n  example: cdk synth -c env=dev"
        )
    return _parse(path, name)


def _parse(path: Path, name: str) -> Settings:
    try:
        text = path.read_text(encoding="utf-8")
        check_aliases(text)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if not isinstance(root, yaml.MappingNode):
            raise SettingsError(
                f"{_shown(path)}:1: the file must hold a mapping of sections.\n  allowed: {_sections()}"
            )
        check_nodes(root)
        values = yaml.safe_load(text)
    except YamlRuleError as error:
        raise SettingsError(
            f"{_shown(path)}:{error.line}: {error}\n  allowed: {error.allowed}\n  example: {error.example}"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        problem = getattr(error, "problem", None) or str(error)
        raise SettingsError(
            f"{_shown(path)}:{line}: this is not YAML: {problem}.\n  example: key: value"
        ) from None
    if "name" in values:
        line = _line(root, ["name"])
        raise SettingsError(
            f"{_shown(path)}:{line}: 'name' is the file's own name and not a key.\n  allowed: {_sections()}\n"
            "  example: rename the file to change the environment's name"
        )
    try:
        settings = Settings.model_validate({"name": name, **values})
        check_cost(settings)
    except ValidationError as error:
        found = error.errors()
        # A mistyped key is also a missing one: the key in the file is the better hint.
        first = next((e for e in found if e["type"] == "extra_forbidden"), found[0])
        raise SettingsError(_explain(path, root, first)) from None
    except RuleError as error:
        raise SettingsError(_rule(path, root, error.path, error)) from None
    return settings


def _rule(path: Path, root: yaml.MappingNode, where: Sequence[str], error: RuleError) -> str:
    key = next((part for part in reversed(where) if not part.isdigit()), "")
    example = "remove the line" if error.example is None else f"{key}: {_flow(error.example)}"
    return _message(path, root, where, str(error), error.change, example)


def _explain(path: Path, root: yaml.MappingNode, error: ErrorDetails) -> str:
    where, kinds = _split([str(part) for part in error["loc"]])
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, RuleError):
        return _rule(path, root, [*where, *cause.path], cause)
    model, key = schema.resolve(Settings, where, kinds)
    if error["type"] == "extra_forbidden" or key is None:
        names = [name for name in model.model_fields if model is not Settings or name != "name"]
        close = difflib.get_close_matches(where[-1], names, n=1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        example = _example([*where[:-1], close[0] if close else names[0]], kinds)
        what = f"the key '{'.'.join(where)}' is unknown.{hint}"
        return _message(path, root, where, what, ", ".join(names), example)
    if error["type"] == "missing":
        what = f"the key '{'.'.join(where)}' is missing."
    elif error["type"].startswith("union_tag"):
        where = [*where, "kind"]
        what = f"'{'.'.join(where)}' does not name a known kind."
    elif error["type"] == "string_type" and not where[-1].isdigit() and (written := _written(root, where)):
        what = f"'{'.'.join(where)}' is a text, and {written} without quotes is none."
        return _message(path, root, where, what, f"{key.allowed()}, in quotes", f'{where[-1]}: "{written}"')
    elif error["input"] is None:
        what = f"'{'.'.join(where)}' is empty."
    elif error["type"] in _NO_WORDS:
        what = f"'{'.'.join(where)}' does not fit: it holds {error['input']!r}."
    else:
        what = f"'{'.'.join(where)}' does not fit: {error['msg']}; it holds {error['input']!r}."
    return _message(path, root, where, what, key.allowed(), f"{key.name}: {_flow(key.example)}")


def _message(
    path: Path, root: yaml.MappingNode, where: Sequence[str], what: str, allowed: str, example: str
) -> str:
    return f"{_shown(path)}:{_line(root, where)}: {what}\n  allowed: {allowed}\n  example: {example}"


def _example(where: Sequence[str], kinds: Sequence[str]) -> str:
    _, key = schema.resolve(Settings, where, kinds)
    return f"{key.name}: {_flow(key.example)}" if key else ".".join(where)


def _flow(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=200).strip().removesuffix("\n...")


def _split(loc: Sequence[str]) -> tuple[list[str], list[str]]:
    """Keys of the file, and apart from them the union kinds that pydantic weaves into a location."""
    where: list[str] = []
    kinds: list[str] = []
    kind_follows = False
    for part in loc:
        if part.isdigit():  # a place in a list
            where.append(part)
            continue
        if part.startswith("[") or _is_branch(where, kinds):
            break
        if kind_follows:
            kinds.append(part)
            kind_follows = False
            continue
        where.append(part)
        _, key = schema.resolve(Settings, where, kinds)
        kind_follows = key is not None and len(key.models) > 1
    return where, kinds


def _is_branch(where: Sequence[str], kinds: Sequence[str]) -> bool:
    """Whether what follows is no key, but the type that pydantic tried of several that a value may have."""
    if not where or where[-1].isdigit():
        return False
    _, key = schema.resolve(Settings, where, kinds)
    if key is None or key.models or key.is_list:
        return False
    return not key.is_mapping or key.name != where[-1]


def _line(root: yaml.MappingNode, where: Sequence[str]) -> int:
    """The line of the deepest key along `where` that the file has, from 1."""
    return _place(root, where)[0]


def _written(root: yaml.MappingNode, where: Sequence[str]) -> str:
    """The value at `where` as the file has it, if it is a single one; empty otherwise."""
    node = _place(root, where)[1]
    return str(node.value) if isinstance(node, yaml.ScalarNode) else ""


def _place(root: yaml.MappingNode, where: Sequence[str]) -> tuple[int, yaml.Node]:
    """Line, from 1, and value of the deepest key along `where` that the file has."""
    node: yaml.Node = root
    line = 1
    for name in where:
        if isinstance(node, yaml.SequenceNode) and name.isdigit() and int(name) < len(node.value):
            node = node.value[int(name)]
            line = node.start_mark.line + 1
            continue
        if not isinstance(node, yaml.MappingNode):
            break
        entry = next(((key, value) for key, value in entries(node) if key.value == name), None)
        if entry is None:
            break
        line, node = entry[0].start_mark.line + 1, entry[1]
    return line, node


def _sections() -> str:
    return ", ".join(name for name in Settings.model_fields if name != "name")


def _shown(path: Path) -> str:
    """The path as a person at the repository's root would write it."""
    return str(path.relative_to(FOLDER.parent)) if path.is_relative_to(FOLDER.parent) else str(path)
