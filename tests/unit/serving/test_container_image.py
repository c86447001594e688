"""The Dockerfile keeps SageMaker's contract, and every variable of the container has somebody who sets it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from contracts import container
from model_code.serving.settings import read_settings, variable_of

ROOT = Path(__file__).parents[3]
DOCKERFILE = ROOT / "model_code" / "Dockerfile"
OURS = {name: value for name, value in vars(container).items() if name.startswith("ENV_")}


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order, continued lines joined."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    text = re.sub(r"\\\n", " ", "\n".join(lines))
    return [
        (word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)
    ]


def of(kind: str) -> list[str]:
    return [rest for word, rest in instructions() if word == kind]


def test_every_copied_source_exists_and_is_in_the_build() -> None:
    included = {
        line.removeprefix("!")
        for line in (ROOT / "model_code" / "Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    stages = {rest.split(" AS ")[1] for rest in of("FROM")}
    copied = 0
    for rest in of("COPY"):
        words = rest.split()
        if words[0].startswith("--from="):
            assert words[0].removeprefix("--from=") in stages
            continue
        for source in words[:-1]:
            copied += 1
            assert (ROOT / source).exists(), source
            assert source.split("/")[0] in included, source
    assert copied >= 4


def test_the_base_is_an_argument_and_every_stage_stands_on_it() -> None:
    first = instructions()[0]
    assert first[0] == "ARG"
    assert first[1].startswith("BASE=")
    bases = dict(rest.split(" AS ")[::-1] for rest in of("FROM"))
    assert bases.pop("python") == "${BASE}"
    assert set(bases.values()) == {"python"}


def test_it_runs_as_root_without_a_shell_and_needs_no_network() -> None:
    assert not of("USER")  # SageMaker runs containers as root
    assert not of("CMD")
    assert json.loads(of("ENTRYPOINT")[-1]) == ["python", "-m", "model_code.serving"]
    assert "HF_HUB_OFFLINE=1" in of("ENV")[0]


def test_the_entry_point_takes_no_notice_of_the_word_serve(tmp_path: Path) -> None:
    words = json.loads(of("ENTRYPOINT")[-1])
    done = subprocess.run(
        [sys.executable, *words[1:], "serve"],
        cwd=ROOT,
        env={**os.environ, "EVERGREEN_MAX_RUNNING_REQUESTS": "none", "SM_MODEL_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    # It came as far as its settings, and named the variable that is wrong.
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["message"].startswith("EVERGREEN_MAX_RUNNING_REQUESTS:")


def test_the_container_reads_every_variable_there_is() -> None:
    read = {variable_of(field) for field in type(read_settings({})).model_fields}
    assert set(OURS.values()) - read == set()


@pytest.mark.parametrize("field", sorted(type(read_settings({})).model_fields))
def test_every_setting_comes_from_a_variable(field: str) -> None:
    assert variable_of(field)
