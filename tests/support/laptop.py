"""A laptop cloud as tests see it, brought up by the very command a person runs (see tests/conftest.py)."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import openai

REPOSITORY = Path(__file__).resolve().parents[2]
SETTLES_WITHIN_SECONDS = 60
EMBEDDING = "all-minilm-l6-v2"
"""The further model of settings/local.yaml: here two random layers."""


@dataclass
class Laptop:
    """A running laptop cloud: its outputs, and clients that use nothing but those."""

    home: Path
    port: int
    environment: dict[str, str]
    outputs: dict[str, Any] = field(default_factory=dict)
    _model: str = field(default="", repr=False)

    def command(self, *words: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        """`python3 -m local …` for this laptop cloud."""
        return subprocess.run(
            [sys.executable, "-m", "local", *words], cwd=REPOSITORY, env=self.environment,
            capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip

    def up(self) -> subprocess.CompletedProcess[str]:
        """Brings it up (again) and reads its outputs."""
        done = self.command("up", "--tiny")
        assert done.returncode == 0, done.stdout + done.stderr
        self.outputs = json.loads((self.home / "outputs.json").read_text())
        return done

    @property
    def api_url(self) -> str:
        return str(self.outputs["api_url"])

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.outputs['api_key']}"}

    @property
    def model(self) -> str:
        """The name that requests ask for; no release changes it, so it is looked up once."""
        self._model = self._model or str(self.openai().models.list().data[0].id)
        return self._model

    def openai(self) -> openai.OpenAI:
        """The official client, given the address and the key and nothing else."""
        return openai.OpenAI(base_url=self.api_url, api_key=self.outputs["api_key"], max_retries=0)

    def aws(self, service: str, **credentials: str) -> Any:
        """A plain boto3 client, as the operator unless other credentials are given."""
        account = self.outputs["account"]
        return boto3.client(
            service,
            endpoint_url=self.outputs["aws_endpoint_url"],
            region_name=self.outputs["region"],
            **({"aws_access_key_id": account, "aws_secret_access_key": "laptop"} | credentials),
        )

    def settled(self, answer_id: str) -> str:
        """Waits until the front door has done all that it does after an answer; returns the answer's id.

        Its last act is the metrics line with the request's id in its log.
        """
        functions = self.aws("lambda").list_functions()["Functions"]
        (group,) = {
            f["LoggingConfig"]["LogGroup"]
            for f in functions
            if f.get("Handler") == "lambdas.inference.handler.handler"
        }
        pattern = f'"{answer_id.removeprefix("chatcmpl-")}"'
        deadline = time.monotonic() + SETTLES_WITHIN_SECONDS
        while time.monotonic() < deadline:
            found = self.aws("logs").filter_log_events(logGroupName=group, filterPattern=pattern)["events"]
            if any('"_aws"' in event["message"] for event in found):
                return answer_id
            time.sleep(0.1)
        raise AssertionError(f"no metrics were logged for {answer_id}")

    def stack_outputs(self, room: str) -> dict[str, str]:
        """One stack's outputs by key."""
        stacks = self.aws("cloudformation").describe_stacks(StackName=f"evergreen-local-{room}")["Stacks"]
        return {o["OutputKey"]: o["OutputValue"] for o in stacks[0]["Outputs"]}


def free_port() -> int:
    """A port that nothing listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
