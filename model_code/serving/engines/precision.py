"""Chooses the number format of the weights by measuring this machine, not by its name."""

from __future__ import annotations

import time

import torch

_WIDTH = 1024
_ROUNDS = 5


def fastest_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where this device multiplies it faster than float32 at a decode step's shape, else float32.

    Accelerators always get bfloat16. On CPU it takes some ten milliseconds.
    """
    if device.type != "cpu":
        return torch.bfloat16
    seconds = {dtype: _seconds(dtype) for dtype in (torch.float32, torch.bfloat16)}
    return min(seconds, key=lambda dtype: seconds[dtype])


@torch.inference_mode()
def _seconds(dtype: torch.dtype) -> float:
    weights = [torch.ones(_WIDTH, _WIDTH, dtype=dtype) for _ in range(4)]
    state = torch.ones(4, _WIDTH, dtype=dtype)
    best = float("inf")
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        for weight in weights:
            torch.nn.functional.linear(state, weight)
        best = min(best, time.perf_counter() - started)
    return best
