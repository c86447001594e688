"""`cdk deploy` of changed settings in the middle of an A/B test: the experiment goes on as it was.

The release loop's own code plans the experiment and its end; the deployed state machine makes the updates.
The deployment is the command line's.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from contracts.container import ENV_MAX_QUEUED
from contracts.release_tasks import Phase, ServedModel
from contracts.routing import CHALLENGER, CHAMPION
from lambdas.release.aws.endpoint import EndpointClient
from lambdas.release.aws.scaling import FixedFleet
from lambdas.release.aws.serving import ServingState
from lambdas.release.aws.stack import CloudFormationStack
from lambdas.release.store import RoutingItem
from lambdas.release.topology import Topology
from local.environments import node_environment
from local.home import Home
from tests.support.emulator import VENVS
from tests.support.laptop import REPOSITORY, Laptop
from tests.support.waiting import until

STACK = "evergreen-local-serving"
EXPERIMENT = "deploy-in-experiment"
LIVE = {CHAMPION: (3.0, 1), CHALLENGER: (0.75, 2)}
"""Weights and counts that neither the settings nor a stage of the release loop would set."""
APP = """
import sys
from pathlib import Path
import aws_cdk as cdk
from infra.compose import compose
from infra.settings.loader import load
app = cdk.App()
compose(app, load("local", Path(sys.argv[1])))
app.synth()
"""


@dataclass
class Tables:
    """DynamoDB as the loop's tables call it, over boto3."""

    client: Any

    def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """One operation by DynamoDB's own name."""
        method = "".join(f"_{c.lower()}" if c.isupper() else c for c in operation).lstrip("_")
        return dict(getattr(self.client, method)(**parameters))


class Experiment:
    """A challenger beside the champion of the deployed serving stack."""

    def __init__(self, laptop: Laptop) -> None:
        name = laptop.outputs["endpoint_name"]
        table = laptop.stack_outputs("data")["AccessTableName"]
        self._laptop, self._sagemaker, self._name = laptop, laptop.aws("sagemaker"), name
        self.stack = CloudFormationStack(STACK, laptop.aws("cloudformation"))
        self.endpoint = EndpointClient(name, self._sagemaker)
        self._routing = RoutingItem(table, name, Tables(laptop.aws("dynamodb")))
        clients = (laptop.aws(service) for service in ("cloudformation", "sagemaker", "cloudwatch"))
        serving = ServingState(STACK, name, *clients)
        self.topology = Topology(name, self.stack, self.endpoint, self._routing, FixedFleet(), serving)
        self.champion, self.alone = self.topology.champion(), self.live()

    def copy_of_champion(self) -> ServedModel:
        """The champion's artefact once more, at another place and under another version."""
        s3 = self._laptop.aws("s3")
        bucket, _, prefix = self.champion.uri.removeprefix("s3://").partition("/")
        copied = f"models/{EXPERIMENT}/{self.champion.digest}/"
        for entry in s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]:
            source = {"Bucket": bucket, "Key": entry["Key"]}
            s3.copy_object(Bucket=bucket, CopySource=source, Key=copied + entry["Key"].removeprefix(prefix))
        return ServedModel(
            uri=f"s3://{bucket}/{copied}", digest=self.champion.digest, version=f"{EXPERIMENT}-copy"
        )

    def begin(self, challenger: ServedModel) -> None:
        """Puts the challenger beside the champion."""
        self._update(self.topology.start(EXPERIMENT, self.champion, challenger))
        self.settled("ab")

    def _update(self, parameters: dict[str, str]) -> None:
        """Has the state machine make the update that was planned, and waits for it."""
        states = self._laptop.aws("stepfunctions")
        execution = states.start_execution(
            stateMachineArn=self._laptop.stack_outputs("refresh")["UpdateMachineArn"],
            input=json.dumps({"parameters": parameters}),
        )["executionArn"]

        def over() -> dict[str, Any] | None:
            found = states.describe_execution(executionArn=execution)
            return dict(found) if found["status"] != "RUNNING" else None

        ended = until(over, "the update of the stack")
        assert ended["status"] == "SUCCEEDED", ended

    def settled(self, phase: Phase) -> None:
        """Waits until stack and endpoint rest in a phase."""
        until(lambda: self.topology.settled(phase), f"the phase {phase}")

    def live(self) -> dict[str, tuple[float, int]]:
        """Weight and number of running instances by variant."""
        found = self._sagemaker.describe_endpoint(EndpointName=self._name)
        assert found["EndpointStatus"] == "InService", found
        return {
            one["VariantName"]: (one["CurrentWeight"], one["CurrentInstanceCount"])
            for one in found["ProductionVariants"]
        }

    def config(self) -> dict[str, Any]:
        """The configuration that the endpoint runs."""
        name = self._sagemaker.describe_endpoint(EndpointName=self._name)["EndpointConfigName"]
        return dict(self._sagemaker.describe_endpoint_config(EndpointConfigName=name))

    def models(self) -> dict[str, dict[str, Any]]:
        """Each variant's container: image, artefact, environment."""
        return {
            one["VariantName"]: self._sagemaker.describe_model(ModelName=one["ModelName"])["PrimaryContainer"]
            for one in self.config()["ProductionVariants"]
        }

    def set_live(self) -> None:
        """Moves weights and counts as an operator would, past the stack."""
        self._resize(LIVE)

    def _resize(self, wanted: dict[str, tuple[float, int]]) -> None:
        self.endpoint.resize(wanted)
        until(lambda: self.endpoint.describe().in_service and self.live() == wanted, "the new weights")

    def end(self) -> None:
        """Back to the champion alone, whatever state the experiment is in."""
        until(lambda: not self.stack.describe().is_changing, "the stack's rest")
        changes = self.topology.restore(EXPERIMENT, self.champion)
        if changes:
            self._update(changes)
        self.settled("steady")
        self._resize(self.alone)


