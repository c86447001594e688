"""`why` names what was planted: failures that the emulated services report in their own way.

The stack is a small serving stack of the environment `local`; the command is the one that an operator runs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contracts.artefact import MANIFEST_NAME, ArtefactFile, Manifest
from contracts.container import ENV_MODEL_DIGEST
from tests.cloud.test_sagemaker import ACCOUNT, IMAGE, REGION, Emulator, allow, until
from tests.support.laptop import REPOSITORY

STACK, ENDPOINT, ALARM, BUCKET = "evergreen-local-serving", "evergreen-local", "forced", "artefacts"
MANIFEST = Manifest(name="m", files=[ArtefactFile(path="model.safetensors", bytes=5, sha256="0" * 64)])
WHOLE, TORN = f"s3://{BUCKET}/whole/", f"s3://{BUCKET}/torn/"
PARAMETERS = {
    "ChampionModelUri": WHOLE,
    "ChampionModelDigest": MANIFEST.digest,
    "Image": IMAGE,
    "Role": "reader",
    "Instances": "1",
    "LastWords": "",
    "Note": "",
}


def template() -> str:
    """A champion whose artefact, image, role and last words are parameters; one alarm rolls updates back."""
    source = {"S3Uri": {"Ref": "ChampionModelUri"}, "S3DataType": "S3Prefix", "CompressionType": "None"}
    environment = {
        ENV_MODEL_DIGEST: {"Ref": "ChampionModelDigest"},
        "FAKE_LAST_WORDS": {"Ref": "LastWords"},
        "NOTE": {"Ref": "Note"},
    }
    variant = {
        "VariantName": "champion",
        "ModelName": {"Fn::GetAtt": ["Champion", "ModelName"]},
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": {"Ref": "Instances"},
        "InitialVariantWeight": 1,
    }
    shift = {"TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}}
    resources: dict[str, tuple[str, dict[str, Any]]] = {
        "Champion": (
            "Model",
            {
                "ExecutionRoleArn": {"Fn::Sub": f"arn:aws:iam::{ACCOUNT}:role/${{Role}}"},
                "PrimaryContainer": {
                    "Image": {"Ref": "Image"},
                    "Environment": environment,
                    "ModelDataSource": {"S3DataSource": source},
                },
            },
        ),
        "Config": ("EndpointConfig", {"ProductionVariants": [variant]}),
        "Endpoint": (
            "Endpoint",
            {
                "EndpointName": ENDPOINT,
                "EndpointConfigName": {"Fn::GetAtt": ["Config", "EndpointConfigName"]},
                "DeploymentConfig": {
                    "BlueGreenUpdatePolicy": shift,
                    "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": ALARM}]},
                },
            },
        ),
    }
    return json.dumps(
        {
            "Parameters": {name: {"Type": "String"} for name in PARAMETERS},
            "Resources": {
                name: {"Type": f"AWS::SageMaker::{kind}", "Properties": properties}
                for name, (kind, properties) in resources.items()
            },
            "Outputs": {"RollbackAlarms": {"Value": ALARM}},
        }
    )


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """Roles, artefacts, the endpoint's log group and an alarm that is OK."""
    cloud = Emulator(tmp_path_factory.mktemp("why"))
    cloud.start()
    everything = json.loads(allow(["s3:*", "logs:*", "ecr:*", "cloudwatch:*", "kms:*"], "*"))
    cloud.role("reader", json.dumps(everything))
    cloud.role("stranger", allow(["logs:*", "ecr:*", "cloudwatch:*", "kms:*"], "*"))
    s3 = cloud.aws("s3")
    s3.create_bucket(Bucket=BUCKET)
    for prefix, weights in (("whole", b"12345"), ("torn", b"123")):
        s3.put_object(Bucket=BUCKET, Key=f"{prefix}/model.safetensors", Body=weights)
        s3.put_object(Bucket=BUCKET, Key=f"{prefix}/{MANIFEST_NAME}", Body=MANIFEST.model_dump_json())
    cloud.aws("logs").create_log_group(logGroupName=f"/aws/sagemaker/Endpoints/{ENDPOINT}")
    cloud.aws("cloudwatch").put_metric_alarm(
        AlarmName=ALARM,
        Namespace="Planted",
        MetricName="Faults",
        Statistic="Sum",
        Period=10,
        EvaluationPeriods=1,
        Threshold=0,
        ComparisonOperator="GreaterThanThreshold",
        TreatMissingData="ignore",  # it stays as the test sets it
    )
    yield cloud
    cloud.end()


