"""How many new schemas a caller may bring: an engine prepares each once, which takes time from everybody.

A schema that any caller has brought before is known, and free. Pure; knows nothing of engines or HTTP.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable

NEW_SCHEMAS_PER_MINUTE = 60
"""Of one caller; as many at one moment."""
_KNOWN_SCHEMAS = 4_096
_KNOWN_CALLERS = 4_096


class SchemaQuota:
    """One allowance for each caller, which fills with time. `clock`: seconds that only go forward."""

    def __init__(
        self, per_minute: int = NEW_SCHEMAS_PER_MINUTE, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_minute, self._clock = per_minute, clock
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # allowance, and when it was so

    def seconds_to_wait(self, caller: str, schema: str) -> float:
        """0 where a schema may be prepared now, which makes it known; else when the caller may bring one."""
        digest = hashlib.sha256(schema.encode()).digest()
        if digest not in self._known:
            now = self._clock()
            left, since = self._left.get(caller, (float(self._per_minute), now))
            left = min(float(self._per_minute), left + (now - since) * self._per_minute / 60)
            if left < 1:
                self._left[caller] = (left, now)
                return (1 - left) * 60 / self._per_minute
            self._left[caller] = (left - 1, now)
            self._left.move_to_end(caller)
            _trim(self._left, _KNOWN_CALLERS)
        self._known[digest] = None
        self._known.move_to_end(digest)
        _trim(self._known, _KNOWN_SCHEMAS)
        return 0.0


def _trim(entries: OrderedDict, most: int) -> None:  # type: ignore[type-arg]  # of whatever kind
    while len(entries) > most:
        entries.popitem(last=False)
