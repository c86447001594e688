"""Which trace a request belongs to, as headers carry it: from the caller to the functions to the container.

What is not valid counts as not sent, so a caller's mistake begins a new trace and refuses nothing.
Sources: W3C Trace Context, level 2; AWS X-Ray developer guide, "Tracing header".
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_ROOT = re.compile(r"1-([0-9a-f]{8})-([0-9a-f]{24})")
_SPAN_ID = re.compile(r"[0-9a-f]{16}")
_SAMPLED = 0x01

_MEMBER = re.compile(
    r"(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
_MOST_MEMBERS = 32
_LONGEST_STATE = 512  # what everybody should pass on, at least


@dataclass(frozen=True)
class TraceContext:
    """A place in a trace: ids in lower-case hex (32 and 16 digits), whether it is recorded, vendors' state.

    `span_id` is empty where nothing has been recorded above.
    """

    trace_id: str
    span_id: str
    is_sampled: bool
    state: str = ""

    @property
    def traceparent(self) -> str:
        """The header's value, for whoever is called from here."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.is_sampled else '00'}"

    def child(self) -> TraceContext:
        """A new place below this one."""
        return replace(self, span_id=new_span_id())


def new_trace_id() -> str:
    """Random, as the W3C asks for."""
    return os.urandom(16).hex()


def new_span_id() -> str:
    """Random, as the W3C asks for."""
    return os.urandom(8).hex()


def read_headers(traceparent: str | None, tracestate: str | None = None) -> TraceContext | None:
    """The context that two headers tell of; None where `traceparent` is missing or not valid.

    A `tracestate` that is not valid is dropped by itself.
    """
    found = _TRACEPARENT.fullmatch((traceparent or "").strip(" \t"))
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    # A later version may say more behind what is known; version ff is forbidden, and 00 has no more.
    if version == "ff" or (version == "00" and more is not None):
        return None
    if not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & _SAMPLED), read_state(tracestate))


def read_state(tracestate: str | None) -> str:
    """A valid `tracestate`, without blanks between its members; empty where it is none."""
    members = [member.strip(" \t") for member in (tracestate or "").split(",")]
    members = [member for member in members if member]
    keys = {member.partition("=")[0] for member in members}
    state = ",".join(members)
    if len(members) > _MOST_MEMBERS or len(keys) < len(members) or len(state) > _LONGEST_STATE:
        return ""
    return state if all(_MEMBER.fullmatch(member) for member in members) else ""


def read_xray(header: str | None) -> TraceContext | None:
    """The context in `Root=1-…;Parent=…;Sampled=…`; None without a valid root."""
    fields = dict(piece.strip().split("=", 1) for piece in (header or "").split(";") if "=" in piece)
    root = _ROOT.fullmatch(fields.get("Root", ""))
    if root is None:
        return None
    parent = fields.get("Parent", "")
    span_id = parent if _SPAN_ID.fullmatch(parent) else ""
    return TraceContext(root[1] + root[2], span_id, fields.get("Sampled") == "1")
