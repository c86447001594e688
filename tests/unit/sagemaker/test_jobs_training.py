"""Training jobs as processes: what they find, what becomes of what they leave, how they end."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from pathlib import Path

import pytest

from local.sagemaker.errors import AwsApiError
from tests.support.sagemaker import eventually
from tests.support.sagemaker_jobs import (
    DictionaryS3,
    JobHarness,
    channel,
    job_scenario,
    running_jobs,
    training_request,
)

REPORT = """
import json, os, sys
from pathlib import Path
ml = Path(os.environ["SM_MODEL_DIR"]).parent
found = {
    "arguments": sys.argv[1:],
    "environment": dict(os.environ),
    "niceness": os.nice(0),
    "files": sorted(str(p.relative_to(ml)) for p in ml.rglob("*") if p.is_file()),
    "here": os.getcwd() == os.environ["SM_MODULE_DIR"],
}
Path(os.environ["SM_MODEL_DIR"], "report.json").write_text(json.dumps(found))
"""
WAITING = """
import os, signal, sys, time
from pathlib import Path
def leave(*_):
    Path(os.environ["SM_MODEL_DIR"], "partial").write_text("some")
    sys.exit(143)
signal.signal(signal.SIGTERM, leave)
print("waiting", flush=True)
time.sleep(600)
"""


@job_scenario
async def test_a_script_finds_what_the_toolkit_gives(harness: JobHarness) -> None:
    harness.s3.objects["data", "set/train.jsonl"] = b"{}"
    harness.s3.objects["data", "champion/deep/weights"] = b"w"
    harness.train(
        "j",
        REPORT,
        HyperParameters={"epochs": "3", "learning-rate": "0.001", "name": '"quoted"', "flag": "true"},
        InputDataConfig=[channel("train", "s3://data/set/"), channel("model", "s3://data/champion/")],
        OutputDataConfig={"S3OutputPath": "s3://out/r/", "CompressionType": "NONE"},
        Environment={"OWN": "at /opt/ml/model"},
    )
    done = await harness.trained("j")
    assert done["TrainingJobStatus"] == "Completed", done
    assert done["ModelArtifacts"] == {"S3ModelArtifacts": "s3://out/r/j/output/model/"}
    report = json.loads(harness.s3.text("s3://out/r/j/output/model/report.json"))
    environment = report["environment"]
    assert report["arguments"] == [
        "--epochs", "3", "--flag", "True", "--learning-rate", "0.001", "--name", "quoted",
    ]  # fmt: skip
    assert json.loads(environment["SM_HPS"]) == {
        "epochs": 3, "learning-rate": 0.001, "name": "quoted", "flag": True,
    }  # fmt: skip
    assert report["files"] == [
        "code/train.py",
        "input/config/hyperparameters.json",
        "input/config/inputdataconfig.json",
        "input/config/resourceconfig.json",
        "input/data/model/deep/weights",
        "input/data/train/train.jsonl",
    ]
    assert report["here"]
    assert environment["SM_CHANNEL_MODEL"].endswith("/opt/ml/input/data/model")
    assert environment["OWN"] == f"at {environment['SM_MODEL_DIR']}"
    assert environment["AWS_ACCESS_KEY_ID"] == "AKIDROLE"
    assert environment["SM_CURRENT_HOST"] == "algo-1"
    assert environment["SM_NUM_GPUS"] == "0"
    assert report["niceness"] >= 10


@job_scenario
async def test_status_times_and_events_follow_the_job(harness: JobHarness) -> None:
    harness.train("j", "print('hello')", Tags=[{"Key": "team", "Value": "x"}])
    assert harness.call("DescribeTrainingJob", TrainingJobName="j")["SecondaryStatus"] == "Starting"
    done = await harness.trained("j")
    statuses = [step["Status"] for step in done["SecondaryStatusTransitions"]]
    assert statuses == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert all("EndTime" in step for step in done["SecondaryStatusTransitions"])
    assert done["CreationTime"] <= done["TrainingStartTime"] <= done["TrainingEndTime"]
    told = [detail for name, detail in harness.cloud.events if name == "SageMaker Training Job State Change"]
    assert [detail["SecondaryStatus"] for detail in told] == statuses
    assert told[-1]["TrainingJobStatus"] == "Completed"
    assert told[-1]["Tags"] == {"team": "x"}
    assert told[-1]["CreationTime"] == int(done["CreationTime"] * 1000)
    await eventually(lambda: bool(harness.cloud.lines), "the log arrives")
    assert ("/aws/sagemaker/TrainingJobs", "hello") in [(g, line) for g, _, line in harness.cloud.lines]


@job_scenario
async def test_outputs_are_archives_unless_told_otherwise(harness: JobHarness) -> None:
    script = """
