"""An upload that was interrupted sends only what is missing, and never anything else than was described."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from contracts.artefact import ArtefactError, ArtefactFile, file_sha256
from operations.upload import MINIMUM_PART_BYTES, Progress, Uploader
from tests.support.fake_s3 import FakeS3, checksum

PARTS = 6


@pytest.fixture
def weights(tmp_path: Path) -> tuple[Path, ArtefactFile]:
    path = tmp_path / "weights"
    path.write_bytes(random.Random(7).randbytes(PARTS * MINIMUM_PART_BYTES - 1000))
    return path, ArtefactFile(path="weights", bytes=path.stat().st_size, sha256=file_sha256(path))


def upload(s3: FakeS3, path: Path, entry: ArtefactFile) -> int:
    """Uploads under `key`; returns the bytes that were sent."""
    progress = Progress(entry.bytes, print)
    Uploader(s3.client(), "bucket", progress, MINIMUM_PART_BYTES).upload(path, entry, "key")
    return progress.sent_bytes


def test_what_an_interrupted_upload_has_sent_is_not_sent_again(weights: tuple[Path, ArtefactFile]) -> None:
    path, entry = weights
    s3 = FakeS3(part_limit=4)
    with pytest.raises(ClientError):
        upload(s3, path, entry)
    assert len(s3.uploads) == 1
    s3.part_limit = None
    assert upload(s3, path, entry) == entry.bytes - 4 * MINIMUM_PART_BYTES
    assert s3.objects["key"]["Body"] == path.read_bytes()
    assert not s3.uploads
    assert upload(s3, path, entry) == 0


def test_parts_of_another_file_or_size_are_not_taken_over(weights: tuple[Path, ArtefactFile]) -> None:
    path, entry = weights
    for body in (bytes(MINIMUM_PART_BYTES), bytes(MINIMUM_PART_BYTES + 1)):
        s3 = FakeS3()
        made = s3.client().create_multipart_upload(Bucket="bucket", Key="key", ChecksumAlgorithm="SHA256")
        s3.client().upload_part(
            Bucket="bucket", Key="key", UploadId=made["UploadId"], PartNumber=1, Body=body,
            ChecksumSHA256=checksum(body),
        )  # fmt: skip
        assert upload(s3, path, entry) == entry.bytes
        assert s3.objects["key"]["Body"] == path.read_bytes()
        assert not s3.uploads


@pytest.mark.parametrize("large", [True, False])
def test_a_file_that_changed_meanwhile_is_not_stored(weights: tuple[Path, ArtefactFile], large: bool) -> None:
    path, entry = weights
    if not large:
        path.write_bytes(b"small")
        entry = ArtefactFile(path="weights", bytes=5, sha256=file_sha256(path))
    with path.open("r+b") as file:
        file.write(b"!")
    s3 = FakeS3()
    with pytest.raises(ArtefactError, match="was changed"):
        upload(s3, path, entry)
    assert not s3.objects
    assert not s3.uploads
