"""How many observations a comparison needs before it may be trusted. No numpy.

All sizes are for two-sided intervals at 1 - alpha (so one direction errs with alpha / 2) and the given power
when the truth is what the plan assumes. Multiply by `group_sequential.inflation_factor` for interim looks.
"""

from __future__ import annotations

import math
from statistics import NormalDist


def sample_size_proportions(
    rate: float, margin: float, *, alpha: float = 0.05, power: float = 0.8, share: float = 0.5
) -> int:
    """Observations in the smaller arm to exclude a rate more than `margin` above, when both truly are `rate`.

    For a rate that must not fall, plan on its complement. `share` is the smaller arm's part of the traffic:
    at 10 % the larger arm brings nine times as many, and the smaller one needs little more than half of an
    even split's. The limit is judged by the variance at the rate to exclude, the power by that at the truth.

    >>> sample_size_proportions(0.02, 0.02)
    1020
    """
    if rate < 0 or margin <= 0 or rate + margin >= 1:
        raise ValueError(f"a plan needs a margin above zero and rates inside [0, 1), not {rate} + {margin}")
    per_own = _per_own(share)
    at_truth = rate * (1 - rate) * (1 + per_own)
    excluded = rate + margin
    at_limit = excluded * (1 - excluded) + rate * (1 - rate) * per_own
    normal = NormalDist()
    spread = normal.inv_cdf(1 - alpha / 2) * math.sqrt(at_limit) + normal.inv_cdf(power) * math.sqrt(at_truth)
    return max(1, math.ceil((spread / margin) ** 2))


def sample_size_means(
    deviation: float, margin: float, *, alpha: float = 0.05, power: float = 0.8, share: float = 0.5
) -> int:
    """The same for a mean with the standard deviation `deviation`; `margin` in the same unit.

    For latency compared on the logarithm a margin of 10 % is `log(1.1)`.
    """
    if deviation < 0 or margin <= 0:
        raise ValueError("a plan needs a margin above zero and a deviation of at least zero")
    variance = deviation**2 * (1 + _per_own(share))
    return max(1, math.ceil(variance * (_quantile_sum(alpha, power) / margin) ** 2))


def sample_size_paired(deviation: float, effect: float, *, alpha: float = 0.05, power: float = 0.8) -> int:
    """Items for a paired comparison to see a mean difference `effect`; `deviation` of the item differences.

    >>> sample_size_paired(0.3, 0.05)
    283
    """
    if deviation < 0 or effect <= 0:
        raise ValueError("a plan needs an effect above zero and a deviation of at least zero")
    return max(1, math.ceil((deviation * _quantile_sum(alpha, power) / effect) ** 2))


def minimum_detectable_effect(
    deviation: float, items: int, *, alpha: float = 0.05, power: float = 0.8
) -> float:
    """The mean difference that a paired comparison over `items` items can still see: the inverse."""
    if items < 1:
        raise ValueError("a comparison needs at least one item")
    return deviation * _quantile_sum(alpha, power) / math.sqrt(items)


def _per_own(share: float) -> float:
    """The smaller arm's observations per observation of the larger."""
    if not 0 < share <= 0.5:
        raise ValueError(f"the smaller arm's share must lie in (0, 0.5], not {share}")
    return share / (1 - share)


def _quantile_sum(alpha: float, power: float) -> float:
    normal = NormalDist()
    return normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(power)
