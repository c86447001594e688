"""What commands are built on, against the emulator: uploads that resume, the lock, quotas, recovery."""

from __future__ import annotations

import concurrent.futures
import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from contracts.artefact import ArtefactError, ArtefactFile, file_sha256
from infra.settings import load
from operations import lock as lock_module
from operations.cdk import StackPlace
from operations.lock import EnvironmentLock, locked
from operations.progress import CommandError, Step
from operations.recovery import recover
from operations.target import Target, connect
from operations.upload import MINIMUM_PART_BYTES, Progress, Uploader
from tests.support.emulator import OwnEmulator
from tests.support.laptop import REPOSITORY
from tests.support.waiting import until

PARTS = 8
BUCKET = "operator-tools"
# The bootstrap stack as far as the lock needs it.
TOOLKIT = {
    "Resources": {"Bucket": {"Type": "AWS::S3::Bucket"}},
    "Outputs": {"BucketName": {"Value": {"Ref": "Bucket"}}},
}
UPLOADING = """
import sys, boto3
from pathlib import Path
from contracts.artefact import ArtefactFile, file_sha256
from operations.upload import MINIMUM_PART_BYTES, Progress, Uploader
path, url = Path(sys.argv[1]), sys.argv[2]
s3 = boto3.client("s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="123456789012",
                  aws_secret_access_key="laptop")
entry = ArtefactFile(path="weights", bytes=path.stat().st_size, sha256=file_sha256(path))
Uploader(s3, "operator-tools", Progress(entry.bytes, print), MINIMUM_PART_BYTES).upload(path, entry, "killed")
"""
HOLDING = """
import sys, time
from infra.settings import load
from operations.lock import locked
from operations.target import connect
with locked(connect(load("local")), "deploy"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnEmulator]:
    cloud = OwnEmulator(Path(tmp_path_factory.mktemp("operator")))
    cloud.start()
    cloud.client("s3").create_bucket(Bucket=BUCKET)
    cloudformation = cloud.client("cloudformation")
    cloudformation.create_stack(StackName="CDKToolkit", TemplateBody=json.dumps(TOOLKIT))
    cloudformation.get_waiter("stack_create_complete").wait(StackName="CDKToolkit", WaiterConfig={"Delay": 1})
    yield cloud
    cloud.stop()


@pytest.fixture
def target(emulator: OwnEmulator) -> Target:
    return connect(load("local"), {"AWS_ENDPOINT_URL": emulator.url, "PATH": ""})


@pytest.fixture
def weights(tmp_path: Path) -> tuple[Path, ArtefactFile]:
    """A file of several parts."""
    path = tmp_path / "weights"
    path.write_bytes(random.Random(7).randbytes(PARTS * MINIMUM_PART_BYTES - 1000))
    return path, ArtefactFile(path="weights", bytes=path.stat().st_size, sha256=file_sha256(path))


def child(emulator: OwnEmulator, script: str, *words: str) -> subprocess.Popen[str]:
    environment = {"AWS_ENDPOINT_URL": emulator.url, "PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"}
    return subprocess.Popen(
        [sys.executable, "-c", script, *words], env=environment, stdout=subprocess.PIPE, text=True
    )


def uploader(emulator: OwnEmulator, total: int) -> tuple[Uploader, Progress]:
    progress = Progress(total, print)
    return Uploader(emulator.client("s3"), BUCKET, progress, MINIMUM_PART_BYTES), progress


def test_an_upload_that_is_killed_goes_on_where_it_stopped(
    emulator: OwnEmulator, weights: tuple[Path, ArtefactFile]
) -> None:
    path, entry = weights
    s3 = emulator.client("s3")
    process = child(emulator, UPLOADING, str(path), emulator.url)
    deadline = time.monotonic() + 60
    while not (there := _parts_there(s3, "killed")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait(timeout=30)
    there = _parts_there(s3, "killed")
    assert there, "the upload ended before it was killed, or never began"
    again, progress = uploader(emulator, entry.bytes)
    again.upload(path, entry, "killed")
    assert progress.sent_bytes <= entry.bytes - there * MINIMUM_PART_BYTES + 1000
    assert s3.get_object(Bucket=BUCKET, Key="killed")["Body"].read() == path.read_bytes()
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET, Prefix="killed")
    # A third run sends nothing.
    third, progress = uploader(emulator, entry.bytes)
    third.upload(path, entry, "killed")
    assert progress.sent_bytes == 0


def _parts_there(s3: Any, key: str) -> int:
    uploads = s3.list_multipart_uploads(Bucket=BUCKET, Prefix=key).get("Uploads", [])
    return sum(
        len(s3.list_parts(Bucket=BUCKET, Key=key, UploadId=found["UploadId"]).get("Parts", []))
        for found in uploads
    )


def test_parts_of_other_bytes_are_sent_again(
    emulator: OwnEmulator, weights: tuple[Path, ArtefactFile]
) -> None:
    path, entry = weights
    s3 = emulator.client("s3")
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="other", ChecksumAlgorithm="SHA256")["UploadId"]
    s3.upload_part(
        Bucket=BUCKET, Key="other", UploadId=upload, PartNumber=1, Body=bytes(MINIMUM_PART_BYTES),
        ChecksumAlgorithm="SHA256",
    )  # fmt: skip
    again, progress = uploader(emulator, entry.bytes)
    again.upload(path, entry, "other")
    assert progress.sent_bytes == entry.bytes
    assert s3.get_object(Bucket=BUCKET, Key="other")["Body"].read() == path.read_bytes()


@pytest.mark.parametrize("large", [True, False])
def test_a_file_that_changes_meanwhile_is_not_stored(
    emulator: OwnEmulator, weights: tuple[Path, ArtefactFile], large: bool
) -> None:
    path, entry = weights
    if not large:
        path.write_bytes(b"small")
        entry = ArtefactFile(path="weights", bytes=5, sha256=file_sha256(path))
    with path.open("r+b") as file:
        file.write(b"!")
    key = f"changed-{large}"
    with pytest.raises(ArtefactError, match="was changed"):
        uploader(emulator, entry.bytes)[0].upload(path, entry, key)
    with pytest.raises(ClientError):
        emulator.client("s3").head_object(Bucket=BUCKET, Key=key)


def test_a_second_operator_is_told_who_and_since_when(emulator: OwnEmulator, target: Target) -> None:
    process = child(emulator, HOLDING)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(CommandError, match=rf"`deploy` on local since 20.*process {process.pid}\)"):
            EnvironmentLock(target, "model").acquire()
    finally:
        process.kill()
        process.wait(timeout=30)
    # Killed on this machine, so nobody has to wait.
    with locked(target, "deploy"), pytest.raises(CommandError, match="deploy"):
        EnvironmentLock(target, "model").acquire()
    with locked(target, "deploy"):
        pass


def test_a_holder_on_another_machine_counts_as_long_as_it_renews(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_module, "HOLD_SECONDS", 3.0)
    monkeypatch.setattr(lock_module, "RENEW_SECONDS", 0.5)
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    there = EnvironmentLock(target, "deploy")
    there.acquire()
    monkeypatch.setattr(socket, "gethostname", lambda: "here")
    time.sleep(5)  # longer than it is held unless it is renewed
    with pytest.raises(CommandError, match="elsewhere"):
        EnvironmentLock(target, "model").acquire()
    there._done.set()  # its machine goes away
    deadline = time.monotonic() + 30
    while True:
        try:
            with locked(target, "model"):
                break
        except CommandError:
            assert time.monotonic() < deadline
            time.sleep(0.5)
    there.release()  # come back, it takes nothing from others
    with locked(target, "model"):
        there.release()
        with pytest.raises(CommandError):
            EnvironmentLock(target, "deploy").acquire()


def test_of_many_at_once_one_gets_the_lock(target: Target) -> None:
    def attempt(_: int) -> EnvironmentLock | None:
        lock = EnvironmentLock(target, "deploy")
        try:
            lock.acquire()
        except CommandError:
            return None
        return lock

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        winners = [lock for lock in pool.map(attempt, range(8)) if lock is not None]
    assert len(winners) == 1
    winners[0].release()


def test_without_bootstrap_the_lock_says_so(target: Target, emulator: OwnEmulator) -> None:
    with OwnCloudWithoutBootstrap(emulator) as bare, pytest.raises(CommandError, match="make bootstrap"):
        EnvironmentLock(bare, "deploy")


class OwnCloudWithoutBootstrap:
    """The same cloud in a region in which nothing is bootstrapped."""

    def __init__(self, emulator: OwnEmulator) -> None:
        settings = load("local")
        elsewhere = settings.environment.model_copy(update={"region": "eu-west-1"})
        self._settings = settings.model_copy(update={"environment": elsewhere})
        self._url = emulator.url

    def __enter__(self) -> Target:
        return connect(self._settings, {"AWS_ENDPOINT_URL": self._url})

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""


def test_stacks_that_were_never_completed_are_deleted_and_said(
    emulator: OwnEmulator, target: Target, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cloudformation = emulator.client("cloudformation")
    endpoint = {"Type": "AWS::SageMaker::Endpoint", "Properties": {"EndpointConfigName": "none-of-this-name"}}
    refused = {"Resources": {"Endpoint": endpoint}}
    cloudformation.create_stack(StackName="evergreen-local-serving", TemplateBody=json.dumps(refused))
    until(
        lambda: statuses(cloudformation)["evergreen-local-serving"] == "ROLLBACK_COMPLETE",
        "the first create is rolled back",
    )
    cloudformation.create_change_set(
        StackName="evergreen-local-gateway", ChangeSetName="first", ChangeSetType="CREATE",
        TemplateBody=json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}),
    )  # fmt: skip
    cloudformation.create_stack(
        StackName="evergreen-local-data", TemplateBody=json.dumps({"Resources": TOOLKIT["Resources"]})
    )
    names = [
        "evergreen-local-serving",
        "evergreen-local-gateway",
        "evergreen-local-data",
        "evergreen-local-none",
    ]
    recover(target, [StackPlace(name, target.region) for name in names], Step("stacks", tmp_path / "log"))
    told = capsys.readouterr().out
    assert "evergreen-local-serving is ROLLBACK_COMPLETE" in told
    assert "evergreen-local-gateway is REVIEW_IN_PROGRESS" in told
    left = statuses(cloudformation)
    assert left["evergreen-local-data"] == "CREATE_COMPLETE"
    assert not {"evergreen-local-serving", "evergreen-local-gateway"} & set(left)


def statuses(cloudformation: Any) -> dict[str, str]:
    return {stack["StackName"]: stack["StackStatus"] for stack in cloudformation.describe_stacks()["Stacks"]}


class TestServiceQuotas:
    def test_quotas_are_read_one_by_one_and_by_pages(self, emulator: OwnEmulator) -> None:
        quotas = emulator.client("service-quotas")
        one = quotas.get_service_quota(ServiceCode="lambda", QuotaCode="L-B99A9384")["Quota"]
        assert (one["QuotaName"], one["Value"]) == ("Concurrent executions", 1000)
        for operation in ("list_service_quotas", "list_aws_default_service_quotas"):
            pages = list(
                quotas.get_paginator(operation).paginate(
                    ServiceCode="sagemaker", PaginationConfig={"PageSize": 2}
                )
            )
            names = [quota["QuotaName"] for page in pages for quota in page["Quotas"]]
            assert len(pages) > 2
            assert len(set(names)) == len(names)
            assert "ml.g6e.xlarge for endpoint usage" in names

    @pytest.mark.parametrize(
        ("operation", "words", "code"),
        [
            ("get_service_quota", {"ServiceCode": "lambda", "QuotaCode": "L-0"}, "NoSuchResourceException"),
            ("list_service_quotas", {"ServiceCode": "lambada"}, "NoSuchResourceException"),
            (
                "list_service_quotas",
                {"ServiceCode": "lambda", "NextToken": "x"},
                "InvalidPaginationTokenException",
            ),
            ("list_service_quotas", {"ServiceCode": "bad code!"}, "ValidationException"),
            (
                "request_service_quota_increase",
                {"ServiceCode": "lambda", "QuotaCode": "L-B99A9384", "DesiredValue": 2000.0},
                "UnknownOperationException",
            ),
        ],
    )
    def test_the_rest_is_refused(
        self, emulator: OwnEmulator, operation: str, words: dict[str, Any], code: str
    ) -> None:
        with pytest.raises(ClientError) as caught:
            getattr(emulator.client("service-quotas"), operation)(**words)
        assert caught.value.response["Error"]["Code"] == code