import os
from pathlib import Path
Path(os.environ["SM_MODEL_DIR"], "weights").write_text("w")
Path(os.environ["SM_OUTPUT_DATA_DIR"], "card.json").write_text("{}")
"""
    harness.train("j", script, OutputDataConfig={"S3OutputPath": "s3://out/r", "KmsKeyId": "alias/models"})
    done = await harness.trained("j")
    assert done["ModelArtifacts"]["S3ModelArtifacts"] == "s3://out/r/j/output/model.tar.gz"
    assert harness.s3.keys("out") == ["r/j/output/model.tar.gz", "r/j/output/output.tar.gz"]
    packed = io.BytesIO(harness.s3.objects["out", "r/j/output/model.tar.gz"])
    with tarfile.open(fileobj=packed) as model:
        assert model.getnames() == ["weights"]
    assert harness.s3.encrypted["out", "r/j/output/model.tar.gz"]["SSEKMSKeyId"] == "alias/models"


@job_scenario
async def test_the_failure_file_is_the_reason(harness: JobHarness) -> None:
    script = """
import os, sys
from pathlib import Path
Path(os.environ["SM_OUTPUT_DIR"], "failure").write_text("the data are empty")
sys.exit(3)
"""
    harness.train("j", script)
    done = await harness.trained("j")
    assert done["TrainingJobStatus"] == done["SecondaryStatus"] == "Failed"
    assert done["FailureReason"] == "AlgorithmError: the data are empty, exit code: 3"
    assert "ModelArtifacts" not in done


@job_scenario
async def test_without_a_failure_file_the_last_lines_are_the_reason(harness: JobHarness) -> None:
    harness.train("j", "raise RuntimeError('no such layer')")
    done = await harness.trained("j")
    assert "RuntimeError: no such layer" in done["FailureReason"]
    assert done["FailureReason"].endswith("exit code: 1")


@job_scenario
async def test_a_stopped_job_keeps_what_it_saved_in_its_grace(harness: JobHarness) -> None:
    harness.train("j", WAITING)
    await eventually(lambda: any(line == "waiting" for *_, line in harness.cloud.lines), "the script waits")
    harness.call("StopTrainingJob", TrainingJobName="j")
    assert harness.call("DescribeTrainingJob", TrainingJobName="j")["TrainingJobStatus"] == "Stopping"
    done = await harness.trained("j")
    assert (done["TrainingJobStatus"], done["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert "releases/1/training/j/output/model.tar.gz" in harness.s3.keys("out")
    with pytest.raises(AwsApiError, match="in status Stopped"):
        harness.call("StopTrainingJob", TrainingJobName="j")


@job_scenario
async def test_a_job_out_of_time_is_stopped(harness: JobHarness) -> None:
    harness.train("j", WAITING, StoppingCondition={"MaxRuntimeInSeconds": 1})
    done = await harness.trained("j")
    assert (done["TrainingJobStatus"], done["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")


@job_scenario
async def test_checkpoints_go_to_s3_and_come_back(harness: JobHarness) -> None:
    script = """
