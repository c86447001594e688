"""The refresh loop's SageMaker jobs as Step Functions tasks: data, answers, training, comparison.

All jobs run the same source archive. Training gets it by SageMaker's script mode; a processing job unpacks it
itself, in any image with Python. Pure: from names and settings to plain JSON. Knows nothing of CDK.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contracts.refresh import release_prefix
from contracts.training import HELDOUT_FILE, metric_definitions
from infra.settings import instance_types
from infra.settings.refresh import RefreshJobSettings, RefreshSettings

_RELEASE_ID = "$$.Execution.Name"
_IN, _OUT = "/opt/ml/processing/input", "/opt/ml/processing/output"
_STARTING_SECONDS = 1800  # a machine is found, the image pulled
DATASETS_PREFIX = "datasets/support/"
# One string of at most 256 characters without line breaks: SageMaker's limit for an entry point's word.
_UNPACK_AND_RUN = (
    "set -eu; mkdir -p /opt/ml/processing/source; cd /opt/ml/processing/source; "
    f"tar -xzf {_IN}/code/*; python3 -m pip install -q --disable-pip-version-check -r requirements.txt; "
    'exec python3 -m "$@"'
)
_RETRY = [
    {
        "ErrorEquals": ["SageMaker.ResourceLimitExceededException"],
        "IntervalSeconds": 60,
        "MaxAttempts": 5,
        "BackoffRate": 2,
    },
    {
        "ErrorEquals": ["SageMaker.AmazonSageMakerException"],  # throttling, and whatever passes by itself
        "IntervalSeconds": 10,
        "MaxAttempts": 2,
        "BackoffRate": 2,
    },
]


@dataclass(frozen=True)
class Runner:
    """What one kind of job runs on: settings, image, role."""

    job: RefreshJobSettings
    image_uri: str
    role_arn: str


@dataclass(frozen=True)
class Jobs:
    """The jobs of one environment. `name_prefix` starts every job's name, so that a policy can name them;
    `answer_tokens` is the length at which evaluation cuts an answer."""

    name_prefix: str
    bucket: str
    key_arn: str
    source_uri: str
    source_digest: str
    tags: Mapping[str, str]
    training: Runner
    processing: Runner
    answer_tokens: int

    def prepare(self) -> dict[str, Any]:
        """Source data becomes the release's training and held-out sets with their card."""
        source = f"s3://{self.bucket}/{DATASETS_PREFIX}"
        return self._processing(
            "data",
            ["model_code.training.prepare", "--input", f"{_IN}/data", "--output", _OUT],
            inputs={"data": {"S3Uri": source}},
            output="data/",
        )

    def predict(self, variant: str, *, model: str) -> dict[str, Any]:
        """One model answers the held-out set; `model` is the path of its URI in the state's input."""
        return self._processing(
            variant,
            [
                "model_code.training.predict",
                *("--model", f"{_IN}/model"),
                *("--data", f"{_IN}/data/{HELDOUT_FILE}"),
                *("--output", f"{_OUT}/predictions.jsonl"),
                *("--max-new-tokens", str(self.answer_tokens)),
            ],
            inputs={"model": {"S3Uri.$": model}, "data": {"S3Uri.$": self._uri("data/")}},
            output=f"{variant}/",
        )

    def compare(self, settings: RefreshSettings) -> dict[str, Any]:
        """Both models' answers become the report that the gate reads."""
        gate = settings.gate
        options = {
            "name": "challenger",
            "baseline-name": "champion",
            "dataset": "support",
            "primary": gate.metric,
            "quality-margin": gate.minimum_gain,
            "latency-margin": round(gate.maximum_latency_ratio - 1, 6),
            "error-margin": settings.canary.maximum_error_rate,
            "alpha": gate.alpha,
            "maximum-cut-share": gate.maximum_cut_share,
            "out": _OUT,
        }
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        answers = [f"{_IN}/{variant}/predictions.jsonl" for variant in ("champion", "challenger")]
        return self._processing(
            "compare",
            ["evaluation", "compare", *words, *answers],
            inputs={variant: {"S3Uri.$": self._uri(f"{variant}/")} for variant in ("champion", "challenger")},
            output="report/",
        )

    def train(self, *, base: str) -> dict[str, Any]:
        """The challenger; `base` is the path of the champion's URI in the state's input."""
        spec = self.training.job
        given = getattr(spec, "hyperparameters", {})
        seconds = spec.max_minutes * 60
        parameters = {
            "TrainingJobName.$": self._job_name("train"),
            "AlgorithmSpecification": {
                "TrainingImage": self.training.image_uri,
                "TrainingInputMode": "File",
                "MetricDefinitions": metric_definitions(),
            },
            "RoleArn": self.training.role_arn,
            "HyperParameters": {
                "sagemaker_program": "train.py",
                "sagemaker_submit_directory": self.source_uri,
                **{name: str(value) for name, value in given.items()},
            },
            "Environment": {"EVERGREEN_CODE_VERSION": self.source_digest},
            "InputDataConfig": [
                _channel("train", {"S3Uri.$": self._uri("data/")}),
                _channel("model", {"S3Uri.$": base}),
            ],
            "OutputDataConfig": {
                "S3OutputPath.$": self._uri("training"),
                "KmsKeyId": self.key_arn,
                "CompressionType": "NONE",
            },
            "CheckpointConfig": {
                "S3Uri.$": self._uri("checkpoints/"),
                "LocalPath": "/opt/ml/checkpoints",
            },
            "ResourceConfig": self._machine(spec),
            "StoppingCondition": {"MaxRuntimeInSeconds": seconds},
            "Tags": self._tags(),
        }
        return _task("arn:aws:states:::sagemaker:createTrainingJob.sync", parameters, seconds)

    def _processing(
        self, kind: str, words: Sequence[str], *, inputs: Mapping[str, Mapping[str, str]], output: str
    ) -> dict[str, Any]:
        spec = self.processing.job
        seconds = spec.max_minutes * 60
        parameters = {
            "ProcessingJobName.$": self._job_name(kind),
            "AppSpecification": {
                "ImageUri": self.processing.image_uri,
                "ContainerEntrypoint": ["/bin/bash", "-c", _UNPACK_AND_RUN, kind],
                "ContainerArguments": list(words),
            },
            "RoleArn": self.processing.role_arn,
            "ProcessingInputs": [
                _input(name, source)
                for name, source in {**inputs, "code": {"S3Uri": self.source_uri}}.items()
            ],
            "ProcessingOutputConfig": {
                "Outputs": [
                    {
                        "OutputName": "result",
                        "S3Output": {
                            "S3Uri.$": self._uri(output),
                            "LocalPath": _OUT,
                            "S3UploadMode": "EndOfJob",
                        },
                    }
                ],
                "KmsKeyId": self.key_arn,
            },
            "ProcessingResources": {"ClusterConfig": self._machine(spec)},
            "StoppingCondition": {"MaxRuntimeInSeconds": seconds},
            "Tags": self._tags(),
        }
        return _task("arn:aws:states:::sagemaker:createProcessingJob.sync", parameters, seconds)

    def _machine(self, spec: RefreshJobSettings) -> dict[str, Any]:
        machine = {"InstanceType": spec.instance_type, "InstanceCount": 1, "VolumeSizeInGB": spec.volume_gb}
        # SageMaker refuses a key for the local NVMe disks, which the hardware encrypts.
        return (
            machine
            if instance_types.has_instance_store(spec.instance_type)
            else machine | {"VolumeKmsKeyId": self.key_arn}
        )

    def _job_name(self, kind: str) -> str:
        """Names a job by its execution, in characters that SageMaker takes, and by its try."""
        words = f"{self.name_prefix}{kind}-{{}}-{{}}"
        return f"States.Format('{words}', States.Hash($$.Execution.Id, 'MD5'), $$.State.RetryCount)"

    def _uri(self, path: str) -> str:
        return f"States.Format('s3://{self.bucket}/{release_prefix('{}')}{path}', {_RELEASE_ID})"

    def _tags(self) -> list[dict[str, str]]:
        fixed = [{"Key": name, "Value": value} for name, value in self.tags.items()]
        return [*fixed, {"Key": "evergreen:release", "Value.$": _RELEASE_ID}]


def _task(resource: str, parameters: Mapping[str, Any], seconds: int) -> dict[str, Any]:
    return {
        "Type": "Task",
        "Resource": resource,
        "Parameters": dict(parameters),
        "TimeoutSeconds": seconds + _STARTING_SECONDS,
        "Retry": _RETRY,
    }


def _channel(name: str, source: Mapping[str, str]) -> dict[str, Any]:
    place = {"S3DataType": "S3Prefix", "S3DataDistributionType": "FullyReplicated", **source}
    return {"ChannelName": name, "DataSource": {"S3DataSource": place}}


def _input(name: str, source: Mapping[str, str]) -> dict[str, Any]:
    place = {
        "LocalPath": f"{_IN}/{name}",
        "S3DataType": "S3Prefix",
        "S3InputMode": "File",
        "S3DataDistributionType": "FullyReplicated",
        **source,
    }
    return {"InputName": name, "S3Input": place}
