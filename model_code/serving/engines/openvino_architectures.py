"""Which models the openvino engine's graph can express, judged by their `config.json` alone. Pure, cheap."""

from __future__ import annotations

from typing import Any

OPENVINO_TYPES = ("llama", "mistral", "qwen2", "qwen3")
"""Model types, as `config.json` names them, that the openvino engine can build."""


def unsupported_part(config: dict[str, Any]) -> str | None:
    """What of a model the graph cannot express, in words; None when it can express all of it."""
    kind = config.get("model_type")
    if kind not in OPENVINO_TYPES:
        return f"model type '{kind}' (known: {', '.join(OPENVINO_TYPES)})"
    for name in ("rope_parameters", "rope_scaling"):  # the second is the older name
        rope = config.get(name) or {}
        scaling = rope.get("rope_type") or rope.get("type") or "default"
        if scaling != "default":
            return f"rotary scaling '{scaling}'"
    if config.get("hidden_act", "silu") != "silu":
        return f"activation '{config['hidden_act']}'"
    if config.get("sliding_window") and config.get("use_sliding_window", True):
        return "sliding window attention"
    return None
