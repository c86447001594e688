"""Release decisions: the rules, the sentences, the stated error rates, and life without numpy."""

import math
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.interval import Interval
from evaluation.statistics.canary import Arms, CanaryPlan, verdict
from evaluation.statistics.decision import Criterion, Evidence, allocate_alpha, decide, judge
from evaluation.statistics.group_sequential import inflation_factor
from evaluation.statistics.means import Moments
from evaluation.statistics.proportions import Proportion, two_sided_critical_value
from evaluation.statistics.sample_size import sample_size_proportions

QUALITY = Criterion("token_f1", "token F1", "superior", 0.0, True, "fraction")
LATENCY = Criterion("ttft", "time to first token", "non_inferior", 0.1, False, "relative")
ERRORS = Criterion("errors", "error rate", "non_inferior", 0.02, False, "fraction")


def found(criterion, low, high):
    interval = Interval(low=low, high=high, level=0.983, method="test")
    return Evidence(criterion, (low + high) / 2, interval)


@pytest.mark.parametrize(
    ("evidence", "state"),
    [
        (found(QUALITY, 0.01, 0.05), "met"),
        (found(QUALITY, -0.01, 0.05), "open"),
        (found(QUALITY, -0.05, -0.01), "harmed"),
        (found(LATENCY, -0.05, 0.09), "met"),
        (found(LATENCY, 0.01, 0.09), "met"),  # slower, yet within what was accepted
        (found(LATENCY, -0.05, 0.11), "open"),
        (found(LATENCY, 0.05, 0.15), "harmed"),
        (Evidence(ERRORS), "open"),
    ],
)
def test_a_criterion_is_met_harmed_or_open(evidence, state):
    assert judge(evidence) == state


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 0.5), st.sampled_from(["superior", "non_inferior"]))
def test_turning_the_direction_turns_nothing_else(low, width, margin, goal):
    up = Criterion("x", "x", goal, margin, True, "score")
    down = Criterion("x", "x", goal, margin, False, "score")

    assert judge(found(up, low, low + width)) == judge(found(down, -low - width, -low))


def test_all_met_promotes_and_says_what_was_found():
    decision = decide(
        [found(QUALITY, 0.021, 0.088), found(LATENCY, -0.05, 0.06)], alpha=0.05, observed=400, planned=400
    )

    assert decision.outcome == "promote"
    assert decision.reason == (
        "Promote: the token F1 is 5.5 points higher (+2.1 to +8.8 points); "
        "the time to first token is 0.5 % higher (−5 to +6 %)."
    )


def test_harm_rolls_back_before_the_planned_sample_and_names_only_the_harm():
    decision = decide(
        [found(QUALITY, 0.021, 0.088), found(ERRORS, 0.01, 0.05)], alpha=0.05, observed=90, planned=400
    )

    assert decision.outcome == "roll_back"
    assert "error rate is 3 points higher" in decision.reason
    assert "token F1" not in decision.reason


def test_success_waits_for_the_planned_sample():
    decision = decide([found(QUALITY, 0.021, 0.088)], alpha=0.05, observed=90, planned=400)

    assert decision.outcome == "inconclusive"
    assert "90 of the 400 planned observations" in decision.reason


def test_doubt_is_inconclusive_and_says_what_is_missing():
    decision = decide(
        [found(QUALITY, -0.01, 0.05), found(ERRORS, -0.01, 0.03), Evidence(LATENCY)],
        alpha=0.05,
        observed=400,
        planned=400,
    )

    assert decision.outcome == "inconclusive"
    assert "so no gain is shown" in decision.reason
    assert "so a loss above 2 points is not excluded" in decision.reason
    assert "too few observations to judge the time to first token" in decision.reason


def test_the_budget_is_divided_and_used_up():
    heavy = Criterion("errors", "error rate", "non_inferior", 0.02, False, "fraction", weight=3)

    assert allocate_alpha([QUALITY, heavy], 0.04) == pytest.approx({"token_f1": 0.01, "errors": 0.03})


@pytest.mark.parametrize("criteria", [[], [QUALITY, QUALITY]])
def test_a_budget_without_owners_is_refused(criteria):
    with pytest.raises(ValueError, match="names of their own"):
        allocate_alpha(criteria, 0.05)


@pytest.mark.parametrize("margin", [-0.1, math.inf, math.nan])
def test_an_impossible_margin_is_refused(margin):
    with pytest.raises(ValueError, match="margin"):
        Criterion("x", "x", "non_inferior", margin, True, "score")


