"""From X-Ray's trace header to W3C's, which the model container understands."""

from __future__ import annotations

import re

_ROOT = re.compile(r"1-([0-9a-f]{8})-([0-9a-f]{24})")
_PARENT = re.compile(r"[0-9a-f]{16}")


def traceparent(trace_id: str | None) -> str | None:
    """`00-<trace>-<span>-<flags>` for `Root=1-…;Parent=…;Sampled=…`; None where a part is missing."""
    fields = dict(piece.split("=", 1) for piece in (trace_id or "").split(";") if "=" in piece)
    root = _ROOT.fullmatch(fields.get("Root", ""))
    parent = fields.get("Parent", "")
    if root is None or not _PARENT.fullmatch(parent):
        return None
    flags = "01" if fields.get("Sampled") == "1" else "00"
    return f"00-{root[1]}{root[2]}-{parent}-{flags}"
