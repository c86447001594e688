"""The emulator from start to stop: who may call, one per home, what a kill leaves behind, what comes back."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.emulator import VENVS, OwnEmulator, allow
from tests.support.laptop import REPOSITORY

TEMPLATE = {
    "Resources": {
        "Bucket": {
            "Type": "AWS::S3::Bucket",
            "Properties": {
                "VersioningConfiguration": {"Status": "Enabled"},
                "LifecycleConfiguration": {
                    "Rules": [{"Id": "old", "Status": "Enabled", "ExpirationInDays": 30}]
                },
                "Tags": [{"Key": "room", "Value": "data"}],
            },
        },
        "TlsOnly": {
            "Type": "AWS::S3::BucketPolicy",
            "Properties": {
                "Bucket": {"Ref": "Bucket"},
                "PolicyDocument": {
                    "Version": "2012-10-17",
                    "Statement": [
                        {
                            "Effect": "Deny",
                            "Principal": {"AWS": "*"},
                            "Action": "s3:*",
                            "Resource": {"Fn::Sub": "${Bucket.Arn}/*"},
                            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
                        }
                    ],
                },
            },
        },
        "Table": {
            "Type": "AWS::DynamoDB::Table",
            "Properties": {
                "TableName": "rows",
                "BillingMode": "PAY_PER_REQUEST",
                "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
                "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
                "TimeToLiveSpecification": {"AttributeName": "expires_at", "Enabled": True},
                "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
            },
        },
    },
    "Outputs": {"Bucket": {"Value": {"Ref": "Bucket"}}},
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnEmulator]:
    """One that runs on, for tests that leave it as it is."""
    own = OwnEmulator(tmp_path_factory.mktemp("life"))
    own.start()
    yield own
    own.stop()


@pytest.fixture(scope="module")
def bucket(running: OwnEmulator) -> str:
    """The template, deployed in it; the bucket's name. Its table has a row that is due to go."""
    made = deploy(running)
    for name, moment in (("old", time.time() - 10), ("young", time.time() + 3600)):
        item = {"pk": {"S": name}, "expires_at": {"N": str(int(moment))}}
        running.client("dynamodb").put_item(TableName="rows", Item=item)
    return made


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[OwnEmulator]:
    own = OwnEmulator(tmp_path / "home")
    yield own
    if own.process and own.process.poll() is None:
        own.stop()


def deploy(emulator: OwnEmulator) -> str:
    """Deploy the template; the bucket's name."""
    stacks = emulator.client("cloudformation")
    stacks.create_stack(StackName="life", TemplateBody=json.dumps(TEMPLATE))
    stacks.get_waiter("stack_create_complete").wait(StackName="life", WaiterConfig={"Delay": 1})
    (output,) = stacks.describe_stacks(StackName="life")["Stacks"][0]["Outputs"]
    return str(output["OutputValue"])


def wait_for(find: Any) -> Any:
    """Poll until something is found."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if found := find():
            return found
        time.sleep(0.2)
    raise AssertionError("not found in time")


def runs(pid: int) -> bool:
    """Whether there is such a process that is more than a zombie, which its new parent has yet to collect."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def test_properties_that_the_emulator_drops_are_in_force(running: OwnEmulator, bucket: str) -> None:
    s3, dynamodb = running.client("s3"), running.client("dynamodb")

    (rule,) = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert rule["Expiration"] == {"Days": 30}
    assert {"Key": "room", "Value": "data"} in s3.get_bucket_tagging(Bucket=bucket)["TagSet"]
    ttl = dynamodb.describe_time_to_live(TableName="rows")["TimeToLiveDescription"]
    assert ttl == {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires_at"}
    backups = dynamodb.describe_continuous_backups(TableName="rows")["ContinuousBackupsDescription"]
    assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"
    s3.put_object(Bucket=bucket, Key="a", Body=b"the loopback interface counts as secure")


def test_an_unsigned_request_is_refused(running: OwnEmulator) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)
    headers = {"X-Amz-Target": "DynamoDB_20120810.ListTables", "Content-Type": "application/x-amz-json-1.0"}
    with contextlib.closing(connection):
        connection.request("POST", "/", body=b"{}", headers=headers)
        reply = connection.getresponse()
        text = reply.read().decode()

    assert reply.status == 400
    assert "MissingAuthenticationToken" in text


def test_an_unknown_key_is_refused(running: OwnEmulator) -> None:
    stranger = running.client("dynamodb", aws_access_key_id="AKIAIOSFODNN7EXAMPLE", aws_secret_access_key="x")

    with pytest.raises(ClientError) as refusal:
        stranger.list_tables()

    assert refusal.value.response["Error"]["Code"] == "UnrecognizedClientException"


def test_a_forged_signature_of_a_real_key_is_refused(running: OwnEmulator) -> None:
    iam = running.client("iam")
    iam.create_user(UserName="carol")
    key = iam.create_access_key(UserName="carol")["AccessKey"]["AccessKeyId"]
    forger = running.client("sts", aws_access_key_id=key, aws_secret_access_key="guess")

    with pytest.raises(ClientError) as refusal:
        forger.get_caller_identity()

    assert refusal.value.response["Error"]["Code"] == "SignatureDoesNotMatch"