import os
from pathlib import Path
state = Path(os.environ["SM_CHECKPOINT_DIR"], "state")
before = state.read_text() if state.exists() else "nothing"
state.write_text("step 7")
Path(os.environ["SM_MODEL_DIR"], "before").write_text(before)
"""
    where = {"CheckpointConfig": {"S3Uri": "s3://out/points"}}
    output = {"OutputDataConfig": {"S3OutputPath": "s3://out/r", "CompressionType": "NONE"}}
    for name, before in (("first", "nothing"), ("second", "step 7")):
        harness.train(name, script, **where, **output)
        assert (await harness.trained(name))["TrainingJobStatus"] == "Completed"
        assert harness.s3.text(f"s3://out/r/{name}/output/model/before") == before
    assert harness.s3.text("s3://out/points/state") == "step 7"


@job_scenario
async def test_metric_definitions_become_metrics(harness: JobHarness) -> None:
    algorithm = training_request("j", "s3://data/c", {})["AlgorithmSpecification"]
    definitions = [{"Name": "loss", "Regex": r"loss=([0-9.]+)"}]
    script = "for x in (3, 2.5):\n  print(f'step loss={x}')"
    harness.train("j", script, AlgorithmSpecification=algorithm | {"MetricDefinitions": definitions})
    done = await harness.trained("j")
    assert [(m["MetricName"], m["Value"]) for m in done["FinalMetricDataList"]] == [("loss", 2.5)]
    published = [
        (space, datum["Value"], datum["Dimensions"])
        for space, datum in harness.cloud.metrics
        if datum["MetricName"] == "loss"
    ]
    dimensions = [{"Name": "TrainingJobName", "Value": "j"}]
    assert published == [
        ("/aws/sagemaker/TrainingJobs", 3.0, dimensions),
        ("/aws/sagemaker/TrainingJobs", 2.5, dimensions),
    ]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"InputDataConfig": [channel("train", "s3://data/none/")]}, "No S3 objects found"),
        ({"InputDataConfig": [channel("train", "s3://denied/x/")]}, "AccessDenied"),
        ({"OutputDataConfig": {"S3OutputPath": "s3://denied/x"}}, "AccessDenied"),
        ({"HyperParameters": {"sagemaker_submit_directory": "s3://data/none.tar.gz"}}, "Not Found"),
        ({"HyperParameters": {"sagemaker_program": ""}}, "sagemaker_program is missing"),
        (
            {"AlgorithmSpecification": {"TrainingImage": "unknown:1", "TrainingInputMode": "File"}},
            'image "unknown:1" not found',
        ),
    ],
)
def test_what_the_caller_got_wrong_fails_the_job(
    tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    async def drive() -> None:
        async with running_jobs(tmp_path) as harness:
            harness.train("j", "print('ran')", **changes)
            done = await harness.trained("j")
            assert done["TrainingJobStatus"] == "Failed"
            assert done["FailureReason"].startswith("ClientError: ")
            assert reason in done["FailureReason"]

    asyncio.run(drive())


@job_scenario
async def test_a_source_archive_cannot_leave_its_folder(harness: JobHarness) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../../../escaped"), io.BytesIO())
    harness.s3.objects["data", "evil.tar.gz"] = buffer.getvalue()
    request = training_request("j", "s3://data/evil.tar.gz", {})
    harness.call("CreateTrainingJob", **request)
    assert (await harness.trained("j"))["TrainingJobStatus"] == "Failed"
    assert not list(harness.folder.rglob("escaped"))


def test_a_job_does_not_survive_the_cloud(tmp_path: Path) -> None:
    async def drive() -> None:
        async with running_jobs(tmp_path) as harness:
            harness.train("j", WAITING)
            waiting = lambda: any(line == "waiting" for *_, line in harness.cloud.lines)  # noqa: E731
            await eventually(waiting, "the script waits")
            saved = json.loads(json.dumps(harness.sagemaker.dump()))
        async with running_jobs(tmp_path, DictionaryS3()) as harness:
            harness.sagemaker.load(saved)
            harness.sagemaker.jobs.resume()
            done = harness.call("DescribeTrainingJob", TrainingJobName="j")
            assert done["TrainingJobStatus"] == "Failed"
            assert "stopped while this job ran" in done["FailureReason"]

    asyncio.run(drive())