def test_three_criteria_share_one_budget():
    # Standard errors of one: a promotion is rare when one criterion truly fails, a roll back when none does.
    criteria = [
        Criterion(name, name, "non_inferior", 3.0, True, "score") for name in ("quality", "speed", "errors")
    ]
    shares = allocate_alpha(criteria, 0.10)
    generator = np.random.default_rng(2)

    def share(outcome, truths, runs=3000):
        count = 0
        for estimates in generator.normal(truths, 1.0, size=(runs, 3)):
            evidence = []
            for criterion, estimate in zip(criteria, estimates, strict=True):
                half = two_sided_critical_value(shares[criterion.name])
                interval = Interval(low=estimate - half, high=estimate + half, level=0.9, method="z")
                evidence.append(Evidence(criterion, estimate, interval))
            count += decide(evidence, alpha=0.10, observed=1, planned=1).outcome == outcome
        return count / runs

    assert share("promote", [5.0, 5.0, -3.0]) <= 0.05 / 3 + 0.008
    assert share("roll_back", [0.0, 0.0, 0.0]) <= 0.05 + 0.012
    assert share("promote", [5.0, 5.0, 5.0]) > 0.95


def run_canary(generator, plan, champion_rate, challenger_rate, looks=(0.5, 1.0)):
    """A canary at 10 %: verdicts at the looks until one decides."""
    seen = {"champion": [0, 0], "challenger": [0, 0]}
    earlier: list[int] = []
    for look in looks:
        observed = round(plan.planned * look)
        more = observed - seen["challenger"][1]
        for arm, size, rate in (("champion", 9 * more, champion_rate), ("challenger", more, challenger_rate)):
            seen[arm][0] += int(generator.binomial(size, rate))
            seen[arm][1] += size
        arms = Arms(Proportion(*seen["champion"]), Proportion(*seen["challenger"]))
        decision = verdict(plan, {"errors": arms}, earlier, observed)
        if decision.outcome != "inconclusive":
            return decision.outcome
        earlier.append(observed)
    return "inconclusive"


def share_of(outcome, champion_rate, challenger_rate, runs=160):
    inflation = inflation_factor([0.5, 1.0], 0.05, 0.8)
    plan = CanaryPlan(
        (ERRORS,), planned=math.ceil(inflation * sample_size_proportions(0.05, 0.02, share=0.1))
    )
    generator = np.random.default_rng(21)
    outcomes = [run_canary(generator, plan, champion_rate, challenger_rate) for _ in range(runs)]
    return outcomes.count(outcome) / runs


def test_a_challenger_at_the_margin_is_promoted_as_rarely_as_stated():
    # stated: alpha / 2 = 2.5 %; 160 runs have a standard error of 1.2 points
    assert share_of("promote", 0.05, 0.07) <= 0.065


def test_an_equal_challenger_is_rolled_back_as_rarely_as_stated_and_promoted_with_the_planned_power():
    assert share_of("roll_back", 0.05, 0.05) <= 0.065
    assert share_of("promote", 0.05, 0.05) >= 0.68


def test_a_bad_challenger_is_rolled_back():
    assert share_of("roll_back", 0.05, 0.12, runs=60) >= 0.95


def test_no_traffic_is_inconclusive():
    decision = verdict(CanaryPlan((ERRORS, LATENCY), planned=500), {}, [], 0)

    assert decision.outcome == "inconclusive"
    assert decision.observed == 0


def test_latency_is_judged_as_a_ratio():
    generator = random.Random(4)
    plan = CanaryPlan((LATENCY,), planned=400)
    base = Moments.of_logarithms(generator.lognormvariate(4, 0.5) for _ in range(3600))
    slow = Moments.of_logarithms(1.4 * generator.lognormvariate(4, 0.5) for _ in range(400))

    decision = verdict(plan, {"ttft": Arms(base, slow)}, [], 400)

    assert decision.outcome == "roll_back"
    assert decision.criteria[0].difference == pytest.approx(0.4, abs=0.1)


def test_a_plan_does_not_take_outcomes_it_does_not_know():
    with pytest.raises(ValueError, match="cost"):
        verdict(CanaryPlan((ERRORS,), planned=10), {"cost": Arms(Proportion(0, 1), Proportion(0, 1))}, [], 5)


def test_arms_are_measured_alike():
    with pytest.raises(ValueError, match="alike"):
        Arms(Proportion(0, 1), Moments(1, 0.0, 0.0))


WITHOUT_NUMPY = """
import sys
sys.modules["numpy"] = None
import evaluation.statistics
from evaluation.statistics import canary, confidence_sequences, decision, group_sequential, means
from evaluation.statistics import proportions, sample_size
criterion = decision.Criterion("e", "error rate", "non_inferior", 0.02, False, "fraction")
arms = canary.Arms(proportions.Proportion(0, 90), proportions.Proportion(9, 10))
print(canary.verdict(canary.CanaryPlan((criterion,), planned=9), {"e": arms}, [5], 10).outcome)
"""


def test_the_release_decision_runs_without_numpy():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_NUMPY],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert (done.stdout.strip(), done.stderr) == ("roll_back", "")
