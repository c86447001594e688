"""Measured capacity of one machine: `bench/capacity/<instance type>.yaml`, and the scaling target from it.

The file is written by a benchmark run and names what was measured; a measurement of another model or image is
no measurement of this one and is passed over. Reads those files only.
"""

from __future__ import annotations

import datetime
import math
from pathlib import Path
from typing import Literal

import yaml
from pydantic import ValidationError

from infra.settings.base import SettingsModel, setting

FOLDER = Path(__file__).parents[2] / "bench" / "capacity"
HEADROOM = 0.7
"""Share of a machine's capacity to hold: the rest carries the load while another machine starts."""


class CapacityError(ValueError):
    """A capacity file cannot be read; the text names it."""


class Capacity(SettingsModel):
    """One measurement of one machine at the highest load that still met the latency goals."""

    instance_type: str = setting("SageMaker instance type.", "ml.g6e.xlarge")
    model: str = setting("`model.name` of the settings.", "llama-3.1-8b-instruct")
    image: str = setting("Row of infra/settings/images.yaml.", "vllm-cuda-2.4")
    measured: datetime.date = setting("Day of the run.", "2026-11-20")
    concurrent_requests: float = setting("Requests in flight, queued ones included.", 32.0, gt=0)
    invocations_per_minute: float = setting("Requests answered in a minute.", 240.0, gt=0)


def capacity(instance_type: str, model: str, image: str, folder: Path = FOLDER) -> Capacity | None:
    """The measurement of this machine with this model and image; None where there is none.

    Raises CapacityError where the file is not one.
    """
    path = folder / f"{instance_type}.yaml"
    if not path.is_file():
        return None
    try:
        found = Capacity.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValidationError) as error:
        raise CapacityError(f"bench/capacity/{path.name} is no capacity file: {error}") from None
    same = (found.instance_type, found.model, found.image) == (instance_type, model, image)
    return found if same else None


def target(
    metric: Literal["concurrent_requests", "invocations"],
    measured: Capacity | None,
    max_running_requests: int,
) -> float | None:
    """Level of `metric` to hold per machine; None where it cannot be told without a measurement.

    Without one a full batch is taken for what a machine can hold at once.
    """
    if metric == "concurrent_requests":
        level = measured.concurrent_requests if measured else float(max_running_requests)
    elif measured:
        level = measured.invocations_per_minute
    else:
        return None
    return float(max(1, math.floor(HEADROOM * level)))
