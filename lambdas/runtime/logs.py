"""Structured logs: one JSON object per line, with the ids that tie lines of one request together.

Fields are named by the code that logs, values are counts, codes and ids. Prompts, answers and exception
messages (which may quote them) never go in; `failure` therefore logs where an exception happened, not what it
says.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from contextvars import ContextVar
from typing import Any

from contracts.trace_context import read_xray

_LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}
_correlation: ContextVar[dict[str, str] | None] = ContextVar("correlation", default=None)


class Logger:
    """Writes log lines of one function at or above a level."""

    def __init__(self, function: str, level: str = "INFO") -> None:
        self._function = function
        self._threshold = _LEVELS.get(level.upper(), 20)

    def info(self, event: str, **fields: Any) -> None:
        """Something worth counting happened."""
        self._write("INFO", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Something went wrong that the caller does not notice, or that the caller has to change."""
        self._write("WARNING", event, fields)

    def failure(self, event: str, error: BaseException, **fields: Any) -> None:
        """An exception that is ours: its type and frames, without its message."""
        frames = [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(error.__traceback__)]
        self._write("ERROR", event, {**fields, "exception": type(error).__name__, "frames": frames[-12:]})

    def _write(self, level: str, event: str, fields: dict[str, Any]) -> None:
        if _LEVELS[level] < self._threshold:
            return
        line = {
            "timestamp": round(time.time(), 3),
            "level": level,
            "function": self._function,
            "event": event,
            **(_correlation.get() or {}),
            **fields,
        }
        sys.stdout.write(json.dumps(line, default=str) + "\n")
        sys.stdout.flush()


def correlate(request_id: str, trace_id: str | None, span_id: str | None = None) -> None:
    """Put these ids into every line until the next call. `trace_id` may be X-Ray's header."""
    of_xray = read_xray(trace_id)
    ids = {
        "request_id": request_id,
        "trace_id": of_xray.trace_id if of_xray else trace_id,
        "span_id": span_id,
    }
    _correlation.set({name: value for name, value in ids.items() if value})
