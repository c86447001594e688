"""No container is passed a flag or a name that the vLLM in its image does not take: its server would end."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from contracts import container
from infra.constructs.container_environment import container_environment
from infra.settings import SettingsError, load
from infra.settings.engine import VllmSettings
from infra.settings.engine_versions import engine_versions
from infra.settings.images import Image, image_table
from infra.settings.loader import FOLDER
from tests.support.peers import REQUIREMENTS, pinned_version

EXAMPLES = sorted(path.stem for path in Path(__file__).parents[1].glob("fixtures/settings/*.yaml"))
QUEUE_BOUND = "SM_VLLM_MAX_NUM_QUEUED_REQS"
ROWS = image_table().images
VLLM = {name: image for name, image in ROWS.items() if image.engine == "vllm"}
OLD = "0.27.1"


def flags_in(environment: dict[str, str]) -> set[str]:
    """As the image's entry point writes them."""
    named = [name.removeprefix("SM_VLLM_") for name in environment if name.startswith("SM_VLLM_")]
    return {name.lower().replace("_", "-") for name in named}


def everything_on() -> VllmSettings:
    """An engine with each key in use that makes a flag."""
    engine = load("prod").endpoint.engine
    assert isinstance(engine, VllmSettings)
    changes = {"max_adapters": 3, "quantization": "fp8", "tool_call_parser": "hermes"}
    return engine.model_copy(update=changes)


@pytest.mark.parametrize("env", ["local", "dev", "staging", "prod", *EXAMPLES])
def test_no_template_passes_a_flag_that_its_image_lacks(assembly, env):
    rows = {f"{image.repository}:{image.tag}": image for image in ROWS.values()}
    containers = [
        resource["Properties"]["PrimaryContainer"]
        for path in assembly(env).glob("*.template.json")
        for resource in json.loads(path.read_text())["Resources"].values()
        if resource["Type"] == "AWS::SageMaker::Model"
    ]

    assert containers
    for each in containers:
        row = rows[each["Image"].split("/", 1)[1]]
        if row.engine == "vllm":
            assert flags_in(each["Environment"]) <= engine_versions()[row.engine_version].flags
        else:
            assert not flags_in(each["Environment"])


@pytest.mark.parametrize("version", engine_versions())
def test_every_flag_of_the_settings_is_one_of_the_version(version):
    engine = everything_on()
    image = ROWS[engine.image].model_copy(update={"engine_version": version})
    given = flags_in(container_environment(engine, "m", "1", "", image=image))

    assert {"quantization", "tool-call-parser", "max-loras"} < given
    assert given <= engine_versions()[version].flags


@pytest.mark.parametrize(
    ("version", "bound"), [(OLD, None), ("0.28.0", None), ("0.29.0", "192"), ("0.32.0", "192")]
)
def test_vllm_bounds_its_queue_where_its_version_can(version, bound):
    engine = load("prod").endpoint.engine
    image = ROWS[engine.image].model_copy(update={"engine_version": version})
    environment = container_environment(engine, "m", "1", "", image=image)

    assert environment.get(QUEUE_BOUND) == bound  # vLLM counts 64 running among its queue
    assert environment[container.ENV_MAX_QUEUED] == "128"  # the hook's bound, whatever vLLM can


