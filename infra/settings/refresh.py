"""The refresh loop: when it starts, what its jobs run on, what gate and canary ask for.

Knows nothing of CDK. Gate and canary become `contracts.release_tasks.GateSettings` and `CanarySettings`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from infra.settings import instance_types
from infra.settings.base import RuleError, SettingsModel, setting
from infra.settings.exclusions import exclusion
from infra.settings.images import image_table
from infra.settings.instance_offers import Use
from infra.settings.machines import InstanceType, check_type
from infra.settings.texts import EmailAddress, check_schedule

_MAX_POLLS = 2000  # of nine history events each; an execution holds 25,000
TRAINING_ENGINE = "training"
_JOB_MACHINE = exclusion(
    "neuron-jobs",
    refuses="the refresh loop's jobs on Inferentia or Trainium",
    why="Inferentia cannot train, and the jobs are not compiled for Trainium.",
    change="an NVIDIA GPU type (g5, g6, g6e …) or a CPU type",
)


class RefreshJobSettings(SettingsModel):
    """Machine, image and time of one kind of job."""

    use: ClassVar[Use] = "processing"

    instance_type: InstanceType = setting("SageMaker instance type; CPU or NVIDIA GPU.", "ml.g6.2xlarge")
    image: str = setting("Row of infra/settings/images.yaml: a training container.", "pytorch-training-2.9")
    volume_gb: int = setting("Size of the job's disk.", 100, ge=1, le=16_384, default=50)
    max_minutes: int = setting("The job is stopped after this time.", 60, ge=1, le=1440)

    @model_validator(mode="after")
    def _machine_and_image(self) -> Self:
        if instance_types.accelerator(self.instance_type) == "neuron":
            example = "ml.g6.2xlarge"
            inferentia = instance_types.family(self.instance_type).startswith("inf")
            raise _JOB_MACHINE.refusal(
                "instance_type",
                what=f"{self.instance_type} does not run the refresh loop's jobs.",
                why="Inferentia cannot train." if inferentia else "The jobs are not compiled for Trainium.",
                change="an NVIDIA GPU type (g5, g6, g6e …) or a CPU type",
                example=example,
            )
        check_type(("instance_type",), self.use, self.instance_type)
        table = image_table().images
        fitting = sorted(name for name, image in table.items() if image.engine == TRAINING_ENGINE)
        if self.image not in fitting:
            known = "serves models and trains none" if self.image in table else "is not in the image table"
            raise RuleError(
                "image",
                what=f"The image '{self.image}' {known}.",
                why="Jobs run in a container with PyTorch and SageMaker's training toolkit.",
                change=f"one of {', '.join(fitting)}, or a new row in infra/settings/images.yaml",
                example=fitting[0],
            )
        return self


class TrainingSettings(RefreshJobSettings):
    """The training job."""

    use: ClassVar[Use] = "training"

    hyperparameters: dict[str, str | int | float] = setting(
        "Hyperparameters of model_code/training; left out, their defaults (docs/training.md).",
        {"epochs": 4},
        default={},
    )


class OfflineGateSettings(SettingsModel):
    """What the offline comparison must show before callers meet a challenger."""

    metric: str = setting("Metric of the evaluation report that decides.", "token_f1", default="token_f1")
    minimum_gain: float = setting("Gain asked for, in the metric's unit.", 0.0, ge=0, default=0.0)
    alpha: float = setting(
        "Chance that a challenger that is no better passes.", 0.05, gt=0, lt=1, default=0.05
    )
    maximum_latency_ratio: float = setting("1.25 accepts 25 % slower.", 1.25, ge=1, default=1.25)
    maximum_cut_share: float = setting(
        "Share of either model's answers that may be cut at `answer_tokens`; above it the gate does not "
        "decide. A metric from 0 to 1 is off by at most this share.",
        0.05,
        ge=0,
        le=1,
        default=0.05,
    )


class CanaryAnalysis(SettingsModel):
    """The stages in which a challenger meets callers."""

    shares: list[Annotated[float, Field(gt=0, lt=1)]] = setting(
        "The challenger's share of the traffic, stage by stage.", [0.1, 0.5], min_length=1, max_length=5
    )
    planned_sample: list[Annotated[int, Field(ge=1, le=100_000_000)]] = setting(
        "Rated answers of the challenger that end each stage.", [200, 500]
    )
    alpha: float = setting(
        "Chance that all stages together promote a worse challenger.", 0.05, gt=0, lt=1, default=0.05
    )
    deadline_minutes: float = setting(
        "A stage that has too few ratings by then ends inconclusive.", 1440.0, gt=0
    )
    maximum_error_rate: float = setting("Share of server errors that is accepted.", 0.02, gt=0, lt=1)
    maximum_rating_loss: float = setting(
        "Fall of the share of content ratings that is accepted.", 0.1, ge=0, le=1, default=0.1
    )
    maximum_latency_ratio: float = setting(
        "Rise of the time to first token that is accepted.", 1.5, ge=1, default=1.5
    )

    @model_validator(mode="after")
    def _stages(self) -> Self:
        if len(self.shares) != len(self.planned_sample):
            raise RuleError(
                "planned_sample",
                what=f"There are {len(self.shares)} shares and {len(self.planned_sample)} planned samples.",
                why="Each stage ends at a sample of its own.",
                change="one number for each share",
                example=[200] * len(self.shares),
            )
        if sorted(set(self.shares)) != self.shares:
            raise RuleError(
                "shares",
                what=f"The shares {self.shares} do not grow.",
                why="Each stage shows the challenger to more callers than the one before.",
                change="the same shares in growing order, each once",
                example=sorted(set(self.shares)),
            )
        return self


class RefreshSettings(SettingsModel):
    """The refresh loop: from new data to a promoted model, or to the reason why not."""

    schedule: str | None = setting(
        "EventBridge expression that starts a release; left out, none starts by itself.",
        "cron(0 3 ? * SUN *)",
        pattern=r"^(cron|rate)\(.+\)$",
        form="cron(…) or rate(…)",
        default=None,
    )
    alarms: list[str] = setting(
        "Names of CloudWatch alarms that start a release when they go off.", ["quality-drift"], default=[]
    )
    approval: Literal["automatic", "manual"] = setting(
        "`manual` asks the approvers by e-mail before callers meet a challenger.", "manual"
    )
    approvers: list[EmailAddress] = setting(
        "E-mail addresses of the approvers; each must confirm once.", ["lead@example.com"], default=[]
    )
    approval_hours: int = setting(
        "A question that nobody answers by then ends the release.", 72, ge=1, le=720, default=72
    )
    training: TrainingSettings = setting("The training job.", {"instance_type": "ml.g6.2xlarge"})
    processing: RefreshJobSettings = setting(
        "Data preparation and evaluation jobs.", {"instance_type": "ml.g6.xlarge"}
    )
    answer_tokens: int | None = setting(
        "Length at which evaluation cuts an answer, in tokens; left out, the endpoint's "
        "`engine.default_max_tokens`, which callers get.",
        512,
        ge=1,
        le=131_072,
        default=None,
    )
    gate: OfflineGateSettings = setting("What the offline comparison must show.", {"metric": "token_f1"})
    canary: CanaryAnalysis = setting(
        "The stages in which a challenger meets callers.", {"shares": [0.1, 0.5]}
    )
    poll_seconds: int = setting(
        "Pause between looks at a stage or at the stack.", 60, ge=1, le=3600, default=60
    )

    @model_validator(mode="after")
    def _schedule_is_one(self) -> Self:
        if self.schedule is not None:
            check_schedule("schedule", self.schedule)
        return self

    @model_validator(mode="after")
    def _somebody_can_approve(self) -> Self:
        if self.approval == "manual" and not self.approvers:
            raise RuleError(
                "approvers",
                what="Approval is manual and there are no approvers.",
                why="The release would wait for an answer that nobody is asked for.",
                change="at least one e-mail address, or approval: automatic",
                example=["lead@example.com"],
            )
        return self

    @model_validator(mode="after")
    def _history_holds_the_polls(self) -> Self:
        polls = len(self.canary.shares) * self.canary.deadline_minutes * 60 / self.poll_seconds
        if polls > _MAX_POLLS:
            enough = min(3600, int(polls * self.poll_seconds / _MAX_POLLS) + 1)
            raise RuleError(
                "poll_seconds",
                what=f"The canary could take {polls:.0f} looks.",
                why="Step Functions ends an execution at 25,000 events; a look takes nine.",
                change=f"at least {enough} seconds, or a shorter canary.deadline_minutes",
                example=enough,
            )
        return self
