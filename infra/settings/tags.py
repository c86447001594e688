"""What AWS takes as tags: how many, how long, of which characters, and whose prefix is reserved.

Source: "Tag naming limits and requirements" of AWS's tagging guide. Knows nothing of CDK.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from infra.settings.exclusions import exclusion

_MOST = 45
"""Of AWS's 50 on a resource; subnets and jobs carry a few of their own beside these."""
_KEY, _VALUE = 128, 256
_CHARACTERS = re.compile(r"^[\w\s.:/=+\-@]*$")

_TAGS = exclusion(
    "tags",
    refuses=f"more than {_MOST} tags, a key above {_KEY} or a value above {_VALUE} characters, a key aws:…",
    why="AWS takes 50 tags on a resource, some carry their own, and the prefix aws: is AWS's.",
    change="fewer or shorter tags of letters, digits, spaces and . : / = + - @ _",
)


def check_tags(tags: Mapping[str, str]) -> None:
    """Every resource can carry the tags. Raises RuleError with a path from the section."""
    if len(tags) > _MOST:
        raise _TAGS.refusal("tags", what=f"These are {len(tags)} tags.", example={"team": "ml-platform"})
    for key, value in tags.items():
        if fault := _fault(key, value):
            raise _TAGS.refusal("tags", key, what=f"The tag '{_short(key)}' {fault}.", example="ml-platform")


def _fault(key: str, value: str) -> str:
    if key.lower().startswith("aws:"):
        return "has AWS's own prefix"
    if not 1 <= len(key) <= _KEY:
        return f"has a key of {len(key)} characters"
    if len(value) > _VALUE:
        return f"has a value of {len(value)} characters"
    if not (_CHARACTERS.match(key) and _CHARACTERS.match(value)):
        return f"holds characters that AWS does not take: '{_short(value)}'"
    return ""


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"
