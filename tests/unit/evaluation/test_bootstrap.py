"""The bootstrap: known answers, a peer, stated error rates by simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap as peer_bootstrap

from evaluation.statistics.bootstrap import bootstrap
from evaluation.statistics.estimators import QuantileEstimator, SumEstimator, mean_of, ratio
from evaluation.statistics.sample_size import sample_size_paired

SIMULATIONS = 400


def one(values, **options):
    values = np.asarray(values, dtype=float)
    return bootstrap([mean_of(values)], len(values), **{"resamples": 800, "seed": 3, **options})[0]


def test_bca_agrees_with_scipy():
    values = np.random.default_rng(1).lognormal(0, 1, 60)

    ours = one(values, resamples=20_000).interval(0.95)
    peer = peer_bootstrap(
        (values,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(2)
    ).confidence_interval

    assert ours.method == "BCa bootstrap"
    assert (ours.low, ours.high) == pytest.approx((peer.low, peer.high), rel=0.02)


def test_a_seed_gives_the_same_figures_again():
    values = list(range(20))

    assert one(values).interval() == one(values).interval()
    assert one(values).interval() != one(values, seed=4).interval()


@settings(max_examples=30)
@given(st.lists(st.integers(0, 50), min_size=3, max_size=40), st.integers(-9, 9))
def test_intervals_shift_with_the_data_and_turn_with_the_sign(values, shift):
    plain, moved = one(values).interval(), one([value + shift for value in values]).interval()
    turned = one([-value for value in values]).interval()

    assert (moved.low, moved.high) == pytest.approx((plain.low + shift, plain.high + shift), abs=1e-6)
    assert (turned.low, turned.high) == pytest.approx((-plain.high, -plain.low), abs=1e-6)


def test_p_value_and_interval_never_disagree():
    generator = np.random.default_rng(9)
    for _ in range(60):
        replicates = one(generator.normal(0.3, 1, 40), resamples=999)
        interval = replicates.interval(0.95)
        clear = not interval.low <= 0 <= interval.high
        # at the edge both rest on the same few resamples; one of them may stand between
        if abs(replicates.p_value() - 0.05) > 0.006:
            assert clear == (replicates.p_value() < 0.05)


@pytest.mark.parametrize("shape", ["normal", "skewed", "zero-inflated"])
def test_false_positive_rate_of_the_paired_comparison(shape):
    generator = np.random.default_rng(11)
    false_alarms = 0
    for number in range(SIMULATIONS):
        if shape == "normal":
            differences = generator.normal(0, 0.3, 80)
        elif shape == "skewed":
            differences = generator.exponential(0.2, 80) - 0.2
        else:
            differences = generator.normal(0, 0.3, 80) * (generator.random(80) < 0.3)
        interval = one(differences, seed=number).interval(0.95)
        false_alarms += not interval.low <= 0 <= interval.high

    # 5 % nominal; four standard errors of 400 runs are 4.4 points
    assert false_alarms / SIMULATIONS < 0.094


def test_power_is_as_planned():
    items = sample_size_paired(0.3, 0.1)
    generator = np.random.default_rng(12)
    found = 0
    for number in range(200):
        interval = one(generator.normal(0.1, 0.3, items), seed=number, resamples=400).interval(0.95)
        found += interval.low > 0

    assert 0.70 < found / 200 < 0.92


def test_groups_are_resampled_whole():
    # Ten items of each group are copies: only the eight groups carry information.
    generator = np.random.default_rng(6)
    by_group = generator.normal(0, 1, 8)
    values, groups = np.repeat(by_group, 10), np.repeat(np.arange(8), 10)

    naive, grouped = one(values).interval(), one(values, groups=groups).interval()
    alone = one(by_group).interval()

    assert grouped.high - grouped.low > 2 * (naive.high - naive.low)
    assert (grouped.low, grouped.high) == pytest.approx((alone.low, alone.high), abs=1e-9)


def test_quantiles_get_percentile_intervals():
    values = np.random.default_rng(1).lognormal(5, 0.4, 300)

    replicates = bootstrap([QuantileEstimator(values, 0.95)], 300, resamples=500, seed=1)[0]

    interval = replicates.interval()
    assert interval.method == "percentile bootstrap"
    assert interval.low < np.percentile(values, 95) < interval.high


def test_differences_are_paired():
    generator = np.random.default_rng(2)
    hard = generator.normal(0, 5, 100)
    first, second = mean_of(hard), mean_of(hard + 0.2 + generator.normal(0, 0.1, 100))

    before, after = bootstrap([first, second], 100, resamples=500, seed=1)

    interval = after.minus(before).interval()
    assert interval.high - interval.low < 0.1
    assert interval.low > 0.1


def test_relative_differences():
    before, after = bootstrap(
        [mean_of(np.full(40, 200.0)), mean_of(np.full(40, 220.0))], 40, resamples=50, seed=1
    )

    assert after.relative_to(before).value == pytest.approx(0.1)


def test_an_undefined_quantity_has_no_interval():
    nothing = SumEstimator(np.zeros((10, 2)), ratio)

    replicates = bootstrap([nothing], 10, resamples=50, seed=1)[0]

    assert replicates.interval() is None
    assert replicates.p_value() == 1.0


def test_memory_stays_bounded_and_the_result_does_not_depend_on_pieces(monkeypatch):
    values = np.arange(50.0)
    whole = one(values)
    monkeypatch.setattr("evaluation.statistics.bootstrap._CELLS", 700)

    pieces = one(values)

    assert np.array_equal(whole.distribution, pieces.distribution)
    assert np.array_equal(whole.jackknife, pieces.jackknife)
