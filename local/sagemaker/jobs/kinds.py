"""The two kinds of job, as far as their records differ, and what every record has in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from local.sagemaker.records import JsonObject
from local.sagemaker.store import Collection, SageMakerStore, now

ACTIVE = frozenset({"InProgress", "Stopping"})


@dataclass(frozen=True)
class JobKind:
    """How the API spells a kind: `noun` begins its operations and its fields, `prefix` its times."""

    noun: str
    prefix: str
    words: str
    event: str
    log_group: str
    unknown: str

    @property
    def name_field(self) -> str:
        """The field of a job's name."""
        return f"{self.noun}Name"

    @property
    def status_field(self) -> str:
        """The field of a job's status."""
        return f"{self.noun}Status"

    @property
    def arn_field(self) -> str:
        """The field of a job's ARN."""
        return f"{self.noun}Arn"

    def image(self, record: JsonObject) -> str:
        """The image that a job runs in."""
        if self is TRAINING:
            return str(record["AlgorithmSpecification"]["TrainingImage"])
        return str(record["AppSpecification"]["ImageUri"])

    def cluster(self, record: JsonObject) -> JsonObject:
        """The instances that a job runs on."""
        training = self is TRAINING
        found = record["ResourceConfig"] if training else record["ProcessingResources"]["ClusterConfig"]
        return dict(found)

    def collection(self, store: SageMakerStore) -> Collection[JsonObject]:
        """The records of this kind."""
        return store.training_jobs if self is TRAINING else store.processing_jobs

    def is_active(self, record: JsonObject) -> bool:
        """Whether a job has not ended yet."""
        return record[self.status_field] in ACTIVE


TRAINING = JobKind(
    noun="TrainingJob",
    prefix="Training",
    words="training job",
    event="SageMaker Training Job State Change",
    log_group="/aws/sagemaker/TrainingJobs",
    unknown="Requested resource not found.",
)
PROCESSING = JobKind(
    noun="ProcessingJob",
    prefix="Processing",
    words="processing job",
    event="SageMaker Processing Job State Change",
    log_group="/aws/sagemaker/ProcessingJobs",
    unknown="Could not find requested job with name: {name}",
)
KINDS = (TRAINING, PROCESSING)


def event_detail(record: JsonObject, tags: dict[str, str]) -> JsonObject:
    """A job's record as its state-change event carries it: times in milliseconds."""
    detail: JsonObject = _in_milliseconds(record)
    return detail | {"Tags": dict(tags)}


def _in_milliseconds(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: int(item * 1000) if name.endswith("Time") else _in_milliseconds(item)
            for name, item in value.items()
        }
    return [_in_milliseconds(item) for item in value] if isinstance(value, list) else value


def add_secondary_status(record: JsonObject, secondary: str, message: str) -> None:
    """Note a training job's next secondary status with its time."""
    moment = now()
    transitions = record["SecondaryStatusTransitions"]
    if transitions:
        transitions[-1]["EndTime"] = moment
    transitions.append({"Status": secondary, "StartTime": moment, "StatusMessage": message})
    record |= {"SecondaryStatus": secondary, "LastModifiedTime": moment}


def finish(
    kind: JobKind, record: JsonObject, status: str, reason: str | None, secondary: str | None = None
) -> None:
    """Put a job's record into its final status."""
    moment = now()
    record |= {kind.status_field: status, "LastModifiedTime": moment, f"{kind.prefix}EndTime": moment}
    if reason:
        record["FailureReason"] = reason
    if kind is TRAINING:
        started = record.get("TrainingStartTime", moment)
        seconds = max(0, round(moment - started))
        record |= {"TrainingTimeInSeconds": seconds, "BillableTimeInSeconds": seconds}
        add_secondary_status(record, secondary or status, reason or f"Training job {status.lower()}")
        record["SecondaryStatusTransitions"][-1]["EndTime"] = moment
    elif secondary:
        record["ExitMessage"] = secondary
