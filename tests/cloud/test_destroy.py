"""`destroy` against emulated services: a bucket and a registry that hold something, a log group that is kept.

The stacks are small ones of the environment `local`; the command is the one that an operator runs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cloud.test_sagemaker import IMAGE, REGION, Emulator, until
from tests.support.laptop import REPOSITORY

# The bootstrap stack as far as the operators' lock needs it.
TOOLKIT = {
    "Resources": {"Bucket": {"Type": "AWS::S3::Bucket"}},
    "Outputs": {"BucketName": {"Value": {"Ref": "Bucket"}}},
}
GROUP, LOG_GROUP = "evergreen-local", "/kept/evergreen-local"
DATA = {
    "Resources": {
        "Artefacts": {
            "Type": "AWS::S3::Bucket",
            "DeletionPolicy": "Delete",
            "Properties": {"VersioningConfiguration": {"Status": "Enabled"}},
        },
        "Logs": {
            "Type": "AWS::Logs::LogGroup",
            "DeletionPolicy": "RetainExceptOnCreate",
            "Properties": {"LogGroupName": LOG_GROUP},
        },
    },
    "Outputs": {"Bucket": {"Value": {"Ref": "Artefacts"}, "Export": {"Name": "evergreen-local-data:Bucket"}}},
}
REFRESH = {
    "Resources": {
        "Packages": {
            "Type": "AWS::SageMaker::ModelPackageGroup",
            "DeletionPolicy": "Delete",
            "Properties": {
                "ModelPackageGroupName": GROUP,
                "ModelPackageGroupDescription": {"Fn::ImportValue": "evergreen-local-data:Bucket"},
            },
        }
    }
}


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    cloud = Emulator(tmp_path_factory.mktemp("destroy"))
    cloud.start()
    make_stack(cloud, "CDKToolkit", TOOLKIT)
    yield cloud
    cloud.end()


def deploy(emulator: Emulator, part: str, template: dict[str, Any]) -> None:
    make_stack(emulator, f"evergreen-local-{part}", template)


def make_stack(emulator: Emulator, name: str, template: dict[str, Any]) -> None:
    cloudformation = emulator.aws("cloudformation")
    cloudformation.create_stack(StackName=name, TemplateBody=json.dumps(template))

    def complete() -> bool:
        return bool(
            cloudformation.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"] == "CREATE_COMPLETE"
        )

    until(complete, f"{name} is complete")


def destroy(emulator: Emulator, logs: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "operations", "destroy", "--env", "local", "--logs", logs, *words],
        cwd=REPOSITORY,
        env=os.environ | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{emulator.port}", "AWS_REGION": REGION},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def stacks(emulator: Emulator) -> set[str]:
    found = emulator.aws("cloudformation").describe_stacks()["Stacks"]
    names = {one["StackName"] for one in found if one["StackStatus"] != "DELETE_COMPLETE"}
    return names - {"CDKToolkit"}


def test_what_is_disposable_goes_with_all_it_holds_and_what_is_kept_is_named(
    emulator: Emulator, tmp_path: Path
) -> None:
    deploy(emulator, "data", DATA)
    deploy(emulator, "refresh", REFRESH)
    s3, sagemaker = emulator.aws("s3"), emulator.aws("sagemaker")
    [output] = emulator.aws("cloudformation").describe_stacks(StackName="evergreen-local-data")["Stacks"][0][
        "Outputs"
    ]
    bucket = output["OutputValue"]
    for _ in range(2):
        s3.put_object(Bucket=bucket, Key="model", Body=b"weights")
    s3.delete_object(Bucket=bucket, Key="model")
    sagemaker.create_model_package(
        ModelPackageGroupName=GROUP,
        InferenceSpecification={
            "Containers": [{"Image": IMAGE}],
            "SupportedContentTypes": ["application/json"],
            "SupportedResponseMIMETypes": ["application/json"],
        },
    )

    refused = destroy(emulator, tmp_path)
    assert refused.returncode == 1
    assert "nobody confirmed" in refused.stderr
    assert stacks(emulator) == {"evergreen-local-data", "evergreen-local-refresh"}

    done = destroy(emulator, tmp_path, "--yes")

    assert done.returncode == 0, done.stdout + done.stderr
    assert stacks(emulator) == set()
    assert bucket not in {one["Name"] for one in s3.list_buckets()["Buckets"]}
    assert sagemaker.list_model_package_groups()["ModelPackageGroupSummaryList"] == []
    assert f"log group, 0.00 GB         {LOG_GROUP}" in done.stdout
    groups = emulator.aws("logs").describe_log_groups(logGroupNamePrefix=LOG_GROUP)["logGroups"]
    assert [group["logGroupName"] for group in groups] == [LOG_GROUP]

    again = destroy(emulator, tmp_path, "--yes")
    assert again.returncode == 0
    assert "Nothing of local is deployed" in again.stdout
