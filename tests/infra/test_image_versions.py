"""No container is passed a flag that the vLLM in its image does not know: the server would end at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from contracts import container
from infra.constructs.container_environment import container_environment
from infra.settings import load
from infra.settings.images import image_table

EXAMPLES = sorted(path.stem for path in Path(__file__).parents[1].glob("fixtures/settings/*.yaml"))
QUEUE_BOUND = "SM_VLLM_MAX_NUM_QUEUED_REQS"
SINCE = {QUEUE_BOUND: (0, 29, 0)}
"""From vLLM's release notes: what later versions brought."""
ROWS = image_table().images
VLLM = [name for name, image in ROWS.items() if image.engine == "vllm"]


def newer_than(version: str | None) -> set[str]:
    numbers = tuple(int(part) for part in (version or "0.0.0").split("."))
    return {flag for flag, since in SINCE.items() if numbers < since}


@pytest.mark.parametrize("env", ["local", "dev", "staging", "prod", *EXAMPLES])
def test_no_template_passes_a_flag_newer_than_its_image(assembly, env):
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
        assert not each["Environment"].keys() & newer_than(row.engine_version)


@pytest.mark.parametrize("hook", [True, False])
@pytest.mark.parametrize("name", VLLM)
def test_no_row_of_the_table_is_passed_a_newer_flag(name, hook):
    engine = load("prod").endpoint.engine.model_copy(update={"image": name, "hook": hook})

    assert not container_environment(engine, "m", "1", "").keys() & newer_than(ROWS[name].engine_version)


@pytest.mark.parametrize(
    ("version", "bound"),
    [(None, None), ("0.9.2", None), ("0.27.1", None), ("0.29.0", "192"), ("0.32.0", "192"), ("1.0.0", "192")],
)
def test_vllm_bounds_its_queue_where_its_version_can(version, bound):
    engine = load("prod").endpoint.engine
    image = ROWS[engine.image].model_copy(update={"engine_version": version})
    environment = container_environment(engine, "m", "1", "", image=image)

    assert environment.get(QUEUE_BOUND) == bound  # vLLM counts 64 running among its queue
    assert environment[container.ENV_MAX_QUEUED] == "128"  # the hook's bound, whatever vLLM can


def test_the_image_of_prod_holds_the_version_of_its_release_notes():
    assert ROWS["vllm-cuda-2.4"].engine_version == "0.27.1"
