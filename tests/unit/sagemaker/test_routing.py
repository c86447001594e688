"""Weights, least outstanding requests, and the steps of a traffic shift, as arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.sagemaker.instances import routing
from local.sagemaker.instances.traffic_shifting import TrafficStep, traffic_steps


@dataclass
class Loaded:
    outstanding: int


DRAWS = st.floats(min_value=0, max_value=1, exclude_max=True)


def test_draws_split_in_proportion_to_the_weights() -> None:
    draws = [index / 1000 for index in range(1000)]
    chosen = [routing.choose_variant({"a": 3.0, "b": 1.0}, draw) for draw in draws]
    assert chosen.count("a") == 750
    assert chosen.count("b") == 250


@given(st.dictionaries(st.text(min_size=1), st.floats(min_value=0, max_value=1e6), max_size=5), DRAWS)
def test_a_variant_without_weight_is_never_chosen(weights: dict[str, float], draw: float) -> None:
    chosen = routing.choose_variant(weights, draw)
    if sum(weights.values()) > 0:
        assert weights[chosen] > 0
    else:
        assert chosen is None


@given(st.lists(st.integers(min_value=0, max_value=9), min_size=1), DRAWS)
def test_the_idlest_instance_is_chosen(loads: list[int], draw: float) -> None:
    chosen = routing.least_outstanding([Loaded(load) for load in loads], draw)
    assert chosen.outstanding == min(loads)


def test_equally_idle_instances_share() -> None:
    pair = [Loaded(0), Loaded(0)]
    assert routing.least_outstanding(pair, 0.1) is pair[0]
    assert routing.least_outstanding(pair, 0.9) is pair[1]


def test_nobody_is_chosen_from_nobody() -> None:
    assert routing.least_outstanding([], 0.5) is None
    assert routing.random_choice([], 0.5) is None


def policy(kind: str, size: dict | None = None, wait: int = 5) -> dict:
    name = {"CANARY": "CanarySize", "LINEAR": "LinearStepSize"}.get(kind)
    sizes = {name: size} if name else {}
    configuration = {"Type": kind, "WaitIntervalInSeconds": wait, **sizes}
    return {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": configuration}}


@pytest.mark.parametrize(
    ("deployment", "count", "steps"),
    [
        (policy("ALL_AT_ONCE"), 1, (TrafficStep(1.0, 5.0),)),
        (
            policy("CANARY", {"Type": "CAPACITY_PERCENT", "Value": 10}),
            4,
            (TrafficStep(0.1, 5.0), TrafficStep(1.0, 5.0)),
        ),
        (
            policy("CANARY", {"Type": "INSTANCE_COUNT", "Value": 1}),
            4,
            (TrafficStep(0.25, 5.0), TrafficStep(1.0, 5.0)),
        ),
        (
            policy("LINEAR", {"Type": "CAPACITY_PERCENT", "Value": 50}),
            2,
            (TrafficStep(0.5, 5.0), TrafficStep(1.0, 5.0)),
        ),
    ],
)
def test_steps_follow_the_policy(deployment: dict, count: int, steps: tuple[TrafficStep, ...]) -> None:
    assert traffic_steps(deployment, count) == steps


@given(st.integers(min_value=10, max_value=50))
def test_linear_steps_rise_to_all_of_the_traffic(percent: int) -> None:
    steps = traffic_steps(policy("LINEAR", {"Type": "CAPACITY_PERCENT", "Value": percent}), 10)
    shares = [step.share for step in steps]
    assert shares == sorted(shares)
    assert shares[0] == pytest.approx(percent / 100)
    assert shares[-1] == 1.0
    assert len(shares) == -(-100 // percent)
    assert all(second > first for first, second in pairwise(shares))
