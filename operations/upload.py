"""Puts a folder's files into S3 so that an upload that was killed goes on where it stopped.

Large files go up in parts; S3 keeps the parts of an unfinished upload and tells their checksums, so a second
run sends only what is missing. Every part and every whole file is checked against SHA-256 on both sides.
"""

from __future__ import annotations

import base64
import concurrent.futures
import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from contracts.artefact import ArtefactError, ArtefactFile
from operations.aws_errors import code_of

MINIMUM_PART_BYTES = 5 << 20
"""S3's least part, but for the last one."""
PART_BYTES = 32 << 20
_MOST_PARTS = 10_000
_THREADS = 8
_SHOW_SECONDS = 10.0
_DIGEST = "sha256"
"""The metadata key under which each object carries its file's digest."""


class Progress:
    """Tells how far an upload is, every ten seconds: bytes, rate, time left."""

    def __init__(self, total_bytes: int, say: Callable[[str], None]) -> None:
        self._total, self._say = total_bytes, say
        self._started = self._shown = time.monotonic()
        self._done = self._sent = 0

    def add(self, count: int, *, sent: bool) -> None:
        """Bytes that are there now; `sent` where they were transferred in this run."""
        self._done += count
        self._sent += count if sent else 0
        now = time.monotonic()
        if now - self._shown < _SHOW_SECONDS:
            return
        self._shown = now
        rate = self._sent / (now - self._started)
        left = f", {(self._total - self._done) / rate:.0f} s left" if rate else ""
        self._say(f"{self._done / 1e6:.0f} of {self._total / 1e6:.0f} MB, {rate / 1e6:.0f} MB/s{left}")

    @property
    def sent_bytes(self) -> int:
        """Bytes transferred in this run."""
        return self._sent


class Uploader:
    """Uploads files to one bucket.

    Args:
        s3: A boto3 client.
        bucket: Name of the bucket.
        progress: Told of every part.
        part_bytes: Size of a part; made larger where a file would have more than S3's 10,000.
    """

    def __init__(self, s3: Any, bucket: str, progress: Progress, part_bytes: int = PART_BYTES) -> None:
        self._s3, self._bucket, self._progress, self._part_bytes = s3, bucket, progress, part_bytes

    def upload(self, path: Path, entry: ArtefactFile, key: str) -> None:
        """Leaves the file under `key`. Raises ArtefactError where its bytes are not those of `entry`."""
        if self._is_there(key, entry):
            self._progress.add(entry.bytes, sent=False)
        elif entry.bytes <= self._part_bytes:
            self._put(path, entry, key)
        else:
            self._upload_parts(path, entry, key)

    def _is_there(self, key: str, entry: ArtefactFile) -> bool:
        try:
            found = self._s3.head_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            if code_of(error) in ("404", "NoSuchKey", "NotFound"):
                return False
            raise
        return bool(found["ContentLength"] == entry.bytes and found["Metadata"].get(_DIGEST) == entry.sha256)

    def _put(self, path: Path, entry: ArtefactFile, key: str) -> None:
        body = path.read_bytes()
        if hashlib.sha256(body).hexdigest() != entry.sha256:
            raise _changed(path)
        checksum = base64.b64encode(bytes.fromhex(entry.sha256)).decode()
        metadata = {_DIGEST: entry.sha256}
        self._s3.put_object(
            Bucket=self._bucket, Key=key, Body=body, ChecksumSHA256=checksum, Metadata=metadata
        )
        self._progress.add(entry.bytes, sent=True)

    def _upload_parts(self, path: Path, entry: ArtefactFile, key: str) -> None:
        size = max(self._part_bytes, MINIMUM_PART_BYTES, -(-entry.bytes // _MOST_PARTS))
        upload, there = self._resumed(key, size, entry)
        digest, parts = hashlib.sha256(), []
        with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
            sending: list[concurrent.futures.Future[dict[str, Any]]] = []
            for number, body in enumerate(_pieces(path, size), start=1):
                digest.update(body)
                checksum = base64.b64encode(hashlib.sha256(body).digest()).decode()
                known = there.get(number)
                if known is not None and known.get("ChecksumSHA256") == checksum:
                    parts.append(_part(number, known))
                    self._progress.add(len(body), sent=False)
                    continue
                if len(sending) >= _THREADS:  # no more than these in memory
                    parts.append(sending.pop(0).result())
                sending.append(pool.submit(self._send, key, upload, number, body, checksum))
            parts += [future.result() for future in sending]
        if digest.hexdigest() != entry.sha256:
            self._s3.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload)
            raise _changed(path)
        self._s3.complete_multipart_upload(
            Bucket=self._bucket,
            Key=key,
            UploadId=upload,
            MultipartUpload={"Parts": sorted(parts, key=lambda part: int(part["PartNumber"]))},
        )

    def _send(self, key: str, upload: str, number: int, body: bytes, checksum: str) -> dict[str, Any]:
        done = self._s3.upload_part(
            Bucket=self._bucket,
            Key=key,
            UploadId=upload,
            PartNumber=number,
            Body=body,
            ChecksumSHA256=checksum,
        )
        self._progress.add(len(body), sent=True)
        return _part(number, {"ETag": done["ETag"], "ChecksumSHA256": checksum})

    def _resumed(self, key: str, size: int, entry: ArtefactFile) -> tuple[str, dict[int, dict[str, Any]]]:
        """The id of an unfinished upload of this key with its parts, or of a new one with none."""
        pages = self._s3.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=key)
        unfinished = [found for page in pages for found in page.get("Uploads", []) if found["Key"] == key]
        for found in sorted(unfinished, key=lambda upload: str(upload["Initiated"]), reverse=True):
            upload = str(found["UploadId"])
            parts = self._parts(key, upload)
            if all(part["Size"] == _size(number, size, entry.bytes) for number, part in parts.items()):
                return upload, parts
            self._s3.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload)
        made = self._s3.create_multipart_upload(
            Bucket=self._bucket, Key=key, ChecksumAlgorithm="SHA256", Metadata={_DIGEST: entry.sha256}
        )
        return str(made["UploadId"]), {}

    def _parts(self, key: str, upload: str) -> dict[int, dict[str, Any]]:
        pages = self._s3.get_paginator("list_parts").paginate(Bucket=self._bucket, Key=key, UploadId=upload)
        return {int(part["PartNumber"]): part for page in pages for part in page.get("Parts", [])}


def _pieces(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while body := stream.read(size):
            yield body


def _size(number: int, size: int, total: int) -> int:
    """How many bytes a part must have."""
    return max(0, min(size, total - (number - 1) * size))


def _part(number: int, known: dict[str, Any]) -> dict[str, Any]:
    return {"PartNumber": number, "ETag": known["ETag"], "ChecksumSHA256": known["ChecksumSHA256"]}


def _changed(path: Path) -> ArtefactError:
    return ArtefactError(f"{path} was changed while it was uploaded: run the same command again.")
