"""Structured logs: one JSON object per line on stdout, each with the ids of the request it belongs to.

Prompt and answer text never come here; callers pass counts, times and names.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

REQUEST_IDS: ContextVar[dict[str, str]] = ContextVar("request_ids", default={})  # noqa: B039 - never mutated
_FIELDS = "fields"


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its line break."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **REQUEST_IDS.get(),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure() -> None:
    """Send every logger to stdout as JSON."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def event(logger: logging.Logger, message: str, *, level: int = logging.INFO, **fields: Any) -> None:
    """Log a message with fields of its own."""
    logger.log(level, message, extra={_FIELDS: fields})


def phases(began: float, admitted: float | None, first_token: float | None, ended: float) -> dict[str, Any]:
    """The times of one request for its log line, from seconds of one clock: with the ids of the line they are
    a span that nothing has to send. What was not reached is None."""
    return {
        "started_at": round(time.time() - (time.perf_counter() - began), 3),  # seconds since the epoch
        "queue_ms": _milliseconds(began, admitted),
        "prefill_ms": _milliseconds(admitted, first_token),
        "decode_ms": _milliseconds(first_token, ended),
        "first_token_ms": _milliseconds(began, first_token),
        "duration_ms": _milliseconds(began, ended),
    }


def _milliseconds(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else round(1000 * (end - start), 1)
