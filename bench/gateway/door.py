"""The deployed front door with the stub behind it: a laptop cloud of its own, brought up by the usual
command.

Only one thing differs from `make up`: the function's own SageMaker address, set as a person would by
`UpdateFunctionConfiguration`. So the whole path is measured, API Gateway's and the authorizer's share
included.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from bench.gateway.asking import Target
from bench.gateway.processes import descendants, free_port

REPOSITORY = Path(__file__).resolve().parents[2]
HOME = REPOSITORY / ".evergreen" / "bench"
SETTLE_SECONDS = 8.0
"""The emulator saves its state a few seconds after the last change, and answers nobody meanwhile."""
INFERENCE, AUTHORIZER = "lambdas.inference.handler.handler", "lambdas.authorizer.handler.handler"


@dataclass(frozen=True)
class Door:
    """A front door that is up. `cloud` is the emulator's process id."""

    target: Target
    cloud: int

    def functions(self) -> list[int]:
        """The processes that do the door's work on AWS too: those of the two functions."""
        found = []
        for pid in descendants(self.cloud):
            try:
                variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            if {f"_HANDLER={name}".encode() for name in (INFERENCE, AUTHORIZER)} & set(variables):
                found.append(pid)
        return found


@contextmanager
def open_door(stub_url: str) -> Iterator[Door]:
    """A front door whose model is the stub; forgotten at the end."""
    port = free_port()
    environment = os.environ | {"EVERGREEN_HOME": str(HOME), "EVERGREEN_PORT": str(port)}

    def local(*words: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "local", *words],
            cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=900,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"python -m local {' '.join(words)}:\n{done.stdout}{done.stderr}")

    local("clean")
    try:
        local("up", "--tiny")
        outputs = json.loads((HOME / "outputs.json").read_text())
        model = _model(outputs)
        _point(outputs, stub_url)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_evergreen/health", timeout=30) as health:
            pid = int(json.load(health)["pid"])
        url = f"{outputs['api_url']}/chat/completions"
        time.sleep(SETTLE_SECONDS)
        yield Door(Target(url, model, outputs["api_key"]), pid)
    finally:
        local("clean")


def _model(outputs: dict[str, Any]) -> str:
    asked = urllib.request.Request(  # noqa: S310 - our own address
        f"{outputs['api_url']}/models", headers={"Authorization": f"Bearer {outputs['api_key']}"}
    )
    with urllib.request.urlopen(asked, timeout=60) as reply:  # noqa: S310
        return str(json.load(reply)["data"][0]["id"])


def _point(outputs: dict[str, Any], stub_url: str) -> None:
    """Let the inference function call the stub instead of SageMaker."""
    functions = boto3.client(
        "lambda",
        endpoint_url=outputs["aws_endpoint_url"],
        region_name=outputs["region"],
        aws_access_key_id=outputs["account"],
        aws_secret_access_key="laptop",  # noqa: S106 - the emulator's root
    )
    (function,) = [f for f in functions.list_functions()["Functions"] if f.get("Handler") == INFERENCE]
    variables = function["Environment"]["Variables"] | {"AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": stub_url}
    functions.update_function_configuration(
        FunctionName=function["FunctionName"], Environment={"Variables": variables}
    )
    functions.get_waiter("function_updated_v2").wait(
        FunctionName=function["FunctionName"], WaiterConfig={"Delay": 1}
    )
