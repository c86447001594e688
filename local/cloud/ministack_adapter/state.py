"""The state of the emulator and of our plug-ins, out and in again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ministack import app as _app
from ministack.core import persistence as _persistence
from ministack.services import lambda_svc as _lambda
from ministack.services import s3 as _s3

_OWN_STATE = "own-"
_states: dict[str, tuple[Callable[[], dict[str, Any]], Callable[[dict[str, Any]], None]]] = {}


def add_state(name: str, save: Callable[[], dict[str, Any]], load: Callable[[dict[str, Any]], None]) -> None:
    """Keep a plug-in's state across restarts together with the emulator's: `save` answers JSON data."""
    _states[name] = (save, load)


def export_state() -> dict[str, str]:
    """The state of the emulator's services and of the plug-ins, as JSON texts by part. Raises RuntimeError
    when another thread changes a table meanwhile; then try again."""
    # The emulator would delete code files that only the former snapshot names; that one is still in force.
    prune, _lambda._prune_orphan_code_blobs = _lambda._prune_orphan_code_blobs, lambda _referenced: None
    try:
        emulator = {name: _as_text(get) for name, get in _app._build_persistence_save_dict().items()}
    finally:
        _lambda._prune_orphan_code_blobs = prune
    own = {_OWN_STATE + name: _as_text(save) for name, (save, _load) in _states.items()}
    return {name: text for name, text in (emulator | own).items() if text is not None}


def _as_text(get_state: Callable[[], Any]) -> str | None:
    """One part as JSON: its copy is gone before the next part is copied."""
    state = get_state()
    return None if state is None else json.dumps(state, default=_persistence._json_default)


def import_state(parts: Mapping[str, str]) -> None:
    """Take back what `export_state` gave; raises whatever a part raises."""
    for name, text in parts.items():
        state = json.loads(text, object_hook=_persistence._json_object_hook)
        if name.startswith(_OWN_STATE):
            _states[name.removeprefix(_OWN_STATE)][1](state)
        else:
            if name == "s3":
                _drop_later_buckets(state)
            _app._get_module(_app._state_map[name]).load_persisted_state(state)


def _drop_later_buckets(state: Mapping[str, Any]) -> None:
    """Objects are written through to disk; buckets that were made after the snapshot are not part of it."""
    known = set(state["buckets_meta"]._data)
    for scoped in [scoped for scoped in _s3._buckets._data if scoped not in known]:
        del _s3._buckets._data[scoped]