def test_only_the_loopback_interface_listens(running: OwnEmulator) -> None:
    listening = Path("/proc/net/tcp").read_text().splitlines()[1:]
    own = {line.split()[1] for line in listening if line.split()[1].endswith(f":{running.port:04X}")}

    assert own == {f"0100007F:{running.port:04X}"}


def test_a_second_one_for_the_same_home_is_refused_in_one_sentence(running: OwnEmulator) -> None:
    other = OwnEmulator(running.home)
    command = [VENVS / "cloud" / "bin" / "python", "-m", "local.cloud", *other.arguments()]

    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)

    assert done.returncode == 1
    assert done.stderr.startswith(f"A laptop cloud already runs for {running.home}")


def test_a_port_in_use_is_refused_in_one_sentence(emulator: OwnEmulator) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", emulator.port))
        taken.listen()
        command = [VENVS / "cloud" / "bin" / "python", "-m", "local.cloud", *emulator.arguments()]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)

    assert done.returncode == 1
    assert done.stderr.startswith(f"Port {emulator.port} on 127.0.0.1 is not free")


def test_a_clean_stop_keeps_everything(emulator: OwnEmulator) -> None:
    assert emulator.start()["state"] == "fresh"
    bucket = deploy(emulator)
    emulator.client("s3").put_object(Bucket=bucket, Key="a", Body=b"kept")
    emulator.client("dynamodb").put_item(TableName="rows", Item={"pk": {"S": "kept"}})
    key = emulator.client("apigateway").create_api_key(name="tenant", enabled=True)["id"]

    assert emulator.stop() == 0
    assert emulator.start()["state"] == "restored"

    assert emulator.client("s3").get_object(Bucket=bucket, Key="a")["Body"].read() == b"kept"
    assert "Item" in emulator.client("dynamodb").get_item(TableName="rows", Key={"pk": {"S": "kept"}})
    assert emulator.client("apigateway").get_api_key(apiKey=key)["name"] == "tenant"
    stack = emulator.client("cloudformation").describe_stacks(StackName="life")["Stacks"][0]
    assert stack["StackStatus"] == "CREATE_COMPLETE"


def test_after_a_kill_the_last_snapshot_comes_back_and_orphans_are_ended(emulator: OwnEmulator) -> None:
    emulator.start()
    role = emulator.make_role("worker", "lambda.amazonaws.com", allow("logs:*"))
    code = "import os\ndef handler(event, context): return os.getpid()"
    emulator.make_function("worker", role, {"app.py": code})
    functions = emulator.client("lambda")
    orphan = json.loads(functions.invoke(FunctionName="worker")["Payload"].read())
    wait_for(lambda: (emulator.home / "cloud" / "state" / "current").exists())

    os.kill(orphan, signal.SIGSTOP)  # or it might end by itself, once nobody gives it work any more
    emulator.kill()
    assert runs(orphan)
    health = emulator.start()

    assert health["state"] == "restored"
    assert not runs(orphan)
    assert json.loads(functions.invoke(FunctionName="worker")["Payload"].read()) != orphan


def test_damaged_state_starts_fresh_and_says_so(emulator: OwnEmulator) -> None:
    emulator.start()
    emulator.client("iam").create_user(UserName="carol")
    emulator.stop()
    next((emulator.home / "cloud" / "state").glob("*/iam.json")).write_text("{}")

    health = emulator.start()

    assert health["state"] == "fresh"
    assert "damaged: iam" in health["state_reason"]
    assert emulator.client("iam").list_users()["Users"] == []


def test_state_that_a_part_refuses_starts_fresh(emulator: OwnEmulator) -> None:
    emulator.start()
    emulator.client("iam").create_user(UserName="carol")
    emulator.stop()
    state = emulator.home / "cloud" / "state"
    part = next(state.glob("*/iam.json"))
    part.write_text("[1]")
    manifest = part.parent / "manifest.json"
    described = json.loads(manifest.read_text())
    described["parts"]["iam"] = hashlib.sha256(part.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(described))

    assert emulator.start()["state"] == "fresh"
    assert emulator.client("iam").list_users()["Users"] == []


def test_a_stop_ends_every_function_process(emulator: OwnEmulator) -> None:
    emulator.start()
    role = emulator.make_role("worker", "lambda.amazonaws.com", allow("logs:*"))
    code = "import os\ndef handler(event, context): return os.getpid()"
    emulator.make_function("worker", role, {"app.py": code})
    pid = json.loads(emulator.client("lambda").invoke(FunctionName="worker")["Payload"].read())

    assert emulator.stop() == 0
    assert not runs(pid)
    assert not (emulator.home / "cloud" / "cloud.pid").exists()


def test_expired_rows_vanish(running: OwnEmulator, bucket: str) -> None:
    """The last one: the emulator looks once a minute."""

    def left() -> set[str]:
        return {item["pk"]["S"] for item in running.client("dynamodb").scan(TableName="rows")["Items"]}

    wait_for(lambda: left() == {"young"})