class Callers:
    """Users who ask the front door one after the other, each a new one, so that both variants get some."""

    def __init__(self, laptop: Laptop) -> None:
        self.variants: list[str] = []
        self.failures: list[str] = []
        self._completions = laptop.openai().chat.completions.with_raw_response
        self._model = laptop.model
        self._enough = threading.Event()

    @contextmanager
    def calling(self) -> Iterator[None]:
        """They call during the block."""
        thread = threading.Thread(target=self._call)
        thread.start()
        try:
            yield
        finally:
            self._enough.set()
            thread.join()

    def _call(self) -> None:
        number = 0
        while not self._enough.wait(0.05):
            number += 1
            try:
                reply = self._completions.create(
                    model=self._model,
                    messages=[{"role": "user", "content": "Hi"}],
                    max_tokens=2,
                    user=f"caller-{number}",
                )
                self.variants.append(reply.headers["x-evergreen-variant"])
            except Exception as error:
                self.failures.append(repr(error))


def deploy(laptop: Laptop, *app: str | Path) -> None:
    """`cdk deploy` of the serving stack alone, with the parameters that it has."""
    home = Home(laptop.home, VENVS, laptop.port)
    words: list[str | Path] = [REPOSITORY / "node_modules" / ".bin" / "cdk", "deploy", STACK, "--exclusively"]
    words += ["--app", *app, "--require-approval", "never", "--progress", "events"]
    environment = home.aws_environment() | {
        "PATH": node_environment(home)["PATH"],
        "PYTHONPATH": str(REPOSITORY),
        "CDK_DISABLE_CLI_TELEMETRY": "true",
        "CI": "true",
    }
    done = subprocess.run(
        [str(word) for word in words], cwd=REPOSITORY, env=environment, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def changed_app(folder: Path) -> tuple[str, dict[str, Any]]:
    """The app with two settings changed, one of the endpoint and one of its containers; the settings."""
    settings = yaml.safe_load((REPOSITORY / "settings" / "local.yaml").read_text())
    settings["endpoint"]["monitoring"]["publish_seconds"] *= 3
    settings["endpoint"]["engine"]["max_queued_requests"] += 1
    (folder / "local.yaml").write_text(yaml.safe_dump(settings))
    (folder / "app.py").write_text(APP)
    return f"{VENVS / 'cdk' / 'bin' / 'python'} {folder / 'app.py'} {folder}", settings["endpoint"]


@pytest.fixture
def experiment(laptop: Laptop) -> Iterator[Experiment]:
    """The experiment; afterwards the champion is alone again and the template the one of before."""
    running = Experiment(laptop)
    try:
        yield running
    finally:
        try:
            running.end()
        finally:
            deploy(laptop, Home(laptop.home, VENVS, laptop.port).assembly)
    assert (running.topology.champion(), running.live()) == (running.champion, running.alone)


def test_a_deploy_in_the_middle_of_an_experiment_carries_it_along(
    laptop: Laptop, experiment: Experiment, tmp_path: Path
) -> None:
    challenger = experiment.copy_of_champion()
    experiment.begin(challenger)
    experiment.topology.share(EXPERIMENT, 0.5, experiment.champion, challenger)
    experiment.set_live()
    models, config, parameters = (
        experiment.models(),
        experiment.config(),
        experiment.stack.describe().parameters,
    )
    assert models[CHALLENGER]["ModelDataSource"]["S3DataSource"]["S3Uri"] == challenger.uri

    app, wanted = changed_app(tmp_path)
    callers = Callers(laptop)
    with callers.calling():
        until(lambda: {CHAMPION, CHALLENGER} <= set(callers.variants), "an answer of each variant")
        deploy(laptop, app, "--output", tmp_path / "cdk.out")
        answered = len(callers.variants)
        until(lambda: {CHAMPION, CHALLENGER} <= set(callers.variants[answered:]), "answers after the deploy")
    assert callers.failures == []

    assert experiment.live() == LIVE
    assert experiment.stack.describe().parameters == parameters
    experiment.settled("ab")
    after = experiment.config()
    assert after["EndpointConfigName"] != config["EndpointConfigName"], "the deploy changed the endpoint"
    published = after["MetricsConfig"]["MetricPublishFrequencyInSeconds"]
    assert published == wanted["monitoring"]["publish_seconds"]
    queued = {ENV_MAX_QUEUED: str(wanted["engine"]["max_queued_requests"])}
    assert experiment.models() == {
        name: model | {"Environment": model["Environment"] | queued} for name, model in models.items()
    }
