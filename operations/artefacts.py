"""Model artefacts of an environment: where they are stored, and which one was uploaded last.

`model` stores an artefact and writes down where; `preflight` and `deploy` read that. The artefact is named by
its manifest's digest, and its manifest goes up last: where it is, everything is.
"""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from pydantic import BaseModel, ConfigDict

from contracts.artefact import MANIFEST_NAME, ArtefactError, ArtefactFile, Manifest, file_sha256
from operations.aws_errors import code_of
from operations.model_places import ModelPlace, place_of, places
from operations.progress import Step
from operations.stacks import stack_output
from operations.target import Target
from operations.upload import MINIMUM_PART_BYTES, PART_BYTES, Progress, Uploader

ARCHIVE = "model.tar.gz"
_VERSION_DIGITS = 12
_NAME_CHARACTERS = 50
"""What a version keeps of the name: SageMaker and the stack's parameter take 63 in all."""
_NOT_THERE = ("404", "NoSuchKey", "NotFound", "NoSuchBucket")


class UploadedModel(BaseModel):
    """An artefact in the environment's bucket.

    `uris` are S3 prefixes, or archives for serverless endpoints, by region, the first one first; `version`
    is what records and metrics carry.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    digest: str
    version: str
    uris: dict[str, str]


def store(
    target: Target, folder: Path, manifest: Manifest, step: Step, place: ModelPlace | None = None
) -> UploadedModel:
    """Uploads a folder that has its manifest into the buckets of the regions that serve the model, and writes
    it down as the last one.

    Raises ArtefactError where a file is missing or is not what the manifest says.
    """
    place = place or place_of(target, None)
    uris = {
        region: _upload(target, region, folder, manifest, step, packed=place.packed)
        for region in regions_of(target, place)
    }
    model = UploadedModel(
        name=manifest.name,
        digest=manifest.digest,
        version=f"{manifest.name[:_NAME_CHARACTERS]}-{manifest.digest[:_VERSION_DIGITS]}",
        uris=uris,
    )
    target.client("ssm").put_parameter(
        Name=place.note,
        Value=model.model_dump_json(),
        Type="String",
        Overwrite=True,
        Description="The model artefact that was uploaded last",
    )
    return model


def regions_of(target: Target, place: ModelPlace) -> list[str]:
    """Where a model is served: in the second region only the environment's own is."""
    return target.regions if place.is_own else [target.region]


def last_uploaded(target: Target, place: ModelPlace | None = None) -> UploadedModel | None:
    """The artefact that `store` wrote down last of a model, or the own one; None where there was none."""
    place = place or place_of(target, None)
    try:
        found = target.client("ssm").get_parameter(Name=place.note)
    except ClientError as error:
        if code_of(error) == "ParameterNotFound":
            return None
        raise
    return UploadedModel.model_validate_json(found["Parameter"]["Value"])


def forget_last_uploaded(target: Target) -> None:
    """Takes the notes of `store` back, once the bucket is not the environment's any more."""
    for place in places(target):
        try:
            target.client("ssm").delete_parameter(Name=place.note)
        except ClientError as error:
            if code_of(error) != "ParameterNotFound":
                raise


def stored_manifest(s3: Any, uri: str) -> Manifest | None:
    """The manifest of the artefact at an S3 prefix, or beside an archive; None where there is none."""
    bucket, _, prefix = uri.removeprefix("s3://").removesuffix(ARCHIVE).partition("/")
    try:
        body = s3.get_object(Bucket=bucket, Key=prefix + MANIFEST_NAME)["Body"].read()
    except ClientError as error:
        if code_of(error) in _NOT_THERE:
            return None
        raise
    return Manifest.model_validate_json(body)


def bucket_of(target: Target, region: str) -> str:
    """The artefacts' bucket in one of the regions. Raises StackError before its stack exists."""
    second = target.settings.failover
    if second is not None and region == second.region:
        return second.bucket_name(target.settings.prefix, target.account)
    return stack_output(target.client("cloudformation"), target.name, "data", "ArtefactsBucketName")


def _upload(
    target: Target, region: str, folder: Path, manifest: Manifest, step: Step, *, packed: bool
) -> str:
    s3, bucket = target.client("s3", region), bucket_of(target, region)
    prefix = f"models/{manifest.name}/{manifest.digest}/"
    uri = f"s3://{bucket}/{prefix}{ARCHIVE if packed else ''}"
    total = sum(entry.bytes for entry in manifest.files)
    found = stored_manifest(s3, uri)
    if found is not None and found.digest == manifest.digest:
        step.note = "already there"
        return uri
    progress = Progress(total, step.say)
    part_bytes = MINIMUM_PART_BYTES if target.is_laptop else PART_BYTES
    uploader = Uploader(s3, bucket, progress, part_bytes)
    for path, entry in _packed(folder, manifest) if packed else _single(folder, manifest):
        uploader.upload(path, entry, prefix + entry.path)
    uploader.upload(*_described(folder / MANIFEST_NAME), prefix + MANIFEST_NAME)
    kept = 0 if packed else total - progress.sent_bytes
    step.note = f"{total / 1e6:.0f} MB" + (f", {kept / 1e6:.0f} MB were there" if kept > 0 else "")
    return uri


def _single(folder: Path, manifest: Manifest) -> Iterator[tuple[Path, ArtefactFile]]:
    """The manifest's files, each where it is and as long as the manifest says."""
    for entry in manifest.files:
        path = folder / entry.path
        if not path.is_file() or path.stat().st_size != entry.bytes:
            raise ArtefactError(
                f"{path} is missing or not as large as its manifest says: run `make model` again."
            )
        yield path, entry


def _packed(folder: Path, manifest: Manifest) -> Iterator[tuple[Path, ArtefactFile]]:
    """All files and the manifest in one archive, for serverless endpoints; equal files, equal bytes."""
    archive = folder.with_name(f"{folder.name}-{ARCHIVE}")
    names = [*(entry.path for _, entry in _single(folder, manifest)), MANIFEST_NAME]
    with (
        archive.open("wb") as file,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as packed,
    ):
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = (folder / name).stat().st_size, 0o644
            with (folder / name).open("rb") as content:
                packed.addfile(entry, content)
    path, described = _described(archive)
    yield path, described.model_copy(update={"path": ARCHIVE})


def _described(path: Path) -> tuple[Path, ArtefactFile]:
    return path, ArtefactFile(path=path.name, bytes=path.stat().st_size, sha256=file_sha256(path))
