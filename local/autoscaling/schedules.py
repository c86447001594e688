"""When a scheduled action is due: `at(…)`, `rate(…)` and `cron(…)` expressions, in a time zone.

Cron has six fields (minutes, hours, day of month, month, day of week, year); of AWS's special characters
`L`, `W` and `#` are refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from local.sagemaker.errors import AwsApiError, invalid

_SHAPE = re.compile(r"^(at|rate|cron)\((.+)\)$")
_RATE = re.compile(r"^(\d+) (minute|minutes|hour|hours|day|days)$")
_UNIT_SECONDS = {"minute": 60, "hour": 3600, "day": 86400}
_MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (1, 7), (1970, 2199))
MAX_CATCH_UP_SECONDS = 3600
"""How far back a cloud that was stopped looks for what it missed."""


@dataclass(frozen=True)
class ScheduleExpression:
    """A parsed expression. `created` is the moment (epoch seconds) that a rate counts from."""

    kind: str
    zone: ZoneInfo
    created: float
    moment: float = 0.0
    seconds: int = 0
    fields: tuple[frozenset[int] | None, ...] = ()

    def due(self, after: float, until: float) -> bool:
        """Whether a moment of the schedule lies in (after, until], both in epoch seconds."""
        after = max(after, until - MAX_CATCH_UP_SECONDS)
        if self.kind == "at":
            return after < self.moment <= until
        if self.kind == "rate":
            return (until - self.created) // self.seconds > (after - self.created) // self.seconds
        minute = int(after // 60 + 1) * 60
        return any(self._matches(each) for each in range(minute, int(until) + 1, 60))

    def _matches(self, moment: int) -> bool:
        local = datetime.fromtimestamp(moment, self.zone)
        weekday = local.isoweekday() % 7 + 1  # 1 is Sunday
        values = (local.minute, local.hour, local.day, local.month, weekday, local.year)
        return all(field is None or value in field for field, value in zip(self.fields, values, strict=True))


def parse(expression: str, zone_name: str, created: float) -> ScheduleExpression:
    """Read an expression; raises AwsApiError (ValidationException) in plain words."""
    try:
        zone = ZoneInfo(zone_name)
    except (ZoneInfoNotFoundError, ValueError):
        raise invalid(f"The time zone {zone_name} is not valid.") from None
    match = _SHAPE.match(expression)
    if match is None:
        raise _wrong(expression, "it must be at(…), rate(…) or cron(…)")
    kind, inner = match.groups()
    if kind == "at":
        try:
            moment = datetime.fromisoformat(inner).replace(tzinfo=zone)
        except ValueError:
            raise _wrong(expression, "at() takes yyyy-mm-ddThh:mm:ss") from None
        return ScheduleExpression(kind, zone, created, moment=moment.timestamp())
    if kind == "rate":
        rate = _RATE.match(inner)
        if rate is None or int(rate[1]) < 1:
            raise _wrong(expression, "rate() takes a positive whole number of minutes, hours or days")
        return ScheduleExpression(
            kind, zone, created, seconds=int(rate[1]) * _UNIT_SECONDS[rate[2].rstrip("s")]
        )
    return ScheduleExpression(kind, zone, created, fields=_cron(expression, inner.split()))


def _cron(expression: str, parts: list[str]) -> tuple[frozenset[int] | None, ...]:
    if len(parts) != len(_RANGES):
        raise _wrong(expression, "cron() has six fields: minutes hours day-of-month month day-of-week year")
    if (parts[2] == "?") == (parts[4] == "?"):
        raise _wrong(expression, "exactly one of day-of-month and day-of-week must be ?")
    return tuple(_field(expression, part, index) for index, part in enumerate(parts))


def _field(expression: str, text: str, index: int) -> frozenset[int] | None:
    if text in ("*", "?"):
        return None
    names = {3: _MONTHS, 4: _DAYS}.get(index, [])
    low, high = _RANGES[index]
    allowed: set[int] = set()
    for part in text.upper().split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        try:
            start = low if first == "*" else _number(first, names)
            end = _number(last, names) if last else (high if step or first == "*" else start)
            width = int(step or "1")
        except ValueError:
            raise _wrong(expression, f"the laptop cloud does not know {part}") from None
        if not (low <= start <= end <= high and width > 0):
            raise _wrong(expression, f"{part} is not between {low} and {high}")
        allowed.update(range(start, end + 1, width))
    return frozenset(allowed)


def _number(text: str, names: list[str]) -> int:
    return names.index(text) + 1 if text in names else int(text)


def _wrong(expression: str, reason: str) -> AwsApiError:
    return invalid(f"The schedule expression {expression} is not valid: {reason}.")


def epoch(value: float | str) -> float:
    """A request's timestamp in epoch seconds."""
    if isinstance(value, str):
        parsed = datetime.fromisoformat(value.replace("Z", "+00:00"))
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    return float(value)
