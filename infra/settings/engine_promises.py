"""What each kind of model server keeps of the container's promises, and which keys rely on it.

A key of the engine's settings that relies on a promise which its server lacks would be read by nobody: it is
refused. docs/engines.md is written from the same table, `engine_promises.yaml`. Reads that file only.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import yaml

from infra.settings.base import SettingsModel
from infra.settings.exclusions import exclusion

TABLE = Path(__file__).with_name("engine_promises.yaml")
_LACKING = exclusion(
    "engine-promise",
    refuses="a key of the engine's settings that relies on a promise which its server lacks",
    why="Nothing in the container would read it: docs/engines.md lists what each server keeps.",
    change="leave the key out, or another engine",
)


class EnginePromise(SettingsModel):
    """One promise. A server is in one of `shown`, with a test, `own` and `lacking`, both with a sentence."""

    means: str
    shown: dict[str, str]
    own: dict[str, str] = {}
    lacking: dict[str, str] = {}
    keys: list[str] = []


class EnginePromiseTable(SettingsModel):
    """All promises by name, and the servers by the name that stands in them."""

    servers: dict[str, str]
    promises: dict[str, EnginePromise]


@cache
def promise_table() -> EnginePromiseTable:
    """The committed table."""
    return EnginePromiseTable.model_validate(yaml.safe_load(TABLE.read_text(encoding="utf-8")))


def refuse_unkept(server: str, keys: Iterable[str]) -> None:
    """Raise RuleError for the first of these keys that relies on a promise which the server lacks."""
    reasons = {
        key: promise.lacking[server]
        for promise in promise_table().promises.values()
        if server in promise.lacking
        for key in promise.keys
    }
    for key in keys:
        if key in reasons:
            what = f"'{key}' has no effect on {promise_table().servers[server]}."
            raise _LACKING.refusal(key, what=what, why=reasons[key], example=None)
