"""Reads a synthesized template the way rules need it: resources by type, both branches of every condition.

Pure: takes and gives plain JSON values.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

Template = dict[str, Any]
_NO_VALUE = {"Ref": "AWS::NoValue"}


def resources(template: Template, *types: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Logical id and properties of each resource of the types."""
    for logical_id, resource in template.get("Resources", {}).items():
        if resource["Type"] in types:
            yield logical_id, resource.get("Properties", {})


def branches(value: Any) -> list[Any]:
    """Every value that `value` may become: `Fn::If` opened on both sides, `AWS::NoValue` left out."""
    if isinstance(value, dict) and set(value) == {"Fn::If"}:
        _, yes, no = value["Fn::If"]
        return branches(yes) + branches(no)
    return [] if value is None or value == {"Ref": "AWS::NoValue"} else [value]


def items(value: Any) -> list[Any]:
    """The elements of a list where the list or its elements may be under `Fn::If`."""
    return [item for choice in branches(value) for entry in choice for item in branches(entry)]


def variant_types(variant: Any) -> list[str]:
    """The machines a variant may run on, in order of preference; none for a serverless one."""
    pools = [pool["InstanceType"] for pool in variant.get("InstancePools", [])]
    return pools or ([variant["InstanceType"]] if "InstanceType" in variant else [])


def parameter_combinations(template: Template) -> Iterator[Template]:
    """The template as it would be under every combination of its parameters' allowed values.

    Conditions are decided and `Fn::If` is opened; other intrinsic functions stay. Parameters without allowed
    values hold their default.
    """
    parameters = template.get("Parameters", {})
    choices = {name: p.get("AllowedValues") or [p.get("Default", "")] for name, p in parameters.items()}
    for values in itertools.product(*choices.values()):
        given = dict(zip(choices, values, strict=True))
        conditions = template.get("Conditions", {})
        yield {
            **template,
            "Resources": {
                name: _opened(resource, conditions, given)
                for name, resource in template.get("Resources", {}).items()
                if "Condition" not in resource
                or holds({"Condition": resource["Condition"]}, conditions, given)
            },
        }


def _opened(value: Any, conditions: Template, given: Template) -> Any:
    if isinstance(value, dict):
        if set(value) == {"Fn::If"}:
            name, yes, no = value["Fn::If"]
            return _opened(yes if holds({"Condition": name}, conditions, given) else no, conditions, given)
        opened = {key: _opened(entry, conditions, given) for key, entry in value.items()}
        return {key: entry for key, entry in opened.items() if entry != _NO_VALUE}
    if isinstance(value, list):
        return [entry for item in value if (entry := _opened(item, conditions, given)) != _NO_VALUE]
    return value


def holds(condition: Any, conditions: Template, given: Template) -> bool:
    """Whether a condition holds under these parameter values; one that is not understood does not."""
    match condition:
        case {"Condition": name}:
            return holds(conditions.get(name, {}), conditions, given)
        case {"Fn::Not": [one]}:
            return not holds(one, conditions, given)
        case {"Fn::And": several}:
            return all(holds(one, conditions, given) for one in several)
        case {"Fn::Or": several}:
            return any(holds(one, conditions, given) for one in several)
        case {"Fn::Equals": [left, right]}:
            return bool(_value(left, given) == _value(right, given))
    return False


def _value(operand: Any, given: Template) -> Any:
    return given.get(operand["Ref"], operand) if isinstance(operand, dict) and "Ref" in operand else operand


def strings(value: Any) -> list[str]:
    """A string or list of strings as a list; intrinsic functions are left out."""
    entries = value if isinstance(value, list) else [value]
    return [entry for entry in entries if isinstance(entry, str)]
