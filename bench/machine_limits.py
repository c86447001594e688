"""What this machine could do at most: bytes read from memory per second, multiplications per second.

One token for one user reads every weight once, so memory bounds it; a large batch multiplies, so the
matrix units do. Runs in the serving environment: `python -m bench.machine_limits` prints one JSON line.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from functools import partial

_REPEATS = 7
_READ_BYTES = 512 << 20
"""Far beyond any cache."""
_SIDE = 2048  # of the square matrices


def measure() -> dict[str, float]:
    """Best of a few repeats: gigabytes per second read, and 10⁹ operations per second by number format."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    block = torch.ones(_READ_BYTES // 4, dtype=torch.float32)
    limits = {"read_gigabytes_per_second": _READ_BYTES / _best(block.sum) / 1e9}
    del block
    operations = 2 * _SIDE**3 / 1e9
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        left, right = torch.randn(2, _SIDE, _SIDE).to(dtype)
        limits[f"gemm_{name}"] = operations / _best(partial(torch.matmul, left, right))
    small = torch.randint(-100, 100, (2, _SIDE, _SIDE), dtype=torch.int8)
    # torch has no public name for the int8 product.
    limits["gemm_int8"] = operations / _best(lambda: torch._int_mm(small[0], small[1]))  # noqa: SLF001
    return {name: round(value, 1) for name, value in limits.items()}


def _best(work: Callable[[], object]) -> float:
    work()
    seconds = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


if __name__ == "__main__":
    print(json.dumps(measure()))
