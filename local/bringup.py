"""The part of `make up` that talks to AWS services: model, cloud, bootstrap, deploy, key, first answer.

Runs in the `cloud` environment. Every step looks first whether its work is done, so a second run converges
and a killed run is taken up where it stopped.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from local import chat, emulator
from local.environments import SERVING, node_environment, prepare_environment
from local.home import ACCOUNT, REGION, REPOSITORY, SECRET, Home, write_private
from operations.progress import CommandError, Step, Steps, fail

ENVIRONMENT = "local"
EMBEDDING = "all-minilm-l6-v2"
"""The further model of settings/local.yaml."""
ENDPOINT_SECONDS = 300
DEPLOY_SECONDS = 1800
FIRST_PROMPT = "In one short sentence: what is an evergreen tree?"
Result = TypeVar("Result")


def client(home: Home, service: str) -> Any:
    """A boto3 client of the operator for the laptop cloud."""
    return boto3.client(
        service, endpoint_url=home.url, region_name=REGION, aws_access_key_id=ACCOUNT,
        aws_secret_access_key=SECRET, config=Config(retries={"total_max_attempts": 3}, read_timeout=120),
    )  # fmt: skip


def stack(home: Home, name: str) -> dict[str, Any] | None:
    """A stack's description, or None when it does not exist."""
    try:
        found: dict[str, Any] = client(home, "cloudformation").describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as missing:
        if missing.response["Error"]["Code"] == "ValidationError":
            return None
        raise
    return found


def outputs_of(home: Home, room: str) -> dict[str, str]:
    """The outputs of one of our stacks by key. Raises CommandError when the stack is not there."""
    name = f"evergreen-{ENVIRONMENT}-{room}"
    found = stack(home, name)
    if found is None:
        raise CommandError(f"the stack {name} does not exist: run `make up`.")
    return {o["OutputKey"]: o["OutputValue"] for o in found.get("Outputs", [])}


def up(home: Home, since: float) -> int:
    """Every step after the environments; prints how to use what is running, and the time since `since`."""
    steps = Steps.resumed(home.logs, home.timings)
    with concurrent.futures.ThreadPoolExecutor() as pool:  # neither needs the other, nor the cloud
        preparing = pool.submit(_prepare_serving, home, steps)
        pool.submit(_step, steps, "cdk synth", lambda step: _synth(home, step)).result()
        models = preparing.result()
    with steps.step("cloud") as step:
        emulator.start(home, step)
        _await_endpoint(home)
    steps.save(home.timings)
    if code := _deploy(home, models):
        return code
    steps = Steps.resumed(home.logs, home.timings)
    with steps.step("api key") as step:
        key = _api_key(home, step)
    outputs = _write_outputs(home, key)
    with steps.step("first answer"):
        answer = "".join(chat.stream(outputs["api_url"], key, FIRST_PROMPT, max_tokens=40))
        if not answer.strip():
            raise CommandError(
                f"the deployed model answered with nothing; the cloud's log: {home.cloud / 'emulator.log'}"
            )
    steps.save(home.timings)
    if f"environment {SERVING}" in steps.seconds:
        steps.save(home.timings.with_name("timings-cold.json"))
    _greet(outputs, answer, time.monotonic() - since)
    return 0


def _start_cloud(home: Home) -> int:
    """Only the cloud: an account in which nothing is deployed yet, as operators of AWS meet it."""
    with Steps.resumed(home.logs, home.timings).step("cloud") as step:
        emulator.start(home, step)
    print(
        f"\nThe laptop cloud runs at {home.url}, account {ACCOUNT}.\nNext: make bootstrap ENV={ENVIRONMENT}"
    )
    return 0


def _step(steps: Steps, name: str, work: Callable[[Step], Result]) -> Result:
    with steps.step(name) as step:
        return work(step)


def _prepare_serving(home: Home, steps: Steps) -> dict[str, str]:
    """The folders of the models, by the names in the settings; the environment's own is without one."""
    prepare_environment(home, steps, SERVING)
    own = ["--tiny"] if home.tiny else []
    further = "--tiny-embedding" if home.tiny else "--embedding"
    return {
        "": _step(steps, "model", lambda step: _prepare_model(home, step, *own)),
        EMBEDDING: _step(steps, EMBEDDING, lambda step: _prepare_model(home, step, further)),
    }


def _prepare_model(home: Home, step: Step, *which: str) -> str:
    words: list[str | Path] = [home.python("serving"), "-m", "local.model", "--home", home.root, *which]
    said = step.run(words, cwd=REPOSITORY, capture=True)
    model: dict[str, str] = json.loads(said.strip().splitlines()[-1])
    step.note = model["name"]
    return model["folder"]


