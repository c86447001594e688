"""Jobs in one process: S3 is a dictionary, an image is this interpreter; the rest as in `sagemaker`."""

from __future__ import annotations

import asyncio
import hashlib
import io
import sys
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from local.sagemaker.instances.images import Program, ProgramTable
from local.sagemaker.service import SageMakerService, SageMakerSettings
from tests.support.sagemaker import (
    HERE,
    IDENTITY,
    ROLE,
    TIMEOUT_SECONDS,
    RecordedCloud,
    SageMakerHarness,
    UnrecordedProcesses,
)

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/python:1"


@dataclass
class DictionaryS3:
    """Objects by (bucket, key); buckets named `denied` may not be touched."""

    objects: dict[tuple[str, str], bytes] = field(default_factory=dict)
    encrypted: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)

    def get_paginator(self, _operation: str) -> DictionaryS3:
        return self

    def paginate(self, Bucket: str, Prefix: str) -> list[dict[str, Any]]:
        self._allow(Bucket, "ListObjectsV2")
        found = [
            {"Key": key, "Size": len(body), "ETag": hashlib.md5(body).hexdigest()}
            for (bucket, key), body in sorted(self.objects.items())
            if bucket == Bucket and key.startswith(Prefix)
        ]
        return [{"Contents": found}] if found else [{}]

    def download_file(self, bucket: str, key: str, path: str) -> None:
        self._allow(bucket, "GetObject")
        if (bucket, key) not in self.objects:
            raise ClientError({"Error": {"Code": "404", "Message": "Not Found"}}, "HeadObject")
        Path(path).write_bytes(self.objects[bucket, key])

    def upload_file(self, path: str, bucket: str, key: str, ExtraArgs: dict[str, str]) -> None:
        self._allow(bucket, "PutObject")
        self.objects[bucket, key] = Path(path).read_bytes()
        self.encrypted[bucket, key] = ExtraArgs

    def text(self, uri: str) -> str:
        """An object's content."""
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        return self.objects[bucket, key].decode()

    def keys(self, bucket: str) -> list[str]:
        """All keys of a bucket."""
        return sorted(key for name, key in self.objects if name == bucket)

    @staticmethod
    def _allow(bucket: str, operation: str) -> None:
        if bucket == "denied":
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "Access Denied"}}, operation)


@dataclass
class JobHarness(SageMakerHarness):
    """A service with jobs, its S3 and its folder."""

    s3: DictionaryS3
    folder: Path

    def code(self, script: str, uri: str = "s3://data/code/source.tar.gz", **files: str) -> str:
        """A source archive with `train.py`; its address."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            for name, text in {"train.py": script, **files}.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(text.encode())
                archive.addfile(entry, io.BytesIO(text.encode()))
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        self.s3.objects[bucket, key] = buffer.getvalue()
        return uri

    def train(self, name: str, script: str, **changes: Any) -> None:
        """Start a training job that runs a script."""
        own = changes.pop("HyperParameters", {})
        archive = self.code(script)
        self.call("CreateTrainingJob", **training_request(name, archive, own) | changes)

    async def trained(self, name: str) -> dict[str, Any]:
        """DescribeTrainingJob once the job has ended."""
        arn = self.call("DescribeTrainingJob", TrainingJobName=name)["TrainingJobArn"]
        await asyncio.wait_for(self.sagemaker.jobs.wait(arn), TIMEOUT_SECONDS)
        return self.call("DescribeTrainingJob", TrainingJobName=name)

    async def processed(self, name: str) -> dict[str, Any]:
        """DescribeProcessingJob once the job has ended."""
        arn = self.call("DescribeProcessingJob", ProcessingJobName=name)["ProcessingJobArn"]
        await asyncio.wait_for(self.sagemaker.jobs.wait(arn), TIMEOUT_SECONDS)
        return self.call("DescribeProcessingJob", ProcessingJobName=name)


def training_request(name: str, archive: str, hyperparameters: dict[str, str]) -> dict[str, Any]:
    """CreateTrainingJob in script mode."""
    script = {"sagemaker_program": "train.py", "sagemaker_submit_directory": archive}
    return {
        "TrainingJobName": name,
        "HyperParameters": script | hyperparameters,
        "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        "RoleArn": ROLE,
        "OutputDataConfig": {"S3OutputPath": "s3://out/releases/1/training"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
    }


def processing_request(name: str, *words: str, **changes: Any) -> dict[str, Any]:
    """CreateProcessingJob that runs some words."""
    return {
        "ProcessingJobName": name,
        "RoleArn": ROLE,
        "AppSpecification": {"ImageUri": IMAGE, "ContainerEntrypoint": list(words)},
        "ProcessingResources": {
            "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 10}
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
    } | changes


def channel(name: str, uri: str) -> dict[str, Any]:
    """A channel of an S3 prefix."""
    return {
        "ChannelName": name,
        "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri}},
    }


@asynccontextmanager
async def running_jobs(folder: Path, s3: DictionaryS3 | None = None) -> AsyncIterator[JobHarness]:
    """A started service that is stopped at the end."""
    s3, cloud = s3 or DictionaryS3(), RecordedCloud()
    images = ProgramTable({"python": Program((sys.executable,), HERE)})
    sagemaker = SageMakerService(
        SageMakerSettings(IDENTITY, folder, images, lambda _credentials: s3), cloud, UnrecordedProcesses()
    )
    await sagemaker.start()
    try:
        yield JobHarness(sagemaker, cloud, s3, folder)
    finally:
        await sagemaker.stop()


def job_scenario(test: Callable[[JobHarness], Awaitable[None]]) -> Callable[[Path], None]:
    """Makes a pytest test of a coroutine that takes a service."""

    def run(tmp_path: Path) -> None:
        async def drive() -> None:
            async with running_jobs(tmp_path) as harness:
                await test(harness)

        asyncio.run(drive())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run
