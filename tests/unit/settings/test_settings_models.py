"""The shipped files load; machines, images and the reference are what they claim."""

from __future__ import annotations

import datetime
import json
import platform
import re
import sys
from collections.abc import Iterator

import pytest
from pydantic import BaseModel, ValidationError

from infra import settings_reference
from infra.settings import (
    Settings,
    SettingsError,
    image_registries,
    instance_offers,
    instance_types,
    load,
    schema,
)
from infra.settings.images import image_table
from infra.settings.loader import FOLDER


@pytest.mark.parametrize(
    ("env", "engine", "machine"),
    [
        ("local", "transformers", "ml.c7i.2xlarge"),
        ("dev", "vllm", "ml.g6.xlarge"),
        ("staging", "vllm", "ml.g6.xlarge"),
        ("prod", "vllm", "ml.g6e.xlarge"),
    ],
)
def test_the_shipped_environments_load(env, engine, machine):
    endpoint = load(env).endpoint

    assert (endpoint.engine.kind, endpoint.instances.type) == (engine, machine)


def test_staging_rehearses_productions_way():
    staging, prod = load("staging"), load("prod")

    assert staging.endpoint.engine.image == prod.endpoint.engine.image
    assert staging.endpoint.deployment.kind == prod.endpoint.deployment.kind == "canary"
    assert staging.refresh.gate == prod.refresh.gate
    assert staging.goals.ttft_ms == prod.goals.ttft_ms


def test_settings_cannot_be_changed_after_loading():
    with pytest.raises(ValidationError):
        load("prod").goals.ttft_ms = 1


def test_host_means_this_machine():
    functions = load("local").functions

    assert functions.runtime_name == f"python{sys.version_info.major}.{sys.version_info.minor}"
    expected = "arm64" if platform.machine().lower() in ("arm64", "aarch64") else "x86_64"
    assert functions.architecture_name == expected


@pytest.mark.parametrize(
    ("machine", "accelerator", "store", "burstable"),
    [
        ("ml.g6e.xlarge", "gpu", True, False),
        ("ml.p5.48xlarge", "gpu", True, False),
        ("ml.p6-b200.48xlarge", "gpu", True, False),
        ("ml.p3.2xlarge", "gpu", False, False),
        ("ml.inf2.xlarge", "neuron", False, False),
        ("ml.trn1.32xlarge", "neuron", True, False),
        ("ml.c7i.2xlarge", "cpu", False, False),
        ("ml.m5d.large", "cpu", True, False),
        ("ml.t2.medium", "cpu", False, True),
    ],
)
def test_machines_are_known_by_their_family(machine, accelerator, store, burstable):
    assert instance_types.accelerator(machine) == accelerator
    assert instance_types.has_instance_store(machine) is store
    assert instance_types.burstable(machine) is burstable


def test_images_are_pinned_and_dated():
    table = image_table()

    assert table.checked >= datetime.date(2026, 11, 1)
    for image in table.images.values():
        assert image.tag not in ("latest", "")
        assert image.private or any(part.isdigit() for part in image.tag)
        assert image.private or image.registry in table.registries


@pytest.mark.parametrize(
    ("region", "publisher"), [("us-east-1", "763104351884"), ("eu-south-1", "692866216735")]
)
def test_the_publisher_depends_on_the_region(region, publisher):
    uri = image_table().uri("vllm-cuda-2.4", account="111122223333", region=region)

    assert uri == f"{publisher}.dkr.ecr.{region}.amazonaws.com/vllm:server-sagemaker-cuda-v2.4"


def test_an_image_is_published_in_the_regions_that_the_sdk_names():
    table = image_table()

    assert len(table.regions("vllm-cuda-2.4")) > 30
    assert "us-east-1" in table.regions("vllm-neuron-0.4.5")
    assert table.regions("evergreen-serving-cpu") is None
    assert table.uri("evergreen-serving-cpu", account="111122223333", region="cn-north-1").startswith(
        "111122223333.dkr.ecr.cn-north-1.amazonaws.com.cn/"
    )


def test_every_accelerator_has_an_image():
    assert {image.accelerator for image in image_table().images.values()} == {"cpu", "gpu", "neuron"}


