"""The playground's page: whole by itself, and fenced by its own policy."""

from __future__ import annotations

import base64
import hashlib
import re

from lambdas.api.playground import page


def test_nothing_comes_from_elsewhere() -> None:
    text, _ = page()
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?!data:)[^"'>\s]""", text)
    assert "http://" not in text
    assert "https://" not in text
    assert "@import" not in text


def test_only_the_pages_own_style_and_script_may_run() -> None:
    text, headers = page()
    policy = dict(
        part.split(" ", 1) for part in headers["content-security-policy"].split("; ") if " " in part
    )
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    for kind in ("style", "script"):
        (content,) = re.findall(f"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy[f"{kind}-src"] == f"'sha256-{digest}'"
    assert not re.search(r"\son\w+=|style=", text)


def test_the_key_is_kept_nowhere() -> None:
    text, _ = page()
    assert not re.search(r"localStorage|sessionStorage|document\.cookie|indexedDB", text)
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write", text)


def test_every_field_has_a_label() -> None:
    text, _ = page()
    for name in re.findall(r"<(?:input|select|textarea) id=\"(\w+)\"", text):
        assert f'for="{name}"' in text or re.search(rf"<label[^>]*><input id=\"{name}\"", text), name
