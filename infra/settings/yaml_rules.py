"""What YAML allows and a settings file does not: aliases, merges, keys twice, numbers that read otherwise.

Each rule looks at the file's nodes, before any value is read, and raises YamlRuleError with the line. Knows
nothing of the settings' keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import cast

import yaml

# YAML 1.1 reads `15:00` as 900, `010` as 8 and `1_000` as 1000; a later reader of the file hardly does.
_SEXAGESIMAL = re.compile(r"^[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?$")
_OTHER_BASE = re.compile(r"^[-+]?0([0-7_]+|[xXbB][0-9a-fA-F_]+)$")
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


class YamlRuleError(ValueError):
    """A shape that a settings file does not have: the line from 1, what is wrong, allowed and an example."""

    def __init__(self, line: int, what: str, allowed: str, example: str) -> None:
        super().__init__(what)
        self.line = line
        self.allowed = allowed
        self.example = example


def entries(node: yaml.MappingNode) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    """Keys and values of a mapping."""
    return iter(cast(list[tuple[yaml.Node, yaml.Node]], node.value))


def check_aliases(text: str) -> None:
    """A value is written at its key, and not referred to."""
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise YamlRuleError(
                line, f"'*{event.anchor}' refers to another place.", "the value itself", "write the value out"
            )


def check_nodes(node: yaml.Node, key: str = "value") -> None:
    """Keys are single words that stand once, nothing is merged in, and numbers are decimal."""
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
        for name, value in entries(node):
            check_nodes(value, str(name.value))
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            check_nodes(item, key)
    elif isinstance(node, yaml.ScalarNode) and node.tag in _NUMBERS:
        _check_number(node, key)


def _check_keys(node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key, _ in entries(node):
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise YamlRuleError(line, "a key must be one word.", "a name", "key: value")
        if key.tag == "tag:yaml.org,2002:merge":
            raise YamlRuleError(
                line,
                "'<<' merges another mapping in, and whoever reads the file would have to.",
                "the keys themselves",
                "write the keys out",
            )
        if key.value in seen:
            raise YamlRuleError(
                line,
                f"the key '{key.value}' stands here twice.",
                "each key once",
                "keep one of the two lines",
            )
        seen.add(key.value)


def _check_number(node: yaml.ScalarNode, key: str) -> None:
    text = node.value
    if _SEXAGESIMAL.match(text):
        means = f"YAML reads {text} to the base of 60, as {yaml.safe_load(text)}."
    elif _OTHER_BASE.match(text):
        means = f"YAML reads {text} as {yaml.safe_load(text)}."
    else:
        return
    raise YamlRuleError(
        node.start_mark.line + 1,
        f"'{key}: {text}' is not the number that it looks like: {means}",
        "a decimal number; in quotes where a text is meant",
        f'{key}: {yaml.safe_load(text)}, or {key}: "{text}"',
    )
