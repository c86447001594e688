"""`status` and `releases` of the deployed laptop cloud: the commands that an operator runs on AWS."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.support.laptop import REPOSITORY, Laptop


def operate(laptop: Laptop, *words: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "operations", *words, "--env", "local", "--json"],
        cwd=REPOSITORY,
        env=laptop.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_status_tells_what_serves(laptop: Laptop) -> None:
    status = operate(laptop, "status")

    assert {stack["name"] for stack in status["stacks"]} >= {
        f"evergreen-local-{part}" for part in ("data", "serving", "gateway", "monitoring", "refresh")
    }
    [endpoint] = status["endpoints"]
    assert endpoint["name"] == laptop.outputs["endpoint_name"]
    assert endpoint["config_is_the_stacks"] is True
    assert endpoint["variants"][0]["name"] == "champion"
    assert status["keys"] >= 1
    assert status["unread"] == []


def test_releases_tell_the_version_that_serves(laptop: Laptop) -> None:
    serves = operate(laptop, "status")["endpoints"][0]["variants"][0]["model_version"]

    assert operate(laptop, "releases", "list")["serves"] == serves
