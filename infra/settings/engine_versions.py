"""What each version of vLLM takes (`engine_versions.yaml`): its server's flags, and the names that some take.

vLLM's server ends at once on a flag or a parser that it does not know. The table is data, which
`engine_recorder.py` writes from real packages. Reads that file only.
"""

from __future__ import annotations

import datetime
from functools import cache
from pathlib import Path

import yaml

from infra.settings.base import SettingsModel

TABLE = Path(__file__).with_name("engine_versions.yaml")


class EngineVersion(SettingsModel):
    """One version of vLLM: every flag of its server, and what three of them accept."""

    recorded: datetime.date
    flags: frozenset[str]
    tool_call_parsers: frozenset[str]
    reasoning_parsers: frozenset[str]
    quantization: frozenset[str]


@cache
def engine_versions() -> dict[str, EngineVersion]:
    """What is recorded, by version."""
    rows = yaml.safe_load(TABLE.read_text(encoding="utf-8"))["vllm"]
    return {version: EngineVersion.model_validate(row, strict=False) for version, row in rows.items()}
