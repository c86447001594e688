"""The lines of batch files: what is asked, what came of it, and what is wrong with a file. Pure.

Source: the OpenAI API reference, "Batch": request input and output objects.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from contracts.jobs import BatchError, BatchLine

MOST_ERRORS = 100

NOT_RUN = {
    "expired": ("batch_expired", "This request was not answered before the batch's deadline."),
    "cancelled": ("batch_cancelled", "This request was not answered before the batch was cancelled."),
    "failed": ("batch_failed", "This request was not answered before the batch failed."),
}
"""Why a line has no answer, by the batch's last status: code and message."""


@dataclass(frozen=True)
class Outcome:
    """What came of one line: the status and the body of the reply."""

    line: int
    request_id: str
    status: int
    body: Any
    retry_after: int | None = None

    @property
    def is_success(self) -> bool:
        """Whether the line was answered."""
        return self.status < 400

    def to_json(self) -> bytes:
        """One line of a part."""
        values = {"line": self.line, "request_id": self.request_id, "status": self.status, "body": self.body}
        return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def texts(content: bytes) -> list[bytes]:
    """The lines of a file that hold anything."""
    return [line for line in content.split(b"\n") if line.strip()]


def outcomes(parts: Iterable[bytes]) -> dict[int, Outcome]:
    """All outcomes by line. A line that was done twice, since a worker died in between, counts once."""
    found: dict[int, Outcome] = {}
    for part in parts:
        for text in texts(part):
            values = json.loads(text)
            found[values["line"]] = Outcome(
                values["line"], values["request_id"], values["status"], values["body"]
            )
    return found


def problems(content: bytes, endpoint: str, most_lines: int) -> tuple[int, list[BatchError]]:
    """How many requests a file has, and what keeps it from being run: each with its line, from 1."""
    lines = texts(content)
    if not lines:
        return 0, [BatchError(code="empty_file", message="The file has no requests.")]
    if len(lines) > most_lines:
        message = f"The file has {len(lines)} requests; at most {most_lines} are accepted."
        return len(lines), [BatchError(code="too_many_requests", message=message)]
    found: list[BatchError] = []
    seen: set[str] = set()
    for number, text in enumerate(lines, start=1):
        for code, message, param in _problems_of(text, endpoint, seen):
            found.append(BatchError(code=code, message=message, line=number, param=param))
        if len(found) >= MOST_ERRORS:
            break
    return len(lines), found


def _problems_of(text: bytes, endpoint: str, seen: set[str]) -> Iterator[tuple[str, str, str | None]]:
    try:
        line = BatchLine.model_validate_json(text)
    except ValidationError as error:
        detail = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if detail["type"] == "json_invalid":
            yield "invalid_json_line", "This line is not a JSON object.", None
        else:
            param = ".".join(str(part) for part in detail["loc"]) or None
            yield "invalid_request", f"{param or 'line'}: {detail['msg']}", param
        return
    if line.custom_id in seen:
        yield "duplicate_custom_id", "Another line has the same custom_id.", "custom_id"
    seen.add(line.custom_id)
    if line.url != endpoint:
        yield "mismatched_url", f"'url' must be the batch's endpoint, {endpoint}.", "url"
    if line.body.get("stream"):
        yield "stream_not_allowed", "An answer in a file is whole: leave 'stream' out.", "body.stream"


def request_of(text: bytes) -> BatchLine:
    """A line that has been found in order."""
    return BatchLine.model_validate_json(text)


def result_files(
    lines: list[bytes], done: dict[int, Outcome], batch: str, status: str
) -> tuple[bytes, bytes]:
    """The output file and the error file of a batch that is over; either may be empty."""
    answered, failed = bytearray(), bytearray()
    for number, text in enumerate(lines):
        entry: dict[str, Any] = {
            "id": f"batch_req_{batch.removeprefix('batch_')}_{number}",
            "custom_id": json.loads(text)["custom_id"],
            "response": None,
            "error": None,
        }
        outcome = done.get(number)
        if outcome is None:
            code, message = NOT_RUN[status]
            entry["error"] = {"code": code, "message": message}
        else:
            entry["response"] = {
                "status_code": outcome.status,
                "request_id": outcome.request_id,
                "body": outcome.body,
            }
        written = json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        if outcome is not None and outcome.is_success:
            answered += written
        else:
            failed += written
    return bytes(answered), bytes(failed)
