"""What a synthesized environment tells CDK: deletion protection, and no warning that would hide another."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.mark.parametrize(("env", "count", "protected"), [("prod", 5, True), ("local", 6, False)])
def test_stacks_that_callers_depend_on_cannot_be_deleted(
    assembly: Callable[[str], Path], env: str, count: int, protected: bool
) -> None:
    manifest = json.loads((assembly(env) / "manifest.json").read_text())
    stacks = [one for one in manifest["artifacts"].values() if one["type"] == "aws:cloudformation:stack"]

    assert len(stacks) == count  # local has one more, of the model for embeddings
    assert {one["properties"].get("terminationProtection", False) for one in stacks} == {protected}


@pytest.mark.parametrize("env", ["local", "staging", "prod", "two-regions", "scale-to-zero", "async"])
def test_synth_warns_of_nothing(assembly: Callable[[str], Path], env: str) -> None:
    found = []
    for one in json.loads((assembly(env) / "manifest.json").read_text())["artifacts"].values():
        more = one.get("additionalMetadataFile")
        metadata = json.loads((assembly(env) / more).read_text()) if more else one.get("metadata", {})
        found += [
            f"{path}: {entry['data']}"
            for path, entries in metadata.items()
            for entry in entries
            if entry["type"] in ("aws:cdk:warning", "aws:cdk:error")
        ]

    assert found == []


def test_every_feature_flag_of_cdk_is_decided(assembly: Callable[[str], Path]) -> None:
    """The command line warns of others at each synth. A new one is `false` in cdk.json: nothing changes."""
    artifacts = json.loads((assembly("local") / "manifest.json").read_text())["artifacts"].values()
    (report,) = [one for one in artifacts if one["type"] == "cdk:feature-flag-report"]

    undecided = [
        name
        for name, flag in report["properties"]["flags"].items()
        if "userValue" not in flag
        and flag.get("unconfiguredBehavesLike", {}).get("v2", False) != flag["recommendedValue"]
    ]
    assert undecided == []