WRONG = {
    "a parser that no version has": (
        OLD, "tool_call_parser: llama3_json", "tool_call_parser: lama3_json",
        "vLLM 0.27.1 has no tool call parser 'lama3_json'. Did you mean 'llama3_json'?",
    ),
    "a parser that came later": (
        OLD, "tool_call_parser: llama3_json", "tool_call_parser: qwen3_json",
        "vLLM 0.27.1 has no tool call parser 'qwen3_json'",
    ),
    "a quantisation that left": (
        "0.32.0", "tool_call_parser: llama3_json", "quantization: bitsandbytes",
        "vLLM 0.32.0 has no quantisation 'bitsandbytes'",
    ),
    "a flag that came later": (
        OLD, "tool_call_parser: llama3_json", "arguments: {max-num-queued-reqs: 8}",
        "vLLM 0.27.1 has no flag 'max-num-queued-reqs'",
    ),
    "a mistyped flag": (
        OLD, "tool_call_parser: llama3_json", "arguments: {max-num-batched-token: 8}",
        "vLLM 0.27.1 has no flag 'max-num-batched-token'. Did you mean 'max-num-batched-tokens'?",
    ),
    "a reasoning parser that no version has": (
        OLD, "tool_call_parser: llama3_json", "arguments: {reasoning-parser: qwen}",
        "vLLM 0.27.1 has no reasoning parser 'qwen'. Did you mean 'qwen3'?",
    ),
    "a flag of another key": (
        OLD, "tool_call_parser: llama3_json", "arguments: {max-model-len: 4096}",
        "The flag 'max-model-len' may not stand here: the key 'max_context_tokens' sets it.",
    ),
    "a flag that hides the server": (
        OLD, "tool_call_parser: llama3_json", "arguments: {port: 9000}",
        "The flag 'port' may not stand here: SageMaker asks at an address of its own.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_the_version_does_not_take_is_refused_with_its_line(case, tmp_path, monkeypatch):
    version, right, wrong, says = WRONG[case]
    image = ROWS["vllm-cuda-2.4"].model_copy(update={"engine_version": version})
    monkeypatch.setitem(ROWS, "vllm-cuda-2.4", image)
    text = (FOLDER / "prod.yaml").read_text().replace(right, wrong)
    (tmp_path / "prod.yaml").write_text(text)
    line = text[: text.index(wrong)].count("\n") + 1

    with pytest.raises(SettingsError) as caught:
        load("prod", tmp_path)

    assert f"prod.yaml:{line}: {says}" in str(caught.value)


def test_arguments_become_flags_as_they_stand(tmp_path):
    text = (FOLDER / "prod.yaml").read_text()
    extra = "arguments: {max-num-batched-tokens: 8192, enable-prefix-caching: true, reasoning-parser: qwen3}"
    (tmp_path / "prod.yaml").write_text(text.replace("tool_call_parser: llama3_json", extra))
    environment = container_environment(load("prod", tmp_path).endpoint.engine, "m", "1", "")

    assert environment["SM_VLLM_MAX_NUM_BATCHED_TOKENS"] == "8192"
    assert environment["SM_VLLM_ENABLE_PREFIX_CACHING"] == "true"  # the entry point passes the flag alone
    assert environment["SM_VLLM_REASONING_PARSER"] == "qwen3"


@pytest.mark.parametrize("name", ROWS)
def test_a_row_names_its_engines_version_and_where_that_stands(name):
    image = ROWS[name]
    pins = (REQUIREMENTS / "serving.txt").read_text() + (REQUIREMENTS / "torch.txt").read_text()
    package = {"transformers": "transformers", "training": "torch"}

    assert image.source
    if image.private:  # built from our own pins
        pin = re.search(rf"^{package[image.engine]}==(\S+)$", pins, re.MULTILINE)
        assert pin
        assert image.engine_version == pin[1]
    elif image.engine != "vllm":  # its tag begins with the version
        assert image.tag.startswith(f"{image.engine_version}-")


def test_a_version_that_is_not_recorded_is_no_row():
    row = ROWS["vllm-cuda-2.4"].model_dump() | {"engine_version": "0.26.0"}

    with pytest.raises(ValueError, match=r"make engine-versions VERSIONS=0\.26\.0"):
        Image.model_validate(row)


def test_the_peers_run_the_version_of_the_pinned_image_and_a_newer_one():
    pinned = {ROWS[load(env).endpoint.engine.image].engine_version for env in ("staging", "prod")}

    assert pinned == {pinned_version(REQUIREMENTS / "peer-vllm-pinned.txt")}
    assert pinned_version(REQUIREMENTS / "peer-vllm.txt") == list(engine_versions())[-1]
    assert pinned < engine_versions().keys()
