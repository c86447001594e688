"""The surroundings of a SageMaker training job: folders, hyperparameters, stop signal, failure reason.

Names are those of SageMaker and its training toolkit; each has the service's default path, so the same
script runs in AWS's containers and, with the variables set, in any folder. Knows nothing of models.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from pydantic import ValidationError

from contracts.training import metric_line
from model_code.training.hyperparameters import Hyperparameters

FAILURE_CHARACTERS = 1024
"""SageMaker keeps this much of the failure file as the job's FailureReason."""
EXIT_STOPPED = 128 + signal.SIGTERM
_TOOLKIT_PREFIX = "sagemaker_"  # hyperparameters that the service adds for its own toolkit


class TrainingError(Exception):
    """The job cannot go on; the message is the reason a person reads in DescribeTrainingJob."""


class StoppedError(Exception):
    """SIGTERM came and a checkpoint was written; the message says at which step."""


@dataclass(frozen=True)
class Job:
    """Folders of one training job. `data` and `base_model` are channels; the rest is written."""

    data: Path
    base_model: Path
    model: Path
    output_data: Path
    checkpoints: Path
    failure: Path
    code_version: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Job:
        """The folders that the `SM_*` variables name, or the service's own paths."""

        def path(name: str, default: str) -> Path:
            return Path(environment.get(name) or default)

        output = path("SM_OUTPUT_DIR", "/opt/ml/output")
        return cls(
            data=path("SM_CHANNEL_TRAIN", "/opt/ml/input/data/train"),
            base_model=path("SM_CHANNEL_MODEL", "/opt/ml/input/data/model"),
            model=path("SM_MODEL_DIR", "/opt/ml/model"),
            output_data=path("SM_OUTPUT_DATA_DIR", str(output / "data")),
            checkpoints=path("SM_CHECKPOINT_DIR", "/opt/ml/checkpoints"),
            failure=output / "failure",
            code_version=environment.get("EVERGREEN_CODE_VERSION", "unknown"),
        )

    def fail(self, reason: str) -> None:
        """Leave the reason where SageMaker looks for it."""
        self.failure.parent.mkdir(parents=True, exist_ok=True)
        self.failure.write_text(reason[:FAILURE_CHARACTERS], encoding="utf-8")


def read_hyperparameters(
    arguments: Sequence[str], environment: Mapping[str, str] = os.environ
) -> Hyperparameters:
    """Hyperparameters of `SM_HPS` (JSON), overridden by `--name value` arguments; `-` and `_` are the same.

    Raises TrainingError naming the hyperparameter that is unknown or out of range.
    """
    try:
        given = dict(json.loads(environment.get("SM_HPS") or "{}"))
    except (json.JSONDecodeError, TypeError, ValueError) as error:
        raise TrainingError(f"SM_HPS is not a JSON object: {error}") from None
    if len(arguments) % 2:
        raise TrainingError(f"hyperparameters come as '--name value' pairs, got {len(arguments)} words")
    for name, value in zip(arguments[::2], arguments[1::2], strict=True):
        if not name.startswith("--"):
            raise TrainingError(f"expected a hyperparameter's name starting with '--', got {name!r}")
        given[name[2:]] = value
    named = {name.replace("-", "_"): value for name, value in given.items()}
    try:
        return Hyperparameters(**{k: v for k, v in named.items() if not k.startswith(_TOOLKIT_PREFIX)})
    except ValidationError as error:
        first = error.errors()[0]
        raise TrainingError(f"hyperparameter {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


class StopSignal:
    """Whether SIGTERM has come: a spot interruption or StopTrainingJob, 120 s before the kill."""

    def __init__(self) -> None:
        self.received = False

    def _handle(self, _signal: int, _frame: FrameType | None) -> None:
        self.received = True

    @contextmanager
    def listening(self) -> Iterator[StopSignal]:
        """Note SIGTERM instead of dying from it, as long as the block runs."""
        before = signal.signal(signal.SIGTERM, self._handle)
        try:
            yield self
        finally:
            signal.signal(signal.SIGTERM, before)


def emit(name: str, value: float, step: int) -> None:
    """Print one measurement for CloudWatch and for whoever watches the log."""
    print(metric_line(name, round(value, 6), step), flush=True)


def say(text: str) -> None:
    """One line for a person, on stderr."""
    print(text, file=sys.stderr, flush=True)
