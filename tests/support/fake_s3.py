"""A bucket in memory behind boto3's own client: conditional writes, uploads in parts and their checksums.

As S3 documents them; what a test does not need is not here. The clock is the test's.
"""

from __future__ import annotations

import base64
import email.utils
import hashlib
import io
import itertools
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import boto3
from botocore.awsrequest import AWSResponse
from botocore.response import StreamingBody

from tests.support.recorded_aws import Refusal

NOW = 1_800_000_000.0


@dataclass
class FakeS3:
    """Objects by key, unfinished uploads by id; `part_limit` is after how many parts a call fails."""

    now: float = NOW
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    uploads: dict[str, dict[str, Any]] = field(default_factory=dict)
    part_limit: int | None = None
    _ids: Any = field(default_factory=itertools.count)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def client(self, *_: Any, **__: Any) -> Any:
        """A client whose calls end here."""
        client = boto3.client(
            "s3", region_name="us-east-1", aws_access_key_id="fake", aws_secret_access_key="fake"
        )

        def remember(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
            context["asked"] = dict(params)
            body: Any = params.get("Body")
            if hasattr(body, "read"):  # boto3 makes files of bytes
                context["asked"]["Body"] = body.read()
                body.seek(0)

        def answer(model: Any, context: dict[str, Any], **_: Any) -> tuple[AWSResponse, dict[str, Any]]:
            with self._lock:
                found = getattr(self, f"_{model.name}")(context["asked"])
            status = 400 if isinstance(found, Refusal) else 200
            date = email.utils.formatdate(self.now, usegmt=True)
            metadata = {"HTTPStatusCode": status, "HTTPHeaders": {"date": date}}
            if isinstance(found, Refusal):
                found = {"Error": {"Code": found.code, "Message": found.message}}
            return AWSResponse("https://fake", status, {}, None), found | {"ResponseMetadata": metadata}

        client.meta.events.register_first("before-parameter-build.s3", remember)
        client.meta.events.register_first("before-call.s3", answer)
        return client

    def _PutObject(self, asked: dict[str, Any]) -> dict[str, Any] | Refusal:
        there = self.objects.get(asked["Key"])
        if asked.get("IfNoneMatch") == "*" and there is not None:
            return Refusal("PreconditionFailed")
        if "IfMatch" in asked and (there is None or there["ETag"] != asked["IfMatch"]):
            return Refusal("PreconditionFailed" if there else "NoSuchKey")
        wrong = asked.get("ChecksumSHA256") not in (None, checksum(asked["Body"]))
        return Refusal("BadDigest") if wrong else {"ETag": self._keep(asked, asked["Body"])}

    def _GetObject(self, asked: dict[str, Any]) -> dict[str, Any] | Refusal:
        found = self.objects.get(asked["Key"])
        if found is None:
            return Refusal("NoSuchKey")
        body = StreamingBody(io.BytesIO(found["Body"]), len(found["Body"]))
        return found | {"Body": body, "LastModified": found["LastModified"]}

    def _HeadObject(self, asked: dict[str, Any]) -> dict[str, Any] | Refusal:
        found = self.objects.get(asked["Key"])
        if found is None:
            return Refusal("404")
        return {"ContentLength": len(found["Body"]), "Metadata": found["Metadata"]}

    def _DeleteObject(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.objects.pop(asked["Key"], None)
        return {}

    def _CreateMultipartUpload(self, asked: dict[str, Any]) -> dict[str, Any]:
        upload = f"upload-{next(self._ids)}"
        self.uploads[upload] = asked | {"parts": {}}
        return {"UploadId": upload}

    def _UploadPart(self, asked: dict[str, Any]) -> dict[str, Any] | Refusal:
        parts, body = self.uploads[asked["UploadId"]]["parts"], asked["Body"]
        if self.part_limit is not None and len(parts) >= self.part_limit:
            return Refusal("SlowDown", "the connection is gone")
        if asked["ChecksumSHA256"] != checksum(body):
            return Refusal("BadDigest")
        part = {"ETag": f'"{hashlib.sha256(body).hexdigest()[:32]}"', "Size": len(body), "Body": body}
        parts[asked["PartNumber"]] = part | {"ChecksumSHA256": asked["ChecksumSHA256"]}
        return {"ETag": part["ETag"]}

    def _ListMultipartUploads(self, asked: dict[str, Any]) -> dict[str, Any]:
        known = [
            {"Key": upload["Key"], "UploadId": name, "Initiated": datetime.fromtimestamp(self.now, UTC)}
            for name, upload in self.uploads.items()
            if upload["Key"].startswith(asked.get("Prefix", ""))
        ]
        return {"Uploads": known, "IsTruncated": False}

    def _ListParts(self, asked: dict[str, Any]) -> dict[str, Any]:
        parts = self.uploads[asked["UploadId"]]["parts"]
        return {
            "Parts": [
                {"PartNumber": n} | {k: v for k, v in p.items() if k != "Body"} for n, p in parts.items()
            ],
            "IsTruncated": False,
        }

    def _CompleteMultipartUpload(self, asked: dict[str, Any]) -> dict[str, Any] | Refusal:
        upload = self.uploads[asked["UploadId"]]
        named = asked["MultipartUpload"]["Parts"]
        if [part["PartNumber"] for part in named] != sorted(upload["parts"]):
            return Refusal("InvalidPartOrder")
        if any(upload["parts"][part["PartNumber"]]["ETag"] != part["ETag"] for part in named):
            return Refusal("InvalidPart")
        del self.uploads[asked["UploadId"]]
        body = b"".join(upload["parts"][part["PartNumber"]]["Body"] for part in named)
        return {"ETag": self._keep(upload, body)}

    def _AbortMultipartUpload(self, asked: dict[str, Any]) -> dict[str, Any]:
        del self.uploads[asked["UploadId"]]
        return {}

    def _keep(self, asked: dict[str, Any], body: bytes) -> str:
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        modified = datetime.fromtimestamp(self.now, UTC)
        values = {"Body": body, "ETag": etag, "LastModified": modified, "Metadata": asked.get("Metadata", {})}
        self.objects[asked["Key"]] = values
        return etag


def checksum(body: bytes) -> str:
    """SHA-256 as S3 writes it."""
    return base64.b64encode(hashlib.sha256(body).digest()).decode()
