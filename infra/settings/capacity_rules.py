"""Rules between an engine, its machines, their schedules and the rollout: what fits together.

Each check takes parts of one endpoint's settings and raises RuleError with a path from the endpoint. Knows
nothing of the kinds of endpoint.
"""

from __future__ import annotations

from typing import Any

from infra.settings import instance_types
from infra.settings.engine import Engine
from infra.settings.exclusions import exclusion
from infra.settings.machines import IdleInstances, Instances, Machines
from infra.settings.rollout import Deployment, GradualDeployment
from infra.settings.scaling import BacklogScalingSettings, ScalingSettings

_ENGINE_NEEDS: dict[str, tuple[tuple[instance_types.Accelerator, ...], str, str]] = {
    "vllm": (("gpu",), "an NVIDIA GPU type (g5, g6, g6e, p4d, p5 …)", "ml.g6e.xlarge"),
    "neuron": (("neuron",), "an Inferentia2 or Trainium type (inf2, trn1, trn2)", "ml.inf2.xlarge"),
    "transformers": (("cpu", "gpu"), "a CPU or GPU type (c7i, m7i, g5 …)", "ml.c7i.2xlarge"),
}
_COMPUTES_ON = {"gpu": "NVIDIA GPUs", "neuron": "Neuron cores", "cpu": "its CPU"}

_FITS = exclusion(
    "engine-machine",
    refuses="an engine on a machine that lacks its accelerator",
    why="vLLM needs an NVIDIA GPU, vLLM on Neuron an Inferentia2 or Trainium, our handler a CPU or a GPU.",
    change="an instance type of the engine's family",
)
_INF1 = exclusion(
    "inf1",
    refuses="Inf1 machines",
    why="Deployment guardrails and shadow variants exclude Inf1, and vLLM on Neuron needs Inferentia2.",
    change="ml.inf2, ml.trn1 or ml.trn2",
)
_DEVICES = exclusion(
    "tensor-parallel",
    refuses="a model spread over more devices than the machine has",
    why="One copy of the model cannot leave its machine.",
    change="a smaller tensor_parallel, or a larger instance type",
)
_CANARY = exclusion(
    "canary-two-machines",
    refuses="a canary or linear rollout on fewer than two machines",
    why="The canary is a share of whole machines; one machine has no smaller share.",
    change="min: 2, or deployment kind all_at_once",
)
SCHEDULE = exclusion(
    "schedule-within-max",
    refuses="a schedule that goes above the fleet's max",
    why="The cost cap is computed at max.",
    change="a smaller schedule, or a larger max",
)
SCHEDULE_ZERO = exclusion(
    "schedule-zero",
    refuses="a schedule down to 0 machines on a realtime endpoint",
    why="Only inference components and asynchronous endpoints go down to no machine.",
    change="min: 1, or kind scale_to_zero",
)
_SCHEDULE_BURSTABLE = exclusion(
    "schedule-burstable",
    refuses="a schedule for t-family machines",
    why="SageMaker does not autoscale burstable (t-family) machines.",
    change="another instance type such as ml.c7i.large, or no schedule",
)


def check_machines(engine: Engine, machines: Machines) -> None:
    """The engine runs on every type, and one copy of the model fits onto one machine's devices."""
    accelerators, allowed, example = _ENGINE_NEEDS[engine.kind]
    for name in machines.types:
        key = "type" if name == machines.type else "alternatives"
        shown: Any = example if key == "type" else []
        if instance_types.family(name) == "inf1":
            raise _INF1.refusal("instances", key, what=f"{name} is an Inf1 machine.", example=shown)
        have = instance_types.accelerator(name)
        if have not in accelerators:
            raise _FITS.refusal(
                "instances",
                key,
                what=f"Engine '{engine.kind}' does not run on {name}.",
                why=f"That machine computes on {_COMPUTES_ON[have]}.",
                change=allowed,
                example=shown,
            )
        devices = instance_types.devices(name)
        wanted = getattr(engine, "tensor_parallel", 1)
        if devices and wanted > devices.count:
            raise _DEVICES.refusal(
                "engine",
                "tensor_parallel",
                what=f"{name} has {devices.count} devices, not {wanted}.",
                example=devices.count,
            )


def check_schedules(
    scaling: ScalingSettings | BacklogScalingSettings, machines: Instances | IdleInstances
) -> None:
    """Schedules stay below the fleet's max, and machines that keep their number have none."""
    for schedule in scaling.schedules:
        if schedule.max > machines.max:
            raise SCHEDULE.refusal(
                "scaling",
                "schedules",
                what=f"The schedule '{schedule.name}' goes above {machines.max} machines.",
                example=[],
            )
        if any(instance_types.burstable(name) for name in machines.types):
            raise _SCHEDULE_BURSTABLE.refusal(
                "scaling", "schedules", what=f"{machines.type} keeps its number.", example=[]
            )


def check_canary(
    deployment: Deployment,
    machines: Instances | IdleInstances,
    scaling: ScalingSettings | BacklogScalingSettings,
) -> None:
    """Traffic that shifts in shares finds two machines at any time."""
    least = min([machines.min, *(schedule.min for schedule in scaling.schedules)])
    if isinstance(deployment, GradualDeployment) and least < 2:
        raise _CANARY.refusal(
            "deployment",
            "kind",
            what=f"A {deployment.kind} deployment needs at least 2 instances, and there may be {least}.",
            change="instances.min: 2, or deployment kind all_at_once",
            example="all_at_once",
        )
