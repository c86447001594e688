"""A caller brings so many new schemas in a minute; those that are known are free, and callers are apart."""

from __future__ import annotations

from model_code.serving.generation.schema_quota import SchemaQuota


class Clock:
    """Stands until it is set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_new_schemas_are_counted_and_known_ones_are_not() -> None:
    quota = SchemaQuota(3, Clock())
    assert [quota.seconds_to_wait("a", f"schema {number}") for number in range(3)] == [0, 0, 0]
    assert quota.seconds_to_wait("a", "one more") == 20
    assert quota.seconds_to_wait("a", "schema 1") == 0
    assert quota.seconds_to_wait("b", "one more") == 0
    assert quota.seconds_to_wait("a", "one more") == 0, "another caller has made it known"


def test_the_allowance_fills_with_time_and_no_further() -> None:
    clock = Clock()
    quota = SchemaQuota(3, clock)
    for number in range(3):
        quota.seconds_to_wait("a", f"schema {number}")
    clock.now += 20
    assert quota.seconds_to_wait("a", "after a third of a minute") == 0
    assert quota.seconds_to_wait("a", "at once") == 20
    clock.now += 3600
    assert [quota.seconds_to_wait("a", f"later {number}") > 0 for number in range(4)] == [False] * 3 + [True]


def test_what_is_refused_stays_unknown() -> None:
    quota = SchemaQuota(1, Clock())
    quota.seconds_to_wait("a", "first")
    assert quota.seconds_to_wait("a", "second") > 0
    assert quota.seconds_to_wait("a", "second") > 0


def test_many_callers_take_bounded_memory() -> None:
    quota = SchemaQuota(1, Clock())
    for number in range(10_000):
        assert quota.seconds_to_wait(f"caller {number}", f"schema {number}") == 0
    assert len(quota._known) <= 4_096
    assert len(quota._left) <= 4_096
