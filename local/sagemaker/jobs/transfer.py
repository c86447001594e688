"""Files between S3 and a job's folder, with the job's own role. Blocking: run it on a thread.

Failures are raised as TransferError in the words in which the service puts them into FailureReason.
"""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError

from local.sagemaker.instances.model_data import (
    ModelDataError,
    list_objects,
    relative_path,
    s3_prefix,
    unpack,
)


class TransferError(Exception):
    """Why files could not be moved; the message begins with `ClientError:`, as it is the caller's matter."""


@dataclass(frozen=True)
class Transfer:
    """One job's way to S3."""

    client: Any
    key_id: str | None = None

    def download(self, uri: str, folder: Path, what: str) -> int:
        """Every object whose key begins with a prefix; `what` names the input in failures. How many."""
        source = s3_prefix(uri)
        with _explained(f"Data download failed for {what}"):
            objects = list_objects(self.client, source)
            if not objects:
                raise TransferError(
                    f'ClientError: Data download failed:NoSuchKey: No S3 objects found under S3 URL "{uri}" '
                    f"given in {what}. Please ensure that the bucket exists in the selected region, that "
                    "objects exist under that S3 prefix, and that the role has permission for them."
                )
            folder.mkdir(parents=True, exist_ok=True)
            for item in objects:
                path = folder / relative_path(item["Key"], source.key)
                path.parent.mkdir(parents=True, exist_ok=True)
                self.client.download_file(source.bucket, item["Key"], str(path))
        return len(objects)

    def restore(self, uri: str, folder: Path) -> None:
        """Objects of an earlier run, if there are any."""
        source = s3_prefix(_as_folder(uri))
        with _explained("Checkpoint download failed"):
            if list_objects(self.client, source):
                self.download(_as_folder(uri), folder, "CheckpointConfig")

    def download_archive(self, uri: str, folder: Path) -> None:
        """Unpack a tar.gz object into a folder."""
        source = s3_prefix(uri)
        with _explained(f"Could not fetch {uri}"):
            folder.mkdir(parents=True, exist_ok=True)
            archive = folder / "sourcedir.tar.gz"
            self.client.download_file(source.bucket, source.key, str(archive))
            unpack(archive, folder)

    def upload_folder(self, folder: Path, uri: str) -> int:
        """Every file below a folder, to keys below a prefix; the number of files."""
        target = s3_prefix(_as_folder(uri))
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
        with _explained(f"Data upload to {uri} failed"):
            for path in files:
                self._upload(path, target.bucket, target.key + path.relative_to(folder).as_posix())
        return len(files)

    def upload_changes(self, folder: Path, uri: str, seen: dict[Path, tuple[float, int]]) -> None:
        """Upload the files that are new or different since the last call with this `seen`."""
        target = s3_prefix(_as_folder(uri))
        with _explained(f"Checkpoint upload to {uri} failed"):
            for path in sorted(folder.rglob("*")):
                try:
                    state = path.stat()
                except FileNotFoundError:
                    continue  # replaced or removed while we looked: the next round sees
                stamp = (state.st_mtime, state.st_size)
                if path.is_file() and seen.get(path) != stamp:
                    self._upload(path, target.bucket, target.key + path.relative_to(folder).as_posix())
                    seen[path] = stamp

    def upload_archive(self, folder: Path, uri: str, scratch: Path) -> None:
        """A folder's content as one tar.gz object."""
        target = s3_prefix(uri)
        with (
            _explained(f"Data upload to {uri} failed"),
            tempfile.NamedTemporaryFile(dir=scratch, suffix=".tar.gz") as file,
        ):
            with tarfile.open(fileobj=file, mode="w:gz") as archive:
                for path in sorted(folder.iterdir()):
                    archive.add(path, arcname=path.name)
            file.flush()
            self._upload(Path(file.name), target.bucket, target.key)

    def _upload(self, path: Path, bucket: str, key: str) -> None:
        encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self.key_id} if self.key_id else {}
        self.client.upload_file(str(path), bucket, key, ExtraArgs=encryption)


@contextmanager
def _explained(context: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
        raise TransferError(f"ClientError: {context}: {code}: {message}") from error
    except ModelDataError as error:
        raise TransferError(f"ClientError: {context}: {error}") from error
    except (Boto3Error, BotoCoreError, OSError, tarfile.TarError) as error:
        # Boto3Error: transfers wrap a refusal in an error of their own, whose text tells the code.
        raise TransferError(f"ClientError: {context}: {error}") from error


def _as_folder(uri: str) -> str:
    return uri if uri.endswith("/") else f"{uri}/"
