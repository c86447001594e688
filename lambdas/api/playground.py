"""The playground: one page without any part from elsewhere, and what a browser may do on it.

The page is the same for everybody. The key is typed in and stays in the page's memory.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

_PAGE = Path(__file__).with_name("playground.html")
_INLINE = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)


@cache
def page() -> tuple[str, dict[str, str]]:
    """The page and its headers: its own style and script may run, and it may ask its own origin."""
    text = _PAGE.read_text(encoding="utf-8")
    allowed = {kind: _source(content) for kind, content in _INLINE.findall(text)}
    policy = (
        "default-src 'none'",
        f"style-src {allowed['style']}",
        f"script-src {allowed['script']}",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
    headers = {
        "content-security-policy": "; ".join(policy),
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-cache",
    }
    return text, headers


def _source(content: str) -> str:
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    return f"'sha256-{digest}'"
