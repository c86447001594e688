"""Processing jobs: inputs and outputs at their paths, and a command line that speaks of /opt/ml."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from local.sagemaker.errors import AwsApiError
from local.sagemaker.jobs.folder import JobFolder
from tests.support.sagemaker import eventually
from tests.support.sagemaker_jobs import (
    IMAGE,
    JobHarness,
    channel,
    job_scenario,
    processing_request,
    running_jobs,
    training_request,
)

UPPER = (
    "set -e; for f in /opt/ml/processing/input/docs/*; do "
    'tr a-z A-Z < $f > /opt/ml/processing/output/out/$(basename $f); done; echo "$WHERE"; exit ${CODE:-0}'
)


def documents(uri: str = "s3://data/docs/", path: str = "/opt/ml/processing/input/docs") -> dict[str, Any]:
    """An input from a prefix."""
    source = {"S3Uri": uri, "LocalPath": path, "S3DataType": "S3Prefix", "S3InputMode": "File"}
    return {"InputName": "docs", "S3Input": source}


def output(path: str = "/opt/ml/processing/output/out", mode: str = "EndOfJob") -> dict[str, Any]:
    """An output to a prefix."""
    target = {"S3Uri": "s3://out/upper", "LocalPath": path, "S3UploadMode": mode}
    return {"OutputName": "out", "S3Output": target}


def upper(name: str = "j", **changes: Any) -> dict[str, Any]:
    """A job that writes its documents in capitals."""
    whole = {"ProcessingInputs": [documents()], "ProcessingOutputConfig": {"Outputs": [output()]}}
    return processing_request(name, "/bin/bash", "-c", UPPER) | whole | changes


@job_scenario
async def test_inputs_command_and_outputs(harness: JobHarness) -> None:
    harness.s3.objects["data", "docs/a.txt"] = b"one"
    harness.s3.objects["data", "docs/b.txt"] = b"two"
    harness.call("CreateProcessingJob", **upper(Environment={"WHERE": "in /opt/ml, not /opt/mlflow"}))
    done = await harness.processed("j")
    assert done["ProcessingJobStatus"] == "Completed", done
    assert done["ProcessingStartTime"] <= done["ProcessingEndTime"]
    assert harness.s3.text("s3://out/upper/a.txt") == "ONE"
    assert harness.s3.text("s3://out/upper/b.txt") == "TWO"
    group, _, line = harness.cloud.lines[0]
    assert group == "/aws/sagemaker/ProcessingJobs"
    assert line == f"in {harness.folder}/jobs/processing/j/opt/ml, not /opt/mlflow"
    told = [d for name, d in harness.cloud.events if name == "SageMaker Processing Job State Change"]
    assert [detail["ProcessingJobStatus"] for detail in told] == ["InProgress", "Completed"]


@job_scenario
async def test_a_failed_job_uploads_nothing(harness: JobHarness) -> None:
    harness.s3.objects["data", "docs/a.txt"] = b"one"
    harness.call("CreateProcessingJob", **upper(Environment={"CODE": "4", "WHERE": "last words"}))
    done = await harness.processed("j")
    assert done["ProcessingJobStatus"] == "Failed"
    assert done["FailureReason"] == "AlgorithmError: last words, exit code: 4"
    assert harness.s3.keys("out") == []


@job_scenario
async def test_the_images_own_python_comes_first(harness: JobHarness) -> None:
    words = ("python3", "-c", "import os, sys; print(os.environ['PATH'].split(':')[0])")
    harness.call("CreateProcessingJob", **processing_request("j", *words))
    assert (await harness.processed("j"))["ProcessingJobStatus"] == "Completed"


@job_scenario
async def test_a_program_that_is_not_there(harness: JobHarness) -> None:
    harness.call("CreateProcessingJob", **processing_request("j", "/nowhere/program"))
    done = await harness.processed("j")
    assert "No such file or directory, exit code: 127" in done["FailureReason"]


@job_scenario
async def test_two_jobs_at_a_time_and_a_stop_makes_room(harness: JobHarness) -> None:
    for name in ("a", "b"):
        harness.call("CreateProcessingJob", **processing_request(name, "sleep", "600"))
    with pytest.raises(AwsApiError, match="current utilization of 2") as refused:
        harness.call("CreateTrainingJob", **training_request("c", "s3://data/c", {}))
    assert refused.value.code == "ResourceLimitExceeded"
    harness.call("StopProcessingJob", ProcessingJobName="a")
    assert (await harness.processed("a"))["ProcessingJobStatus"] == "Stopped"
    harness.call("CreateProcessingJob", **processing_request("c", "true"))
    assert (await harness.processed("c"))["ProcessingJobStatus"] == "Completed"
    listed = harness.call("ListProcessingJobs", StatusEquals="Stopped")["ProcessingJobSummaries"]
    assert [job["ProcessingJobName"] for job in listed] == ["a"]
    harness.call("StopProcessingJob", ProcessingJobName="b")


@job_scenario
async def test_names_are_never_used_twice_and_unknown_ones_refused(harness: JobHarness) -> None:
    harness.call("CreateProcessingJob", **processing_request("j", "true"))
    await harness.processed("j")
    with pytest.raises(AwsApiError, match="must be unique") as refused:
        harness.call("CreateProcessingJob", **processing_request("j", "true"))
    assert refused.value.code == "ResourceInUse"
    for operation, field in (
        ("DescribeProcessingJob", "ProcessingJobName"),
        ("StopProcessingJob", "ProcessingJobName"),
        ("DescribeTrainingJob", "TrainingJobName"),
        ("StopTrainingJob", "TrainingJobName"),
    ):
        with pytest.raises(AwsApiError) as unknown:
            harness.call(operation, **{field: "nobody"})
        assert unknown.value.code == "ValidationException"


@job_scenario
async def test_the_last_lines_are_stored_before_the_final_status(harness: JobHarness) -> None:
    """The SageMaker Python SDK reads the log once more at the final status, and then never again."""
    harness.call("CreateProcessingJob", **processing_request("j", "/bin/sh", "-c", "echo last; exit 1"))
    job: dict[str, Any] = {}

    def ended() -> bool:
        job.update(harness.call("DescribeProcessingJob", ProcessingJobName="j"))
        return bool(job["ProcessingJobStatus"] != "InProgress")

    await eventually(ended, "the job ends")
    assert [line for _, _, line in harness.cloud.lines] == ["last"]


@job_scenario
async def test_an_ended_job_is_deleted_and_its_name_is_free(harness: JobHarness) -> None:
    harness.call("CreateProcessingJob", **processing_request("j", "sleep", "600"))
    with pytest.raises(AwsApiError, match="status InProgress") as refused:
        harness.call("DeleteProcessingJob", ProcessingJobName="j")
    assert refused.value.code == "ResourceInUse"
    harness.call("StopProcessingJob", ProcessingJobName="j")
    await harness.processed("j")
    harness.call("DeleteProcessingJob", ProcessingJobName="j")
    tagged = processing_request("j", "true", Tags=[{"Key": "a", "Value": "b"}])
    harness.call("CreateProcessingJob", **tagged)
    assert (await harness.processed("j"))["ProcessingJobStatus"] == "Completed"
    harness.call("DeleteProcessingJob", ProcessingJobName="j")
    assert harness.call("ListProcessingJobs")["ProcessingJobSummaries"] == []
    assert harness.sagemaker.store.tags == {}


@job_scenario
async def test_a_name_is_taken_again_while_the_earlier_job_tidies_up(harness: JobHarness) -> None:
    """The folder belongs to the name: the earlier job removes it last of all."""

    def status() -> str:
        return str(harness.call("DescribeProcessingJob", ProcessingJobName="j")["ProcessingJobStatus"])

    harness.call("CreateProcessingJob", **processing_request("j", "true"))
    harness.cloud.event_seconds = 0.5
    await eventually(lambda: status() == "Completed", "the first job ends")
    harness.call("DeleteProcessingJob", ProcessingJobName="j")
    harness.cloud.event_seconds = 0.0
    words = ("/bin/sh", "-c", "sleep 1; test -d /opt/ml/processing")
    harness.call("CreateProcessingJob", **processing_request("j", *words))
    await eventually(lambda: status() != "InProgress", "the second job ends")
    assert status() == "Completed"


@pytest.mark.parametrize("noun", ["TrainingJob", "ProcessingJob"])
def test_deleting_an_unknown_job(tmp_path: Path, noun: str) -> None:
    async def drive() -> None:
        async with running_jobs(tmp_path) as harness:
            with pytest.raises(AwsApiError) as unknown:
                harness.call(f"Delete{noun}", **{f"{noun}Name": "nobody"})
            assert unknown.value.code == "ResourceNotFound"

    asyncio.run(drive())


REFUSED_PROCESSING = [
    ({"ProcessingInputs": [documents(path="/tmp/x")]}, "must be below /opt/ml/processing"),
    ({"ProcessingInputs": [documents(path="/opt/ml/processing/../../x")]}, "must be below"),
    ({"ProcessingInputs": [documents(), documents()]}, "must be unique"),
    ({"ProcessingOutputConfig": {"Outputs": [output(mode="Continuous")]}}, "Continuous"),
    ({"AppSpecification": {"ImageUri": IMAGE}}, "without ContainerEntrypoint"),
    ({"RoleArn": "arn:aws:iam::123456789012:role/stranger"}, "Could not assume role"),
    ({"ProcessingJobName": "not_valid"}, "regular expression pattern"),
]


@pytest.mark.parametrize(("changes", "reason"), REFUSED_PROCESSING)
def test_refused_processing_jobs(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    async def drive() -> None:
        async with running_jobs(tmp_path) as harness:
            with pytest.raises(AwsApiError, match=reason) as refused:
                harness.call("CreateProcessingJob", **upper(**changes))
            assert refused.value.code == "ValidationException"
            assert harness.call("ListProcessingJobs")["ProcessingJobSummaries"] == []

    asyncio.run(drive())


def _algorithm(**changes: Any) -> dict[str, Any]:
    return {"AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"} | changes}


def _resources(**changes: Any) -> dict[str, Any]:
    return {
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1} | changes
    }


REFUSED_TRAINING = [
    (_algorithm(TrainingInputMode="Pipe"), "Pipe"),
    (_algorithm(TrainingImage=""), "TrainingImage"),
    (_algorithm(MetricDefinitions=[{"Name": "loss", "Regex": "loss=("}]), "regex of metric loss"),
    (_resources(InstanceCount=2), "more than one instance"),
    ({"InputDataConfig": [channel("a", "s3://d/a"), channel("a", "s3://d/b")]}, "must be unique"),
    ({"InputDataConfig": [channel("a", "s3://d/a") | {"CompressionType": "Gzip"}]}, "compressed"),
    ({"EnableManagedSpotTraining": True}, "MaxWaitTimeInSeconds"),
    ({"DebugHookConfig": {"S3OutputPath": "s3://d/x"}}, "DebugHookConfig"),
    ({"Unheard": 1}, "Unknown field 'Unheard'"),
]


@pytest.mark.parametrize(("changes", "reason"), REFUSED_TRAINING)
def test_refused_training_jobs(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    async def drive() -> None:
        async with running_jobs(tmp_path) as harness:
            with pytest.raises(AwsApiError, match=reason) as refused:
                harness.call("CreateTrainingJob", **training_request("j", "s3://d/c", {}) | changes)
            assert refused.value.code == "ValidationException"

    asyncio.run(drive())


def test_only_whole_folders_are_translated(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    ml = f"{tmp_path}/opt/ml"
    assert folder.translated("cd /opt/ml; ls '/opt/ml/x':/opt/ml") == f"cd {ml}; ls '{ml}/x':{ml}"
    assert folder.translated("/opt/mlops /opt/ml-x /opt/ml.d") == "/opt/mlops /opt/ml-x /opt/ml.d"
