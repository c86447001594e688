"""Which precision a model computes in on this machine."""

from __future__ import annotations

import torch


def working_dtype(precision: str) -> torch.dtype:
    """`bfloat16`, `float32`, or for `auto` bfloat16 where it is multiplied natively, else float32."""
    if precision != "auto":
        return {"bfloat16": torch.bfloat16, "float32": torch.float32}[precision]
    if torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = torch.cpu.get_capabilities()
        native = bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    return torch.bfloat16 if native else torch.float32
