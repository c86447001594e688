"""Values that a settings file is shipped with and that are nobody's: each with file and line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from infra.settings.loader import FOLDER
from operations.checks.results import Result, failed, passed, unsettled
from operations.target import Target

# The account that AWS's own documents use, a bucket nobody has, the domains that RFC 2606 keeps for examples.
_NOBODYS = (
    re.compile(r"111122223333|123456789012(?!\d)"),
    re.compile(r"your-[a-z0-9-]+"),
    re.compile(r"[\w.+-]+@example\.(?:com|org|net)"),
    re.compile(r"https?://[\w.-]*example\.(?:com|org|net)\S*"),
)
_EMPTY_TAG = re.compile(r"""cost-centre:\s*["']0000["']""")


def check_placeholders(target: Target, folder: Path = FOLDER) -> Iterator[Result]:
    """Every line of the settings that still holds a placeholder."""
    path = folder / f"{target.name}.yaml"
    found = False
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        place, value = f"settings/{path.name}:{number}", _without_comment(text)
        if target.is_laptop:
            continue  # the laptop's account is what it is
        for pattern in _NOBODYS:
            if match := pattern.search(value):
                found = True
                yield failed(place, f"'{match.group()}' is a placeholder", "put your own value there")
                break
        else:
            if _EMPTY_TAG.search(value):
                yield unsettled(place, "the cost centre is a placeholder", "put your own value there")
    if not found:
        yield passed("settings", "no placeholder is left")


def _without_comment(line: str) -> str:
    """The line up to a `#` that begins a comment; quoted ones stay."""
    quote = ""
    for place, character in enumerate(line):
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character == "#" and (place == 0 or line[place - 1].isspace()):
            return line[:place]
    return line
