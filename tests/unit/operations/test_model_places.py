"""The models that have artefacts: which there are, where each is stored, which parameters serve it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from infra.settings import Settings, load
from operations.adapters import adapter_note, check_folders
from operations.artefacts import UploadedModel, regions_of
from operations.deploy import Deployment
from operations.model_places import place_of, places
from operations.progress import CommandError, Steps
from operations.target import Target
from tests.support.synthesis import EXAMPLES
from tests.support.tiny_safetensors import write_safetensors


@pytest.fixture
def target() -> Target:
    account: Any = None
    return Target(load("catalogue", EXAMPLES), account, "", {})


def test_every_model_with_an_artefact_is_a_place(target: Target) -> None:
    found = {place.name: (place.stack, place.packed, place.note) for place in places(target)}

    start = "/evergreen-catalogue"
    assert found == {
        "llama-3.1-8b-instruct": ("serving", False, f"{start}/uploaded-model"),
        "all-minilm-l6-v2": (
            "serving-all-minilm-l6-v2",
            True,
            f"{start}-serving-all-minilm-l6-v2/uploaded-model",
        ),
        "Reranker.V2": ("serving-reranker-v2", False, f"{start}-serving-reranker-v2/uploaded-model"),
        "support": ("serving", True, f"{start}/adapters/support/uploaded-model"),
        "legal-de": ("serving", True, f"{start}/adapters/legal-de/uploaded-model"),
    }
    assert place_of(target, None).is_own
    assert [place.is_own for place in places(target)].count(True) == 1


@pytest.mark.parametrize(
    ("name", "says"),
    [("gpt-oss-20b", "it has no artefact of its own"), ("llama", "there is no such model")],
)
def test_what_cannot_be_brought_is_refused_with_what_can(target: Target, name: str, says: str) -> None:
    with pytest.raises(CommandError, match=f"{says}.*Models with artefacts: .*all-minilm-l6-v2"):
        place_of(target, name)


def test_a_further_model_is_served_in_the_first_region_only() -> None:
    account: Any = None
    two = load("two-regions", EXAMPLES)
    further = load("catalogue", EXAMPLES).models[:1]
    target = Target(two.model_copy(update={"models": further}), account, "", {})

    assert [len(regions_of(target, place)) for place in places(target)] == [2, 1]


def test_a_deploy_releases_further_models_and_adapters_alone(target: Target, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"artifacts": {}}))
    model = UploadedModel(
        name="m", digest="d" * 64, version="m-1", uris={"us-east-1": "s3://b/m/model.tar.gz"}
    )
    releases = [(place_of(target, name), model) for name in ("all-minilm-l6-v2", "legal-de")]

    words = Deployment(target, tmp_path, Steps(tmp_path / "logs"))._parameters(
        releases, replace_champion=False
    )

    assert words[1::2] == [
        "evergreen-catalogue-serving-all-minilm-l6-v2:ChampionModelUri=s3://b/m/model.tar.gz",
        f"evergreen-catalogue-serving-all-minilm-l6-v2:ChampionModelDigest={'d' * 64}",
        "evergreen-catalogue-serving-all-minilm-l6-v2:ChampionModelVersion=m-1",
        "evergreen-catalogue-serving:AdapterLegalDeUri=s3://b/m/model.tar.gz",
        "evergreen-catalogue-serving:AdapterLegalDeVersion=m-1",
    ]


def adapter(folder: Path, **config: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4} | config))
    write_safetensors(folder / "adapter_model.safetensors", {"lora_A.weight": 4})
    return folder


def with_folder_adapter() -> Settings:
    shipped = load("local").model_dump(exclude_unset=True)
    shipped["endpoint"]["engine"]["max_adapters"] = 1
    return Settings.model_validate(
        shipped | {"name": "local", "models": [{"kind": "adapter", "name": "support"}]}
    )


def test_the_artefact_holds_every_adapter_that_the_settings_name(tmp_path: Path) -> None:
    settings = with_folder_adapter()
    with pytest.raises(CommandError, match=re.escape("no adapters/support: put the adapter there")):
        check_folders(tmp_path, settings)

    source = adapter(tmp_path / "source", base_model_name_or_path="/tmp/base")
    place = tmp_path / "adapters" / "support"
    place.mkdir(parents=True)
    for file in source.iterdir():
        (place / file.name).symlink_to(file)
    check_folders(tmp_path, settings)

    name = "base_model_name_or_path"
    assert json.loads((place / "adapter_config.json").read_text())[name] == settings.model.name
    assert json.loads((source / "adapter_config.json").read_text())[name] == "/tmp/base"


def test_what_is_no_adapter_is_refused(tmp_path: Path) -> None:
    assert adapter_note(adapter(tmp_path / "whole")) == "LoRA of rank 4, 1 tensors"
    with pytest.raises(CommandError, match="no LoRA adapter"):
        adapter_note(adapter(tmp_path / "other", peft_type="IA3"))
    (tmp_path / "whole" / "adapter_model.safetensors").unlink()
    with pytest.raises(CommandError, match=r"adapter_model\.safetensors is missing"):
        adapter_note(tmp_path / "whole")