def sdk(folder, name, content):
    place = folder / "sagemaker" / "core" / "image_uri_config"
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{name}.json").write_text(json.dumps(content))


def test_registries_are_read_from_the_sdks_newest_versions(tmp_path):
    accounts = {"us-west-2": "2", "us-east-1": "1"}
    old, new = {"registries": {"us-east-1": "0"}}, {"registries": accounts}
    sdk(tmp_path, "vllm-server", {"versions": {"1": old, "2": new}})
    sdk(tmp_path, "huggingface-vllm-neuronx", {"inference": {"versions": {"1": new}}})
    sdk(tmp_path, "huggingface", {"training": {"versions": {"5": {"pytorch2": new, "version_aliases": {}}}}})

    found = image_registries.registries(tmp_path)

    assert found == {name: {"us-east-1": "1", "us-west-2": "2"} for name in ("vllm", "neuron", "training")}


def test_an_sdk_that_is_not_there_is_said(tmp_path, capsys):
    assert image_registries.main([str(tmp_path)]) == 1
    assert "vllm-server.json is missing: install sagemaker-core" in capsys.readouterr().err


def test_families_are_read_by_the_regions_of_their_sizes():
    sizes = {
        "us-east-1": {"enum": ["ml.g5.xlarge", "ml.g5.2xlarge"]},
        "us-west-2": {"enum": ["ml.g5.48xlarge"]},
    }

    found = instance_offers.families({"description": "…", "all": {"enum": ["ml.p3.xlarge"]}, **sizes})

    assert found == {"g5": ["us-east-1", "us-west-2"]}
    assert "us-west-2" in (instance_offers.regions("hosting", "ml.g6e.xlarge") or [])


def test_the_second_regions_machines_run_the_engine_or_the_file_says_so(tmp_path):
    text = (FOLDER / "prod.yaml").read_text()
    text += "failover: { region: us-west-2, instances: { type: ml.c7i.xlarge, min: 1, max: 1 } }\n"
    (tmp_path / "prod.yaml").write_text(text)

    with pytest.raises(SettingsError) as caught:
        load("prod", tmp_path)

    assert f"prod.yaml:{len(text.splitlines())}: Engine 'vllm' does not run on ml.c7i.xlarge." in str(
        caught.value
    )


def test_our_own_image_lies_in_the_deploying_account():
    uri = image_table().uri("evergreen-serving-local", account="111122223333", region="us-east-1")

    assert uri.startswith("111122223333.dkr.ecr.us-east-1.")


def test_evaluation_cuts_answers_where_callers_have_them_cut_unless_the_file_says_another(tmp_path):
    text = (FOLDER / "prod.yaml").read_text()
    (tmp_path / "prod.yaml").write_text(text)
    assert load("prod", tmp_path).evaluation_answer_tokens == 1024

    (tmp_path / "prod.yaml").write_text(text.replace("default_max_tokens: 1024", "default_max_tokens: 900"))
    assert load("prod", tmp_path).evaluation_answer_tokens == 900

    (tmp_path / "prod.yaml").write_text(text.replace("refresh:\n", "refresh:\n  answer_tokens: 300\n"))
    assert load("prod", tmp_path).evaluation_answer_tokens == 300


def test_the_reference_is_current():
    """After a change: `python -m infra.settings_reference > docs/settings.md`."""
    assert (FOLDER.parent / "docs" / "settings.md").read_text() == settings_reference.render()


def test_the_reference_names_every_key_with_its_meaning():
    rows = [line.split(" | ") for line in settings_reference.render().splitlines() if line.startswith("| `")]

    assert len(rows) > 60
    assert all(len(row[-1].strip(" |")) > 5 for row in rows)


def _models(root: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield root
    for key in schema.keys(root):
        for model in {*key.models, *key.item_models}:
            yield from _models(model)


def test_no_whole_number_is_without_bounds():
    """One that is may be larger than what the service, or a 32-bit field of its API, can hold."""
    free = [
        f"{model.__name__}.{key.name}: {key.allowed()}"
        for model in _models(Settings)
        for key in schema.keys(model)
        if "whole number" in key.allowed()
        and not re.search(r"whole number (from|above) .* up to", key.allowed())
        and not key.is_mapping  # words for another program, which has bounds of its own
    ]

    assert free == []
