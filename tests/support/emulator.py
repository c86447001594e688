"""An emulator of a test's own: another port, another home, nothing deployed in it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from tests.support.laptop import REPOSITORY, free_port

ACCOUNT = "123456789012"
REGION = "us-east-1"
VENVS = Path(os.environ.get("EVERGREEN_VENVS", REPOSITORY / ".evergreen" / "venvs"))
START_SECONDS = 120
STOP_SECONDS = 120


@dataclass
class OwnEmulator:
    """`python -m local.cloud` as a child process."""

    home: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> dict[str, Any]:
        """Start it and wait until it is ready; what its health says."""
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "out").open("ab") as out:
            self.process = subprocess.Popen(
                [VENVS / "cloud" / "bin" / "python", "-m", "local.cloud", *self.arguments()],
                cwd=REPOSITORY,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, (self.home / "out").read_text()
            try:
                with urllib.request.urlopen(f"{self.url}/_evergreen/health", timeout=10) as reply:
                    return dict(json.load(reply))
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.1)
        raise AssertionError((self.home / "out").read_text())

    def stop(self) -> int:
        """End it as `make down` does; its exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout=STOP_SECONDS)

    def kill(self) -> None:
        """End it as a crash does: its children stay behind."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(timeout=STOP_SECONDS)

    def arguments(self) -> list[str]:
        """The command line after the module."""
        return ["--home", str(self.home), "--port", str(self.port), "--venvs", str(VENVS)]

    @property
    def url(self) -> str:
        """What goes into `AWS_ENDPOINT_URL`."""
        return f"http://127.0.0.1:{self.port}"

    def client(self, service: str, **credentials: str) -> Any:
        """A boto3 client, as the operator unless other credentials are given. One attempt per call."""
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            config=Config(retries={"total_max_attempts": 1}, read_timeout=120),
            **({"aws_access_key_id": ACCOUNT, "aws_secret_access_key": "laptop"} | credentials),
        )

    def make_role(self, name: str, service: str, *statements: dict[str, Any]) -> str:
        """A role that a service may assume, with an inline policy of these statements; its ARN."""
        iam = self.client("iam")
        trust = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
        arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=policy(trust))["Role"]["Arn"]
        if statements:
            iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=policy(*statements))
        return str(arn)

    def make_function(self, name: str, role: str, files: dict[str, str], **settings: Any) -> str:
        """A function of these files, ready to be invoked; its ARN. Files whose name has no dot are
        executable."""
        functions = self.client("lambda")
        arn = functions.create_function(
            FunctionName=name,
            Role=role,
            Code={"ZipFile": bundle(files)},
            **({"Runtime": "python3.11", "Handler": "app.handler", "Timeout": 60} | settings),
        )["FunctionArn"]
        functions.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
        return str(arn)


def policy(*statements: dict[str, Any]) -> str:
    """A policy document."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(action: str, resource: str = "*") -> dict[str, Any]:
    """A statement."""
    return {"Effect": "Allow", "Action": action, "Resource": resource}


def bundle(files: dict[str, str]) -> bytes:
    """A ZIP of text files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o644 if "." in name else 0o755) << 16
            archive.writestr(entry, text)
    return buffer.getvalue()
