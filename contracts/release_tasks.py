"""What the refresh loop's state machine and its two functions say to each other.

One model per task: its fields are the task's input, `task` names it. The state machine is written against
these, so a renamed field is a change on both sides.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

Phase = Literal["steady", "shadow", "ab"]
Verdict = Literal["continue", "promote", "roll_back", "inconclusive"]
ReleaseId = Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[A-Za-z0-9_.-]+$")]
Share = Annotated[float, Field(ge=0, le=1)]
EpochSeconds = Annotated[float, Field(gt=0)]


def release_prefix(release_id: str) -> str:
    """Where a release writes in the artefacts bucket; ends in a slash."""
    return f"releases/{release_id}/"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ServedModel(_Part):
    """A model artefact as a variant serves it: S3 prefix, manifest digest (empty if unknown), version."""

    uri: str = Field(pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/.+/$")
    digest: str = Field(pattern=r"^([0-9a-f]{64})?$")
    version: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")


class GateSettings(_Part):
    """What the offline comparison must show. `minimum_gain` in the metric's unit; 1.25 is 25 % slower.

    `maximum_cut_share` is the share of either model's answers that may have been cut at the limit of tokens.
    """

    metric: str
    minimum_gain: float = Field(default=0.0, ge=0)
    alpha: float = Field(default=0.05, gt=0, lt=1)
    maximum_latency_ratio: float = Field(default=1.25, ge=1)
    maximum_cut_share: float = Field(default=0.05, ge=0, le=1)


class CanarySettings(_Part):
    """The stages of a canary: stage `i` gives the challenger `shares[i]` until `planned_sample[i]` ratings.

    `alpha` is the error budget of all stages together. `maximum_rating_loss` is the fall of the share of
    content ratings, `maximum_latency_ratio` the rise of the time to first token, that is still accepted.
    """

    shares: list[Annotated[float, Field(gt=0, lt=1)]] = Field(min_length=1)
    planned_sample: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)
    alpha: float = Field(default=0.05, gt=0, lt=1)
    deadline_minutes: float = Field(gt=0)
    maximum_error_rate: float = Field(gt=0, lt=1)
    maximum_rating_loss: float = Field(default=0.1, ge=0, le=1)
    maximum_latency_ratio: float = Field(default=1.5, ge=1)

    @model_validator(mode="after")
    def _one_sample_per_share(self) -> Self:
        if len(self.shares) != len(self.planned_sample):
            raise ValueError("shares and planned_sample must be equally long: one of each per stage")
        return self


class JobSettings(_Part):
    """One kind of SageMaker job: its cluster as the API takes it, its longest run in seconds."""

    cluster: dict[str, str | int]
    max_seconds: int = Field(gt=0)
    hyperparameters: dict[str, str] = {}


class LoopSettings(_Part):
    """Numbers and structures of the settings that the state machine takes by path; times in seconds."""

    approval: Literal["automatic", "manual"]
    approval_seconds: int = Field(gt=0)
    second_region: bool
    shares: list[Annotated[float, Field(gt=0, lt=1)]] = Field(min_length=1)
    poll_seconds: int = Field(gt=0)
    training: JobSettings
    processing: JobSettings
    tags: dict[str, str]


class _Task(_Part):
    release_id: ReleaseId


class AcquireLock(_Task):
    """Become the endpoint's one release."""

    task: Literal["acquire_lock"]
    execution_arn: str
    trigger: str | dict[str, Any] | None = None


class LoadSettings(_Task):
    """Give the state machine the settings' numbers and structures."""

    task: Literal["load_settings"]


class CheckData(_Task):
    """Ask whether there is source data under `source_uri` that no finished release was trained on.

    `trigger` is the execution's input: an event, where the calendar or an alarm started it.
    """

    task: Literal["check_data"]
    source_uri: str
    trigger: str | dict[str, Any] | None = None


class DescribeChallenger(_Task):
    """Name what training left under `model_uri`."""

    task: Literal["describe_challenger"]
    model_uri: str


class Gate(_Task):
    """Analyze the offline comparison."""

    task: Literal["gate"]
    report_uri: str
    champion: ServedModel
    challenger: ServedModel


class Register(_Task):
    """Put the challenger into the registry, pending approval."""

    task: Literal["register"]
    challenger: ServedModel
    champion: ServedModel
    report_uri: str
    data_uri: str


class Approve(_Task):
    """Approve a package at once, or (with the workflow's `token`) ask the approvers."""

    task: Literal["approve"]
    package_arn: str
    status: Literal["Approved", "Rejected", "PendingManualApproval"]
    token: str | None = None


class Decide(_Task):
    """A person's word on a package; `secret` is what the message to the approvers carried."""

    task: Literal["decide"]
    secret: str
    decision: Literal["approve", "reject"]


class StartExperiment(_Task):
    """Put the challenger beside the champion, without traffic."""

    task: Literal["start_experiment"]
    champion: ServedModel
    challenger: ServedModel


