"""Schedule expressions: what EventBridge and Application Auto Scaling take, and what they refuse."""

from __future__ import annotations

import pytest

from infra.settings.base import RuleError
from infra.settings.texts import check_schedule

TAKEN = [
    "cron(0 3 ? * SUN *)",
    "cron(0/15 8-17 ? * MON-FRI *)",
    "cron(30 2 L * ? *)",
    "cron(0 9 15W * ? 2027)",
    "cron(0 9 ? * 2#1 *)",
    "cron(0 9 ? * FRI#3 *)",
    "cron(0 9 ? * 6L *)",
    "cron(5,35 */2 ? JAN,jul 1-5 2026-2030)",
    "rate(1 day)",
    "rate(7 days)",
]
REFUSED = [
    "cron(0 3 * * SUN *)",  # both days
    "cron(0 3 ? * ? *)",  # neither
    "cron(60 3 ? * SUN *)",
    "cron(0 3 ? 13 SUN *)",
    "cron(0 3 ? * 8 *)",
    "cron(0 3 ? * FRI-MON *)",
    "cron(0 3 ? * SUN 1969)",
    "cron(0/0 3 ? * SUN *)",
    "cron(0 ? ? * SUN *)",
    "cron(-5 3 ? * SUN *)",
    "cron(0 3 ? * SUN)",
    "cron()",
    "rate(0 days)",
    "rate(1 days)",
    "rate(2 day)",
    "rate(5 weeks)",
    "rate(١ day)",
]


@pytest.mark.parametrize("expression", TAKEN)
def test_it_is_taken(expression: str) -> None:
    check_schedule("schedule", expression)


@pytest.mark.parametrize("expression", [*REFUSED, "at(2027-01-31T03:00:00)"])
def test_it_is_refused_with_its_form(expression: str) -> None:
    with pytest.raises(RuleError) as caught:
        check_schedule("schedule", expression)

    assert expression in str(caught.value)
    assert "cron(minutes hours" in caught.value.change


def test_scaling_takes_a_single_moment_too() -> None:
    check_schedule("at", "at(2027-01-31T03:00:00)", once=True)

    for wrong in ("at(2027-13-31T03:00:00)", "at(tomorrow)", "at(2027-01-31)"):
        with pytest.raises(RuleError, match="a date and a time"):
            check_schedule("at", wrong, once=True)
