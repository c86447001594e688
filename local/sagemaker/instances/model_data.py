"""Fetches a model's data from S3 with its execution role, once per content.

A cached folder is named by the digest of the objects' keys, ETags and sizes, appears by one rename when it is
complete, and is never changed after. Blocking: run it on a thread.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from contracts.archives import extract
from local.sagemaker.ports import RoleCredentials
from local.sagemaker.records import ContainerDefinition, JsonObject

MAX_OBJECTS = 10_000
MAX_BYTES = 64 * 1024**3
KEPT_UNUSED = 4
"""Fetched models that no endpoint uses and that are kept all the same, the latest used ones."""

_PARTIAL = ".partial-"
_DENIED = {"AccessDenied", "403", "Forbidden", "AllAccessDisabled", "AccessDeniedException"}
_MISSING = {"NoSuchKey", "NoSuchBucket", "404", "NotFound"}

S3Factory = Callable[[RoleCredentials], Any]


class ModelDataError(Exception):
    """Why a model's data could not be had, in the service's words."""


@dataclass(frozen=True)
class S3DataSource:
    """Where a model's data lies. `gzip`: one tar.gz object, otherwise every object under the prefix."""

    bucket: str
    key: str
    gzip: bool

    @property
    def uri(self) -> str:
        """As the caller wrote it."""
        return f"s3://{self.bucket}/{self.key}"


def data_source_of(container: ContainerDefinition) -> S3DataSource | None:
    """The data source of a container definition; None when it brings its model in the image."""
    data = container.get("ModelDataSource", {}).get("S3DataSource")
    if data:
        return _source(data["S3Uri"], data["CompressionType"] == "Gzip")
    if container.get("ModelDataUrl"):
        return s3_archive(container["ModelDataUrl"])
    return None


def s3_prefix(uri: str) -> S3DataSource:
    """Everything under a prefix `s3://bucket/prefix`."""
    return _source(uri, False)


def s3_archive(uri: str) -> S3DataSource:
    """The one tar.gz object `s3://bucket/key`."""
    return _source(uri, True)


def _source(uri: str, gzip: bool) -> S3DataSource:
    parts = urlsplit(uri)
    return S3DataSource(parts.netloc, parts.path.lstrip("/"), gzip)


@dataclass(frozen=True)
class ModelDataCache:
    """The folder of fetched models. `s3` makes a client from an execution role's credentials."""

    folder: Path
    s3: S3Factory
    region: str
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def fetch(self, source: S3DataSource, role_arn: str, credentials: RoleCredentials) -> Path:
        """The local folder holding a model's files. Raises ModelDataError.

        The role's right to list and to read is exercised every time, so that a cached copy grants nothing.
        """
        client = self.s3(credentials)
        try:
            objects = list_objects(client, source)
            if not objects:
                raise ModelDataError(f"Could not find model data at {source.uri}.")
            _read_first_byte(client, source.bucket, objects[0])
            target = self.folder / _digest(source, objects)
            if not self._touch(target):
                self._download(client, source, objects, target)
            return target
        except ClientError as error:
            raise ModelDataError(self._explain(error, source, role_arn)) from error
        except (BotoCoreError, OSError, tarfile.TarError) as error:
            raise ModelDataError(f"Failed to download model data from {source.uri}: {error}") from error

    def prune(self, in_use: set[Path]) -> None:
        """Remove the models that were used longest ago, apart from those in use and a few more."""
        with self._lock:
            whole = [path for path in self.folder.glob("[!.]*") if path not in in_use]
            whole.sort(key=lambda path: path.stat().st_mtime, reverse=True)
            for path in whole[KEPT_UNUSED:]:
                shutil.rmtree(path, ignore_errors=True)

    def _touch(self, target: Path) -> bool:
        """Whether the folder is there; if so it counts as just used, and is safe from `prune`."""
        with self._lock:
            if target.is_dir():
                os.utime(target)
                return True
            return False

    def _download(self, client: Any, source: S3DataSource, objects: list[JsonObject], target: Path) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=self.folder))
        try:
            for item in objects:
                name = "model.tar.gz" if source.gzip else relative_path(item["Key"], source.key)
                path = partial / name
                path.parent.mkdir(parents=True, exist_ok=True)
                client.download_file(source.bucket, item["Key"], str(path))
            if source.gzip:
                unpack(partial / "model.tar.gz", partial)
            partial.rename(target)
        except OSError:
            # Another instance of the same model may have put the folder there first.
            if not target.is_dir():
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _explain(self, error: ClientError, source: S3DataSource, role_arn: str) -> str:
        code = error.response["Error"]["Code"]
        if code in _DENIED:
            return (
                f'Could not access model data at {source.uri}. Please ensure that the role "{role_arn}" '
                'exists and that its trust relationship policy allows the action "sts:AssumeRole" for the '
                'service principal "sagemaker.amazonaws.com". Also ensure that the role has "s3:GetObject" '
                f"permissions and that the object is located in {self.region}."
            )
        if code in _MISSING:
            return f"Could not find model data at {source.uri}."
        return f"Failed to download model data from {source.uri}: {error}"


def _read_first_byte(client: Any, bucket: str, item: JsonObject) -> None:
    """Exercise the right to read an object, and to use its key."""
    part = {"Range": "bytes=0-0"} if item["Size"] else {}
    client.get_object(Bucket=bucket, Key=item["Key"], **part)["Body"].close()


def list_objects(client: Any, source: S3DataSource) -> list[JsonObject]:
    """Key, ETag and Size of each object of a source. Raises ModelDataError above the limits."""
    if source.gzip:
        head = client.head_object(Bucket=source.bucket, Key=source.key)
        return [{"Key": source.key, "ETag": head["ETag"], "Size": head["ContentLength"]}]
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=source.bucket, Prefix=source.key)
    objects = [item for page in pages for item in page.get("Contents", []) if not item["Key"].endswith("/")]
    if len(objects) > MAX_OBJECTS or sum(item["Size"] for item in objects) > MAX_BYTES:
        raise ModelDataError(
            f"Model data at {source.uri} is too large: at most {MAX_OBJECTS} objects and {MAX_BYTES} bytes."
        )
    return objects


def _digest(source: S3DataSource, objects: list[JsonObject]) -> str:
    digest = hashlib.sha256(str(source.gzip).encode())
    for item in sorted(objects, key=lambda item: item["Key"]):
        name = relative_path(item["Key"], "" if source.gzip else source.key)
        digest.update(f"\0{name}\0{item['ETag']}\0{item['Size']}".encode())
    return digest.hexdigest()


def relative_path(key: str, prefix: str) -> str:
    """An object's path below its prefix; a key that would leave the folder is refused."""
    name = key[len(prefix) :].lstrip("/") or PurePosixPath(key).name
    if ".." in PurePosixPath(name).parts:
        raise ModelDataError(f"The object key {key} cannot be a file of a model.")
    return name


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar.gz, without following it out of the folder, and remove it. Raises ModelDataError."""
    with tarfile.open(archive, "r:gz") as tar:
        members = list(_within_limits(tar))
        extract(tar, folder, members)
    archive.unlink()


def _within_limits(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    total = 0
    for count, member in enumerate(tar, start=1):
        total += member.size
        if count > MAX_OBJECTS or total > MAX_BYTES:
            raise ModelDataError(
                f"The model archive unpacks to more than {MAX_OBJECTS} files or {MAX_BYTES} bytes."
            )
        yield member
