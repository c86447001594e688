"""Empties what CloudFormation does not delete while it holds something: buckets and model package groups."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from operations.aws_errors import code_of
from operations.progress import CommandError

_BATCH = 1000  # objects that one DeleteObjects takes


def empty_bucket(s3: Any, bucket: str) -> int:
    """Deletes all versions, delete markers and unfinished uploads; how many versions there were.

    A bucket that is gone is empty. Raises CommandError where S3 keeps an object.
    """
    deleted = 0
    try:
        while True:  # the first page each time: what was deleted is no place to go on from
            page = s3.list_object_versions(Bucket=bucket, MaxKeys=_BATCH)
            found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            if not found:
                break
            _delete(s3, bucket, found)
            deleted += len(found)
        for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket):
            for upload in page.get("Uploads", []):
                s3.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    except ClientError as error:
        if code_of(error) != "NoSuchBucket":
            raise
    return deleted


def _delete(s3: Any, bucket: str, versions: list[dict[str, Any]]) -> None:
    objects = [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in versions]
    errors = s3.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True}).get("Errors", [])
    if errors:
        raise CommandError(
            f"S3 keeps {len(errors)} objects of {bucket}, {errors[0].get('Key')} for example: "
            f"{errors[0].get('Message')}"
        )


def empty_package_group(sagemaker: Any, group: str) -> int:
    """Deletes the group's model packages; how many there were. A group that is gone has none."""
    deleted = 0
    while True:
        try:
            found = sagemaker.list_model_packages(ModelPackageGroupName=group, MaxResults=100)
        except ClientError as error:
            if code_of(error) in ("ValidationException", "ResourceNotFound"):
                return deleted
            raise
        packages = found["ModelPackageSummaryList"]
        if not packages:
            return deleted
        for package in packages:
            sagemaker.delete_model_package(ModelPackageName=package["ModelPackageArn"])
        deleted += len(packages)
