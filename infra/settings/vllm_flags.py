"""The flags that vLLM's server gets from the settings, and whether the version in an image takes them.

AWS's image turns each variable `SM_VLLM_X` into the flag `--x`, and the server ends at once on a flag or a
parser that it does not know. Knows nothing of CDK.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from contracts.container import DEFAULT_MODEL_DIR
from infra.settings.base import RuleError
from infra.settings.engine_versions import EngineVersion, engine_versions
from infra.settings.exclusions import Exclusion, exclusion

QUEUE_FLAG = "max-num-queued-reqs"
_DRAIN_SECONDS = 25  # SageMaker kills a container 30 s after asking it to stop
_OWNED = {
    **dict.fromkeys(("host", "port", "uds", "root-path"), "SageMaker asks at an address of its own"),
    **dict.fromkeys(("api-key", "ssl-keyfile", "ssl-certfile", "ssl-ca-certs"), "SageMaker would be refused"),
    **dict.fromkeys(
        ("middleware", "api-server-count", "data-parallel-size", "headless"), "the hook would not count"
    ),
    **dict.fromkeys(("config", "model-tag", "grpc"), "it would replace what the settings say"),
}
"""Flags that `arguments` may not hold, and why."""

_UNKNOWN_FLAG = exclusion(
    "engine-flag",
    refuses="a key or an entry of `arguments` whose flag the image's vLLM does not have",
    why="vLLM's server ends at once on a flag that it does not know.",
    change="a flag of the version, or another image: infra/settings/engine_versions.yaml lists both",
)
_UNKNOWN_NAME = exclusion(
    "engine-name",
    refuses="a tool call parser, reasoning parser or quantisation that the image's vLLM does not have",
    why="vLLM's server ends at once on a name that it does not know.",
    change="a name of the version",
)
_TAKEN_FLAG = exclusion(
    "engine-arguments",
    refuses="a flag in `arguments` that another key sets, or that would part the server from SageMaker",
    why="A flag has one owner.",
    change="the key that owns the flag, or leave it out",
)


class VllmKeys(Protocol):
    """The keys of the engine's settings that become flags."""

    @property
    def max_context_tokens(self) -> int: ...

    @property
    def max_running_requests(self) -> int: ...

    @property
    def max_queued_requests(self) -> int: ...

    @property
    def tensor_parallel(self) -> int: ...

    @property
    def gpu_memory_utilization(self) -> float: ...

    @property
    def max_adapters(self) -> int: ...

    @property
    def tool_call_parser(self) -> str | None: ...

    @property
    def quantization(self) -> str | None: ...

    @property
    def arguments(self) -> Mapping[str, str | float | bool]: ...


@dataclass(frozen=True)
class Flag:
    """One flag of the server: the settings key that it comes from, its name without dashes, its value."""

    key: str
    name: str
    value: str

    @property
    def variable(self) -> str:
        """The variable that AWS's image makes the flag of."""
        return "SM_VLLM_" + self.name.upper().replace("-", "_")


def flags(engine: VllmKeys, model_name: str, facts: EngineVersion) -> list[Flag]:
    """Every flag that these settings ask for; vLLM's own bound of its queue only where the version has it."""
    found = [
        Flag("image", "model", DEFAULT_MODEL_DIR),
        Flag("image", "served-model-name", model_name),
        Flag("max_context_tokens", "max-model-len", str(engine.max_context_tokens)),
        Flag("max_running_requests", "max-num-seqs", str(engine.max_running_requests)),
        Flag("tensor_parallel", "tensor-parallel-size", str(engine.tensor_parallel)),
        Flag("gpu_memory_utilization", "gpu-memory-utilization", str(engine.gpu_memory_utilization)),
        Flag("image", "shutdown-timeout", str(_DRAIN_SECONDS)),  # its default, 0, aborts running answers
    ]
    if QUEUE_FLAG in facts.flags:
        # vLLM counts those that run among those that wait; where it cannot count, the hook does
        bound = engine.max_running_requests + engine.max_queued_requests
        found.append(Flag("max_queued_requests", QUEUE_FLAG, str(bound)))
    if engine.max_adapters:
        most = str(engine.max_adapters)
        adapters = {"enable-lora": "true", "max-loras": most, "max-cpu-loras": most}
        found += [Flag("max_adapters", name, value) for name, value in adapters.items()]
    if engine.tool_call_parser:
        found.append(Flag("tool_call_parser", "enable-auto-tool-choice", "true"))
        found.append(Flag("tool_call_parser", "tool-call-parser", engine.tool_call_parser))
    if engine.quantization:
        found.append(Flag("quantization", "quantization", engine.quantization))
    return found + [Flag("arguments", name, _word(value)) for name, value in engine.arguments.items()]


def check(engine: VllmKeys, version: str) -> None:
    """Refuse what the version of vLLM in the image does not take. Raises RuleError with the key to change."""
    facts = engine_versions()[version]
    asked = flags(engine, "model", facts)
    owners = {flag.name: flag.key for flag in asked if flag.key != "arguments"}
    for flag in asked:
        path = [flag.key, *([flag.name] if flag.key == "arguments" else [])]
        if flag.key == "arguments" and (flag.name in owners or flag.name in _OWNED):
            raise _taken(path, flag.name, owners)
        if flag.name not in facts.flags:
            raise _unknown(
                _UNKNOWN_FLAG, path, f"vLLM {version} has no flag '{flag.name}'", flag.name, facts.flags
            )
    names = {
        "tool-call-parser": ("tool call parser", facts.tool_call_parsers),
        "reasoning-parser": ("reasoning parser", facts.reasoning_parsers),
        "quantization": ("quantisation", facts.quantization),
    }
    for flag in asked:
        what, known = names.get(flag.name, ("", frozenset()))
        if what and flag.value not in known:
            path = [flag.key, *([flag.name] if flag.key == "arguments" else [])]
            text = f"vLLM {version} has no {what} '{flag.value}'"
            raise _unknown(_UNKNOWN_NAME, path, text, flag.value, known, list_all=True)


def _taken(path: list[str], name: str, owners: dict[str, str]) -> RuleError:
    reason = f"the key '{owners[name]}' sets it" if name in owners else _OWNED[name]
    return _TAKEN_FLAG.refusal(*path, what=f"The flag '{name}' may not stand here: {reason}.", example=None)


def _unknown(
    rule: Exclusion, path: list[str], what: str, name: str, known: Iterable[str], *, list_all: bool = False
) -> RuleError:
    """The refusal of a name that the version does not know, with the nearest one that it does."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    change = f"one of {', '.join(sorted(known))}" if list_all else ""
    return rule.refusal(*path, what=f"{what}.{hint}", change=change, example=near[0] if near else None)


def _word(value: str | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
