"""Intervals of rates and means against published values, peers and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from evaluation.statistics.means import Moments, difference_limits
from evaluation.statistics.proportions import (
    Proportion,
    mcnemar_p_value,
    newcombe_limits,
    paired_proportion_limits,
    two_sided_critical_value,
    wilson,
)

Z95 = two_sided_critical_value(0.05)
RATES = st.integers(1, 200).flatmap(
    lambda trials: st.builds(Proportion, st.integers(0, trials), st.just(trials))
)


@given(RATES, st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_equals_scipy(rate, level):
    expected = binomtest(rate.events, rate.trials).proportion_ci(level, method="wilson")

    interval = wilson(rate, level)

    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_newcombe_gives_the_published_example():
    # Newcombe 1998, table II, contrast (a): 56/70 against 48/80
    low, high = newcombe_limits(Proportion(48, 80), Proportion(56, 70), Z95)

    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)


@given(RATES, RATES)
def test_newcombe_turns_its_sign_with_the_arms(control, treated):
    low, high = newcombe_limits(control, treated, Z95)
    other_low, other_high = newcombe_limits(treated, control, Z95)

    assert -1 <= low <= treated.value - control.value <= high <= 1
    assert (low, high) == pytest.approx((-other_high, -other_low))


def test_no_event_is_not_certainty():
    assert wilson(Proportion(0, 50)).high > 0.05
    assert newcombe_limits(Proportion(0, 50), Proportion(0, 50), Z95)[1] > 0.05
    assert paired_proportion_limits(0, 0, 50, Z95)[1] > 0.03


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_equals_the_binomial_test(gained, lost):
    expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0

    assert mcnemar_p_value(gained, lost) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("gained_share", "lost_share", "items"), [(0.02, 0.02, 60), (0.15, 0.05, 60), (0.3, 0.3, 200)]
)
def test_paired_limits_cover_what_they_state(gained_share, lost_share, items):
    generator = np.random.default_rng(4)
    draws = generator.multinomial(items, [gained_share, lost_share, 1 - gained_share - lost_share], size=4000)

    covered = 0
    for gained, lost, _ in draws:
        low, high = paired_proportion_limits(int(gained), int(lost), items, Z95)
        covered += low <= gained_share - lost_share <= high

    assert covered / 4000 > 0.94


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50))
def test_moments_equal_numpy(values):
    moments = Moments.of(values)

    assert moments.mean == pytest.approx(np.mean(values), rel=1e-9, abs=1e-6)
    assert moments.variance == pytest.approx(np.var(values, ddof=1), rel=1e-6, abs=1e-3)


def test_a_small_arm_gives_no_interval():
    enough = Moments.of([float(value) for value in range(30)])
    few = Moments.of([float(value) for value in range(29)])

    assert difference_limits(enough, few, Z95) is None
    assert difference_limits(enough, enough, Z95) is not None


def test_difference_of_logarithms_is_a_ratio():
    control = Moments.of_logarithms([100.0 + number for number in range(50)])
    slower = Moments.of_logarithms([110.0 + 1.1 * number for number in range(50)])

    low, high = difference_limits(control, slower, Z95)

    assert low < math.log(1.1) < high
    assert slower.mean - control.mean == pytest.approx(math.log(1.1))


@pytest.mark.parametrize(("events", "trials"), [(-1, 3), (4, 3)])
def test_impossible_rates_are_refused(events, trials):
    with pytest.raises(ValueError, match="not a rate"):
        Proportion(events, trials)
