"""What all benchmarks share: the command that was run, the machine, the summary of repeated measurements."""

from __future__ import annotations

import os
import shlex
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "bench" / "results"


def command_line() -> str:
    """The command that runs this benchmark again with its options, from the repository's root."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        words = ["python", "-m", spec.name.removesuffix(".__main__")]
    else:
        words = ["python", os.path.relpath(sys.argv[0], REPOSITORY)]
    return shlex.join([*words, *sys.argv[1:]])


def cpu_model() -> str:
    """The processor's name as the kernel gives it; empty where it gives none."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def machine() -> str:
    """Processor, cores this process may use, and the load (1 minute) now, in one phrase."""
    cores = len(os.sched_getaffinity(0))
    return f"{cpu_model()}, {cores} cores, load {os.getloadavg()[0]:.1f}"


def spread(values: Iterable[float]) -> dict[str, float]:
    """Median, least and most, in the unit of the values."""
    ordered = sorted(values)
    return {"median": statistics.median(ordered), "low": ordered[0], "high": ordered[-1]}