class ServingStack:
    """The stack of one test."""

    def __init__(self, emulator: Emulator, logs: Path) -> None:
        self._emulator, self._logs = emulator, logs
        self._cloudformation = emulator.aws("cloudformation")

    def create(self, **given: str) -> str:
        self._cloudformation.create_stack(
            StackName=STACK, TemplateBody=template(), Parameters=self._parameters(given)
        )
        return self.rest()

    def update(self, **given: str) -> str:
        self._cloudformation.update_stack(
            StackName=STACK, UsePreviousTemplate=True, Parameters=self._parameters(given)
        )
        return self.rest()

    def _parameters(self, given: dict[str, str]) -> list[dict[str, str]]:
        values = PARAMETERS | given
        return [{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()]

    def rest(self) -> str:
        def status() -> str | None:
            stacks = self._cloudformation.describe_stacks(StackName=STACK)["Stacks"]
            found = str(stacks[0]["StackStatus"])
            return None if found.endswith("_IN_PROGRESS") else found

        return str(until(status, "the stack rests"))

    def delete(self) -> None:
        self._cloudformation.delete_stack(StackName=STACK)

        def gone() -> bool:
            found = self._cloudformation.describe_stacks()["Stacks"]
            return all(one["StackStatus"] == "DELETE_COMPLETE" for one in found if one["StackName"] == STACK)

        until(gone, "the stack is gone")

    def why(self) -> dict[str, Any]:
        """What `why --json` answers, and its exit status as `status`."""
        url = f"http://127.0.0.1:{self._emulator.port}"
        done = subprocess.run(
            [sys.executable, "-m", "operations", "why", "--env", "local", "--json", "--logs", self._logs],
            cwd=REPOSITORY,
            env=os.environ | {"AWS_ENDPOINT_URL": url, "AWS_REGION": REGION},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode in (0, 3), done.stderr
        return {"status": done.returncode, **json.loads(done.stdout)}

    def cause(self) -> str:
        answer = self.why()
        assert answer["causes"], answer
        assert answer["causes"][0]["evidence"], "a cause is shown with what says so"
        return str(answer["causes"][0]["name"])


@pytest.fixture
def stack(emulator: Emulator, tmp_path: Path) -> Iterator[ServingStack]:
    one = ServingStack(emulator, tmp_path)
    yield one
    one.delete()


OUT_OF_MEMORY = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 256.00 MiB."
MISSING_HOOK = (
    "HandlerFileNotFoundError: File '/opt/ml/model/code/evergreen_hook.py' not found in search paths: []"
)


@pytest.mark.parametrize(
    ("planted", "given"),
    [
        ("missing-artefact", {"ChampionModelUri": f"s3://{BUCKET}/nothing/"}),
        ("missing-grant", {"Role": "stranger"}),
        ("unreachable-image", {"Image": IMAGE.replace("evergreen-serving:local", "nowhere:1")}),
        ("quota", {"Instances": "17"}),
        ("bad-flag", {"LastWords": "serve: error: unrecognized arguments: --max-num-queued-reqs"}),
        ("out-of-memory", {"LastWords": OUT_OF_MEMORY}),
        ("missing-hook", {"LastWords": MISSING_HOOK}),
        ("corrupt-artefact", {"ChampionModelUri": TORN, "LastWords": "the container ended"}),
    ],
)
def test_a_first_deploy_that_fails_is_explained(
    stack: ServingStack, planted: str, given: dict[str, str]
) -> None:
    assert stack.create(**given) in ("ROLLBACK_COMPLETE", "CREATE_FAILED")
    assert stack.cause() == planted


def test_an_update_that_an_alarm_rolls_back_is_explained_and_what_follows_is_not_blamed_on_it(
    emulator: Emulator, stack: ServingStack
) -> None:
    assert stack.create() == "CREATE_COMPLETE"
    assert stack.why()["failures"] == []
    emulator.aws("cloudwatch").set_alarm_state(AlarmName=ALARM, StateValue="ALARM", StateReason="planted")

    assert stack.update(Note="another") == "UPDATE_ROLLBACK_COMPLETE"
    assert stack.cause() == "alarm"

    emulator.aws("cloudwatch").set_alarm_state(AlarmName=ALARM, StateValue="OK", StateReason="over")
    assert stack.update(LastWords=OUT_OF_MEMORY) == "UPDATE_ROLLBACK_COMPLETE"
    assert stack.cause() == "out-of-memory"


def test_a_silent_rollback_is_found_although_the_stack_is_content(
    emulator: Emulator, stack: ServingStack
) -> None:
    assert stack.create() == "CREATE_COMPLETE"
    fault = {"kind": "silent_rollback", "endpoint": ENDPOINT}
    request = urllib.request.Request(
        f"http://127.0.0.1:{emulator.port}/_evergreen/faults",
        json.dumps(fault).encode(),
        {"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=10).close()
    emulator.aws("cloudwatch").set_alarm_state(AlarmName=ALARM, StateValue="ALARM", StateReason="planted")
    assert stack.update(Note="another") == "UPDATE_COMPLETE"

    answer = stack.why()

    assert "the endpoint does not serve what its stack asked for" in answer["failures"]
    assert answer["causes"][0]["name"] == "alarm"