def _await_endpoint(home: Home) -> None:
    """Waits for an endpoint from an earlier run: after a restart its processes come back first."""
    sagemaker = client(home, "sagemaker")
    deadline = time.monotonic() + ENDPOINT_SECONDS
    while time.monotonic() < deadline:
        try:
            found = sagemaker.describe_endpoint(EndpointName=f"evergreen-{ENVIRONMENT}")
        except ClientError:
            return  # there is none yet
        if found["EndpointStatus"] in ("InService", "Failed"):
            return
        time.sleep(1)
    raise CommandError(
        f"the endpoint did not settle within {ENDPOINT_SECONDS} s: see {home.cloud / 'emulator.log'}"
    )


def _synth(home: Home, step: Step) -> None:
    """The assembly, by the operator command; only where its sources have changed."""
    words: list[str | Path] = [sys.executable, "-m", "operations", "synth", "--env", ENVIRONMENT]
    environment = home.aws_environment() | {"PATH": node_environment(home)["PATH"]}
    said = step.run(words, cwd=REPOSITORY, env=environment, capture=True)
    step.note = said.strip().splitlines()[-1]


def _deploy(home: Home, models: Mapping[str, str]) -> int:
    """Runs the operator command that deploys to AWS too, which tells of failures; returns its exit code."""
    words: list[str | Path] = [sys.executable, "-m", "operations", "deploy", "--bootstrap", "--quiet"]
    words += ["--env", ENVIRONMENT, "--assembly", home.assembly]
    for name, folder in models.items():
        words += ["--model", f"{name}={folder}" if name else folder]
    words += ["--logs", home.logs, "--timings", home.timings]
    environment = home.aws_environment() | {"PATH": node_environment(home)["PATH"]}
    return subprocess.run(
        words, cwd=REPOSITORY, env=environment, timeout=DEPLOY_SECONDS, check=False
    ).returncode


def _api_key(home: Home, step: Step) -> str:
    """The laptop's key: made once, and registered again when the cloud has forgotten it."""
    kept = home.root / "key.json"
    words = [sys.executable, "-m", "operations", "key", "create", "--env", ENVIRONMENT]
    words += ["--tenant", "demo", "--name", "laptop", "--json"]
    if kept.exists():
        words += ["--key-file", str(kept)]
        step.note = "kept"
    key: dict[str, str] = json.loads(
        step.run(words, cwd=REPOSITORY, env=home.aws_environment(), capture=True)
    )
    write_private(kept, json.dumps(key) + "\n")
    return key["api_key"]


def _write_outputs(home: Home, key: str) -> dict[str, Any]:
    gateway, serving = outputs_of(home, "gateway"), outputs_of(home, "serving")
    outputs = {
        "api_url": f"{home.url}/_aws/execute-api/{gateway['RestApiId']}/{gateway['StageName']}/v1",
        "api_key": key,
        "console_url": f"{home.url}/_evergreen/console",
        "endpoint_name": serving["EndpointName"],
        "sagemaker_runtime_url": home.url,
        "aws_endpoint_url": home.url,
        "region": REGION,
        "account": ACCOUNT,
        "refresh_state_machine_arn": outputs_of(home, "refresh")["StateMachineArn"],
        "dashboards": [outputs_of(home, "monitoring")["DashboardName"]],
    }
    write_private(home.outputs, json.dumps(outputs, indent=2) + "\n")
    return outputs


def _greet(outputs: dict[str, Any], answer: str, seconds: float) -> None:
    url, key = outputs["api_url"], outputs["api_key"]
    body = {
        "model": chat.model_name(url, key),
        "stream": True,
        "messages": [{"role": "user", "content": "Hello!"}],
    }
    print(
        f"""
Up in {seconds:.0f} s. The model's first answer: {answer.strip()!r}

  API         {url}
  key         {key}
  playground  {url.removesuffix("/v1")}/playground
  console     {outputs["console_url"]}

  curl -N {url}/chat/completions \\
    -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\
    -d '{json.dumps(body)}'

  make chat PROMPT="Hello!"     make down     make clean
"""
    )


def main(words: list[str] | None = None) -> int:
    """`up`, `cloud`, `down` or `clean`; returns the exit code."""
    parser = argparse.ArgumentParser(prog="local.bringup")
    parser.add_argument("command", choices=["up", "cloud", "down", "clean"])
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--since", type=float, default=time.monotonic(), help="when the command began")
    given = parser.parse_args(words)
    home = Home.from_environment(tiny=given.tiny)
    try:
        if given.command == "up":
            return up(home, given.since)
        if given.command == "cloud":
            return _start_cloud(home)
        stopped = emulator.stop(home)
        print("Stopped." if stopped else "Nothing was running.")
        if given.command == "clean":
            emulator.forget(home)
            print(f"Forgot the data in {home.root}; environments and the prepared model stay.")
        return 0
    except CommandError as problem:
        return fail(problem)
    except KeyboardInterrupt:
        return fail(CommandError("interrupted; run the same command again to go on."))


if __name__ == "__main__":
    sys.exit(main())