class AwaitTopology(_Task):
    """Ask whether stack and endpoint have come to rest in `phase`; `started_at` is when the update began."""

    task: Literal["await_topology"]
    phase: Phase
    started_at: EpochSeconds | None = None


class SetShare(_Task):
    """Give the challenger its share of the traffic."""

    task: Literal["set_share"]
    share: Share
    champion: ServedModel
    challenger: ServedModel
    stage: int = Field(ge=0)


class AnalyzeStage(_Task):
    """Analyze the live traffic of a stage."""

    task: Literal["verdict"]
    stage: int = Field(ge=0)
    started_at: EpochSeconds
    share: Share


class Promote(_Task):
    """Let the champion variant serve the challenger's model."""

    task: Literal["promote"]
    champion: ServedModel
    challenger: ServedModel


class Retire(_Task):
    """Take the challenger variant away after a promotion."""

    task: Literal["retire"]
    challenger: ServedModel


class Follow(_Task):
    """Let the second region serve a champion, once its copy is there."""

    task: Literal["follow"]
    champion: ServedModel


class AwaitFollowed(_Task):
    """Ask whether the second region serves it; `execution_arn` updates its stack since `started_at`."""

    task: Literal["await_followed"]
    champion: ServedModel
    execution_arn: str
    started_at: EpochSeconds | None = None


class Restore(_Task):
    """Go back to the champion alone. Without `champion`, to the one that the lock remembers."""

    task: Literal["restore"]
    champion: ServedModel | None = None


class ReleaseLock(_Task):
    """End the release."""

    task: Literal["release_lock"]
    outcome: str
    reason: str = ""


AnyAnalysisTask = Gate | AnalyzeStage
AnyReleaseTask = (
    AcquireLock
    | LoadSettings
    | CheckData
    | DescribeChallenger
    | Register
    | Approve
    | Decide
    | StartExperiment
    | AwaitTopology
    | SetShare
    | Promote
    | Retire
    | Follow
    | AwaitFollowed
    | Restore
    | ReleaseLock
)
ANALYSIS_TASKS: TypeAdapter[AnyAnalysisTask] = TypeAdapter(
    Annotated[AnyAnalysisTask, Field(discriminator="task")]
)
RELEASE_TASKS: TypeAdapter[AnyReleaseTask] = TypeAdapter(
    Annotated[AnyReleaseTask, Field(discriminator="task")]
)


class StackUpdate(_Part):
    """Parameters that the serving stack is to get; `needed` is false where nothing is to change."""

    needed: bool
    parameters: dict[str, str] = {}


class Snapshot(_Part):
    """Answer of `acquire_lock`: what serves now, and how an experiment that was left behind is ended."""

    champion: ServedModel
    endpoint_name: str
    serving_stack: str
    restore: StackUpdate


class TrainingParameters(JobSettings):
    """What CreateTrainingJob is given by path."""

    metric_definitions: list[dict[str, str]]


class LoadedSettings(_Part):
    """Answer of `load_settings`; `tags` as SageMaker's jobs take them, `stages` how many shares there are."""

    approval: str
    approval_seconds: int
    second_region: bool
    shares: list[float]
    stages: int
    poll_seconds: int
    training: TrainingParameters
    processing: JobSettings
    tags: list[dict[str, str]]


class DataFound(_Part):
    """Answer of `check_data`: go on to train, or end as kept."""

    decision: Literal["train", "keep"]
    reason: str


class UpdatePlanned(StackUpdate):
    """Answer of a task that plans an update: since when (epoch seconds), and the pause between checks."""

    started_at: float
    poll_seconds: int


class FollowStarted(_Part):
    """Answer of `follow`: the execution that updates the second region's stack, since when, and the pause."""

    execution_arn: str
    started_at: float
    poll_seconds: int


class GateAnswer(_Part):
    """Answer of `gate`."""

    decision: Literal["promote", "keep"]
    reason: str


class Registered(_Part):
    """Answer of `register`."""

    package_arn: str


class Settled(_Part):
    """Answer of `await_topology` and `await_followed`."""

    settled: bool


class StageStarted(_Part):
    """Answer of `set_share`; `started_at` in seconds since the epoch."""

    stage: int
    started_at: float


class Observed(_Part):
    """What a stage has seen so far. `content` is the share of ratings of at least 0.5; None without any."""

    planned: int
    challenger_ratings: int
    champion_ratings: int
    challenger_content: float | None
    champion_content: float | None
    challenger_calls: int
    challenger_failures: int


class VerdictAnswer(_Part):
    """Answer of `verdict`."""

    verdict: Verdict
    reason: str
    observed: Observed


class Nothing(_Part):
    """Answer of a task that has none."""


class LedgerRow(_Part):
    """One step of a release as the ledger keeps it; `detail` is JSON."""

    pk: str
    sk: str
    step: str
    outcome: str
    reason: str
    detail: str
