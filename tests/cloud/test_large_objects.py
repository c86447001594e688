"""Large S3 objects take another way through the emulator than small ones: the same bytes and refusals."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.support.emulator import OwnEmulator

SIZE = 20 * 1024 * 1024


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnEmulator]:
    cloud = OwnEmulator(Path(tmp_path_factory.mktemp("objects")))
    cloud.start()
    yield cloud
    cloud.stop()


def test_large_objects_arrive_whole_however_they_travel(emulator: OwnEmulator) -> None:
    s3, body = emulator.client("s3"), random.Random(1).randbytes(SIZE)
    s3.create_bucket(Bucket="large-objects")
    s3.put_object(Bucket="large-objects", Key="at-once", Body=body, Metadata={"kind": "weights"})
    s3.upload_fileobj(io.BytesIO(body), "large-objects", "in-parts")
    s3.copy_object(
        Bucket="large-objects", Key="copied", CopySource={"Bucket": "large-objects", "Key": "in-parts"}
    )
    for key in ("at-once", "in-parts", "copied"):
        assert s3.get_object(Bucket="large-objects", Key=key)["Body"].read() == body
    assert s3.head_object(Bucket="large-objects", Key="at-once")["Metadata"] == {"kind": "weights"}
    part = s3.get_object(Bucket="large-objects", Key="copied", Range="bytes=5-9")["Body"].read()
    assert part == body[5:10]
    assert (emulator.home / "cloud" / "s3").is_dir()


def test_a_refusal_stays_a_refusal(emulator: OwnEmulator) -> None:
    iam = emulator.client("iam")
    iam.create_user(UserName="nobody")
    key = iam.create_access_key(UserName="nobody")["AccessKey"]
    s3 = emulator.client(
        "s3", aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"]
    )
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket="large-objects", Key="x", Body=bytes(SIZE))
    assert caught.value.response["Error"]["Code"] == "AccessDenied"
    with pytest.raises(ClientError) as caught:
        emulator.client("s3").put_object(Bucket="no-such-bucket", Key="x", Body=bytes(SIZE))
    assert caught.value.response["Error"]["Code"] == "NoSuchBucket"
