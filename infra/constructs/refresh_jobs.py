"""What the refresh loop's SageMaker jobs run on, as the state machine takes it: settings, image, role.

All jobs run the same source archive. Training gets it by SageMaker's script mode; a processing job unpacks it
itself, in any image with Python. The jobs themselves stand in infra/state_machines/refresh.asl.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from contracts.release_tasks import JobSettings, LoopSettings
from infra.settings import instance_types
from infra.settings.refresh import RefreshJobSettings, RefreshSettings, TrainingSettings

DATASETS_PREFIX = "datasets/support/"


@dataclass(frozen=True)
class Runner:
    """What one kind of job runs on: settings, image, role."""

    job: RefreshJobSettings
    image_uri: str
    role_arn: str


@dataclass(frozen=True)
class RefreshJobs:
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

    def loop_settings(self, settings: RefreshSettings, *, second_region: bool) -> LoopSettings:
        """The numbers and structures that the state machine's states take by path."""
        return LoopSettings(
            approval=settings.approval,
            approval_seconds=settings.approval_hours * 3600,
            second_region=second_region,
            shares=settings.canary.shares,
            poll_seconds=settings.poll_seconds,
            training=self._job(self.training.job),
            processing=self._job(self.processing.job),
            tags=dict(self.tags),
        )

    def substitutions(self, settings: RefreshSettings) -> dict[str, str]:
        """Names and words of command lines that the state machine's definition leaves open."""
        gate = settings.gate
        return {
            "ArtefactsBucket": self.bucket,
            "ModelsKeyArn": self.key_arn,
            "JobNamePrefix": self.name_prefix,
            "SourceUri": self.source_uri,
            "SourceDigest": self.source_digest,
            "TrainingImageUri": self.training.image_uri,
            "TrainingRoleArn": self.training.role_arn,
            "ProcessingImageUri": self.processing.image_uri,
            "ProcessingRoleArn": self.processing.role_arn,
            "AnswerTokens": str(self.answer_tokens),
            "PrimaryMetric": gate.metric,
            "QualityMargin": str(gate.minimum_gain),
            "LatencyMargin": str(round(gate.maximum_latency_ratio - 1, 6)),
            "ErrorMargin": str(settings.canary.maximum_error_rate),
            "Alpha": str(gate.alpha),
            "MaximumCutShare": str(gate.maximum_cut_share),
        }

    def _job(self, spec: RefreshJobSettings) -> JobSettings:
        cluster: dict[str, str | int] = {
            "InstanceType": spec.instance_type,
            "InstanceCount": 1,
            "VolumeSizeInGB": spec.volume_gb,
        }
        # SageMaker refuses a key for the local NVMe disks, which the hardware encrypts.
        if not instance_types.has_instance_store(spec.instance_type):
            cluster["VolumeKmsKeyId"] = self.key_arn
        hyperparameters = {}
        if isinstance(spec, TrainingSettings):
            hyperparameters = {
                "sagemaker_program": "train.py",
                "sagemaker_submit_directory": self.source_uri,
                **{name: str(value) for name, value in spec.hyperparameters.items()},
            }
        return JobSettings(
            cluster=cluster, max_seconds=spec.max_minutes * 60, hyperparameters=hyperparameters
        )
