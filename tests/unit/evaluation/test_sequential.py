"""Group-sequential bounds and confidence sequences: published values, simulated error rates."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.statistics.confidence_sequences import (
    MeanConfidenceSequence,
    difference,
    proportion_confseq,
)
from evaluation.statistics.group_sequential import (
    critical_values,
    crossing_probability,
    inflation_factor,
    obrien_fleming,
    pocock,
)
from evaluation.statistics.proportions import Proportion, newcombe_limits, two_sided_critical_value
from evaluation.statistics.sample_size import (
    minimum_detectable_effect,
    sample_size_means,
    sample_size_paired,
    sample_size_proportions,
)

FIFTHS = [0.2, 0.4, 0.6, 0.8, 1.0]


@pytest.mark.parametrize(
    ("spending", "published"),
    [
        # Lan and DeMets' program, two-sided 0.05, five equal looks
        (obrien_fleming, [4.877, 3.357, 2.680, 2.290, 2.031]),
        (pocock, [2.438, 2.427, 2.410, 2.397, 2.386]),
    ],
)
def test_boundaries_equal_the_published_ones(spending, published):
    assert critical_values(FIFTHS, 0.05, spending) == pytest.approx(published, abs=1e-3)


def test_one_look_is_the_plain_test():
    assert critical_values([1.0], 0.05) == pytest.approx([two_sided_critical_value(0.05)], abs=1e-6)


@given(
    st.lists(st.integers(1, 99), min_size=1, max_size=4, unique=True),
    st.sampled_from([0.01, 0.05]),
    st.sampled_from([obrien_fleming, pocock]),
)
@settings(max_examples=15, deadline=None)
def test_any_timing_of_looks_spends_alpha_exactly(percents, alpha, spending):
    fractions = [*(percent / 100 for percent in sorted(percents)), 1.0]

    criticals = critical_values(fractions, alpha, spending)

    assert crossing_probability(fractions, criticals) == pytest.approx(alpha, abs=2e-4)


def test_false_positive_rate_and_power_by_simulation():
    generator = np.random.default_rng(8)
    criticals = np.array(critical_values(FIFTHS, 0.05, pocock))
    steps = generator.normal(0, np.sqrt(0.2), size=(40_000, 5))
    times = np.array(FIFTHS)
    for drift in (0.0, 2.8):
        z_values = np.cumsum(steps + drift * 0.2, axis=1) / np.sqrt(times)
        crossed = (np.abs(z_values) > criticals).any(axis=1).mean()
        assert crossed == pytest.approx(crossing_probability(FIFTHS, list(criticals), drift), abs=0.01)


def test_looking_without_bounds_would_not_hold_alpha():
    unadjusted = [two_sided_critical_value(0.05)] * 5

    assert crossing_probability(FIFTHS, unadjusted) == pytest.approx(0.142, abs=2e-3)


@pytest.mark.parametrize("fractions", [[], [0.5, 0.5], [0.6, 0.4], [0.0, 1.0], [1.0, 1.2]])
def test_impossible_looks_are_refused(fractions):
    with pytest.raises(ValueError, match=r"look|rise"):
        critical_values(fractions, 0.05)


def test_a_sample_beyond_the_plan_counts_as_full():
    assert critical_values([0.5, 1.3], 0.05) == pytest.approx(critical_values([0.5, 1.0], 0.05))


def test_inflation_costs_little_with_late_spending():
    late = inflation_factor([0.5, 1.0], 0.05, 0.8)
    even = inflation_factor([0.5, 1.0], 0.05, 0.8, pocock)

    assert 1 < late < 1.02
    assert 1.08 < even < 1.15


def test_rate_sequence_covers_at_all_times_together():
    generator = np.random.default_rng(5)
    missed = 0
    checked = sorted({int(1.3**power) for power in range(4, 28)})
    for _ in range(300):
        events = np.cumsum(generator.random(1200) < 0.1)
        bounds = [
            proportion_confseq(Proportion(int(events[at - 1]), at), 0.05) for at in checked if at <= 1200
        ]
        missed += any(not bound.low <= 0.1 <= bound.high for bound in bounds)

    # 5 % at most in theory; the binomial error of 300 runs is 1.3 points
    assert missed / 300 <= 0.05


@pytest.mark.parametrize("outcomes", ["binary", "scores"])
def test_mean_sequence_covers_at_all_times_together(outcomes):
    missed = 0
    for seed in range(150):
        generator = random.Random(seed)
        state = MeanConfidenceSequence(alpha=0.05)
        for _ in range(400):
            value = float(generator.random() < 0.3) if outcomes == "binary" else generator.betavariate(3, 7)
            state = state.add(value)
            if not state.low <= 0.3 <= state.high:
                missed += 1
                break

    assert missed / 150 <= 0.06


def test_mean_sequence_is_narrow_where_outcomes_vary_little():
    generator = random.Random(1)
    calm = MeanConfidenceSequence(alpha=0.05).add_all(
        0.5 + generator.uniform(-0.05, 0.05) for _ in range(2000)
    )
    wild = MeanConfidenceSequence(alpha=0.05).add_all(float(generator.random() < 0.5) for _ in range(2000))

    assert calm.high - calm.low < 0.4 * (wild.high - wild.low)
    assert calm.low < 0.5 < calm.high


def test_difference_of_sequences_holds_the_union_bound():
    bound = difference(
        proportion_confseq(Proportion(10, 100), 0.025),
        proportion_confseq(Proportion(30, 100), 0.025),
    )

    assert bound.level == pytest.approx(0.95)
    assert bound.low < 0.2 < bound.high


@pytest.mark.parametrize("outcome", [-0.1, 1.1, float("nan")])
def test_outcomes_outside_the_unit_interval_are_refused(outcome):
    with pytest.raises(ValueError, match="must lie in"):
        MeanConfidenceSequence(alpha=0.05).add(outcome)


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_planned_samples_have_the_planned_power(share):
    rate, margin = 0.1, 0.06
    smaller = sample_size_proportions(rate, margin, share=share)
    larger = round(smaller * (1 - share) / share)
    generator = np.random.default_rng(3)
    shown = 0
    for _ in range(1500):
        control = Proportion(int(generator.binomial(larger, rate)), larger)
        treated = Proportion(int(generator.binomial(smaller, rate)), smaller)
        shown += newcombe_limits(control, treated, two_sided_critical_value(0.05))[1] < margin

    assert 0.74 < shown / 1500 < 0.88


def test_plans_are_inverse_to_each_other_and_grow_as_they_should():
    assert minimum_detectable_effect(0.3, sample_size_paired(0.3, 0.05)) == pytest.approx(0.05, rel=0.01)
    assert sample_size_means(1.0, 0.05) == pytest.approx(4 * sample_size_means(1.0, 0.1), rel=0.001)
    assert sample_size_means(1.0, 0.1, share=0.1) < sample_size_means(1.0, 0.1)


@pytest.mark.parametrize("options", [{"margin": 0.0}, {"margin": -1.0}, {"margin": 0.1, "share": 0.7}])
def test_impossible_plans_are_refused(options):
    with pytest.raises(ValueError, match=r"plan|share"):
        sample_size_proportions(0.1, **options)
