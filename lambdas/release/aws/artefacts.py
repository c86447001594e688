"""The artefacts bucket, by `s3://` URIs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError

from lambdas.release.aws.clients import code_of
from lambdas.release.errors import ArtefactIncompleteError, BadInputError

_PIECE_BYTES = 1 << 20
_MISSING = {"NoSuchKey", "404", "NotFound"}
_LARGEST_READ = 64 << 20


class ArtefactFiles:
    """Objects of the bucket `bucket`, and of no other."""

    def __init__(self, bucket: str, s3: Any) -> None:
        self._bucket = bucket
        self._s3 = s3

    def read(self, uri: str) -> bytes:
        """A small object. Raises FileNotFoundError; BadInputError for another bucket or over 64 MiB."""
        reply = self._get(uri)
        if reply["ContentLength"] > _LARGEST_READ:
            raise BadInputError(f"{uri} is larger than {_LARGEST_READ >> 20} MiB.")
        content: bytes = reply["Body"].read()
        return content

    def sha256(self, uri: str) -> str:
        """An object's SHA-256 in hex. Raises FileNotFoundError."""
        digest = hashlib.sha256()
        for piece in self._get(uri)["Body"].iter_chunks(_PIECE_BYTES):
            digest.update(piece)
        return digest.hexdigest()

    def sizes(self, prefix_uri: str) -> dict[str, int]:
        """Bytes of each object under a prefix, by its path relative to the prefix."""
        return {path: entry["Size"] for path, entry in self._listed(prefix_uri)}

    def tags(self, prefix_uri: str) -> dict[str, str]:
        """Entity tag of each object with content under a prefix, by its path; other content has another."""
        return {path: entry["ETag"] for path, entry in self._listed(prefix_uri) if entry["Size"]}

    def copied(self, prefix_uri: str) -> bool:
        """Whether S3 has copied all objects under a prefix. Raises ArtefactIncompleteError if it cannot."""
        arrived = True
        for path in self.sizes(prefix_uri):
            key = self._key(prefix_uri) + path
            status = self._s3.head_object(Bucket=self._bucket, Key=key).get("ReplicationStatus")
            if status in (None, "FAILED"):
                why = "S3 could not copy it" if status else "it is older than the copying"
                raise ArtefactIncompleteError(f"{key} is not in the second region: {why}.")
            arrived = arrived and status == "COMPLETED"
        return arrived

    def _listed(self, prefix_uri: str) -> Iterator[tuple[str, dict[str, Any]]]:
        prefix = self._key(prefix_uri)
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        for page in pages:
            for entry in page.get("Contents", []):
                yield entry["Key"].removeprefix(prefix), entry

    def _get(self, uri: str) -> dict[str, Any]:
        try:
            reply: dict[str, Any] = self._s3.get_object(Bucket=self._bucket, Key=self._key(uri))
        except ClientError as error:
            if code_of(error) in _MISSING:
                raise FileNotFoundError(uri) from None
            raise
        return reply

    def _key(self, uri: str) -> str:
        home = f"s3://{self._bucket}/"
        if not uri.startswith(home):
            raise BadInputError(f"{uri} does not lie in the artefacts bucket.")
        return uri.removeprefix(home)
