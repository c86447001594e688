"""A create that failed can be repeated: nothing it leaves behind holds a name that the next one needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

EXAMPLES = sorted(path.stem for path in Path(__file__).parents[1].glob("fixtures/settings/*.yaml"))
NAMED = {
    "prod": {"/aws/sagemaker/Endpoints/evergreen-prod", "/aws/vendedlogs/states/evergreen-prod-refresh"},
    "two-regions": {"/aws/sagemaker/Endpoints/evergreen-two-regions"},
}
"""Log groups whose names services or settings choose."""


def chosen_name(resource: dict[str, Any]) -> Any:
    """The physical name that the template gives a resource; None where CloudFormation makes one up."""
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", resource["Type"]).schema
    given = resource.get("Properties", {})
    names = [given.get(path.split("/")[2]) for path in schema["primaryIdentifier"]]
    return names[0] if len(names) == 1 else None


def kept(folder: Path, policy: str) -> dict[str, Any]:
    """Resources of all templates with one deletion policy, by stack and id, with their chosen names."""
    return {
        f"{path.name}: {logical_id}": chosen_name(resource)
        for path in sorted(folder.glob("*.template.json"))
        for logical_id, resource in json.loads(path.read_text())["Resources"].items()
        if resource.get("DeletionPolicy") == policy
    }


@pytest.mark.parametrize("env", ["local", "dev", "staging", "prod", *EXAMPLES])
def test_a_failed_create_leaves_no_name_behind(assembly, env):
    found = {each: name for each, name in kept(assembly(env), "Retain").items() if name is not None}

    assert found == {}


@pytest.mark.parametrize("env", NAMED)
def test_what_has_a_name_outlives_its_stack_all_the_same(assembly, env):
    names = kept(assembly(env), "RetainExceptOnCreate").values()

    assert NAMED[env] <= {name for name in names if isinstance(name, str)}


def test_the_second_regions_bucket_outlives_its_stack(assembly):
    assert any("Artefacts" in each for each in kept(assembly("two-regions"), "RetainExceptOnCreate"))
