"""Writes values into a settings file and leaves everything else as it is: comments, order, blank lines.

YAML libraries lose comments when they write, so keys are replaced where they stand, by their place in the
text.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from infra.settings import SettingsError, load
from operations.progress import CommandError


def shown(values: Mapping[str, Mapping[str, Any]]) -> str:
    """The lines of some sections, as they stand in a file."""
    return "\n".join(
        f"{section}:\n" + "\n".join(f"  {key}: {_scalar(value)}" for key, value in keys.items())
        for section, keys in values.items()
    )


def write_lines(path: Path, values: Mapping[str, Mapping[str, Any]]) -> None:
    """Sets keys of sections in a settings file, and loads it; the file stays as it was where that fails.

    Raises CommandError where a section is missing or not one key a line, or the file is refused.
    """
    before = path.read_text(encoding="utf-8")
    text = before
    for section, keys in values.items():
        for key, value in keys.items():
            text = with_value(text, section, key, value)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    try:
        load(path.stem, path.parent)
    except SettingsError as error:
        path.write_text(before, encoding="utf-8")
        raise CommandError(f"The new lines do not fit the file, which stays as it was: {error}") from None


def with_value(text: str, section: str, key: str, value: Any) -> str:
    """The text with `section.key` set."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    entries = dict(_entries(root)) if isinstance(root, yaml.MappingNode) else {}
    mapping = entries.get(section)
    if not isinstance(mapping, yaml.MappingNode) or mapping.flow_style or not mapping.value:
        raise CommandError(
            f"The settings have no section `{section}` with one key a line: write "
            f"`{section}.{key}: {_scalar(value)}` "
            "by hand."
        )
    found = dict(_entries(mapping)).get(key)
    if found is not None:
        if not isinstance(found, yaml.ScalarNode) or found.style in ("|", ">"):
            raise CommandError(f"`{section}.{key}` is not one value: write {_scalar(value)} there by hand.")
        return text[: found.start_mark.index] + _scalar(value) + text[found.end_mark.index :]
    first, last = mapping.value[0][0], mapping.value[-1][1]
    line_end = text.find(
        "\n", last.end_mark.index if isinstance(last, yaml.ScalarNode) else last.start_mark.index
    )
    if line_end < 0:
        text, line_end = text + "\n", len(text)
    line = f"{' ' * first.start_mark.column}{key}: {_scalar(value)}\n"
    return text[: line_end + 1] + line + text[line_end + 1 :]


def _entries(node: yaml.MappingNode) -> list[tuple[str, yaml.Node]]:
    return [(str(key.value), value) for key, value in node.value]


def _scalar(value: Any) -> str:
    """A value as YAML reads it back: texts that look like another type are quoted."""
    if isinstance(value, str) and yaml.safe_load(value) != value:
        return f'"{value}"'
    return str(value)
