"""The verdict on live traffic: when it comes, what it rests on, how often it errs."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from contracts.release_tasks import CanarySettings, VerdictAnswer
from lambdas.release.analysis import Call, Rating, Traffic, analyze_stage
from lambdas.release.errors import ExperimentMissingError
from lambdas.release.rollout import canary_step
from tests.support.release_loop import CANARY, NEW, OLD, ReleaseHarness

START = 1000.0
SOON = START + 60
LATE = START + 11 * 60


def judge_stage(
    settings: CanarySettings, stage: int, started: float, now: float, champion: Traffic, challenger: Traffic
) -> VerdictAnswer:
    """What a stage does at `now`, by its traffic."""
    return canary_step(settings, now - started, analyze_stage(settings, stage, champion, challenger))


def ratings(scores: Sequence[float], every: float = 1.0) -> list[Rating]:
    return [Rating(f"r{n}", START + (n + 1) * every, score) for n, score in enumerate(scores)]


def calls(count: int, *, failed: int = 0, ttft_ms: float = 100.0, every: float = 1.0) -> list[Call]:
    return [
        Call(START + (n + 1) * every, 502 if n < failed else 200, None if n < failed else ttft_ms + n % 9)
        for n in range(count)
    ]


def scores(good: int, bad: int) -> list[float]:
    """Good and bad ratings evenly mixed."""
    total = good + bad
    return [float((n + 1) * good // total > n * good // total) for n in range(total)]


CHAMPION = Traffic(calls(270, every=0.1), ratings(scores(160, 110), every=0.1))


def judge(challenger: Traffic, now: float = SOON, champion: Traffic = CHAMPION, stage: int = 0) -> str:
    return judge_stage(CANARY, stage, START, now, champion, challenger).verdict


def test_given_too_few_ratings_yet_then_the_stage_goes_on() -> None:
    answer = judge_stage(CANARY, 0, START, SOON, CHAMPION, Traffic(calls(29), ratings(scores(29, 0))))
    assert answer.verdict == "continue"
    assert answer.reason == "29 of the 30 planned ratings of the challenger so far."


def test_given_too_few_ratings_at_the_deadline_then_the_stage_is_inconclusive() -> None:
    answer = judge_stage(CANARY, 0, START, LATE, CHAMPION, Traffic(calls(29), ratings(scores(29, 0))))
    assert answer.verdict == "inconclusive"
    assert "29 of the 30 planned" in answer.reason
    assert "10 minutes" in answer.reason


def test_given_the_planned_sample_of_good_answers_then_the_challenger_goes_on() -> None:
    answer = judge_stage(CANARY, 0, START, SOON, CHAMPION, Traffic(calls(30), ratings(scores(27, 3))))
    assert answer.verdict == "promote"
    assert "share of content ratings" in answer.reason
    assert (answer.observed.challenger_ratings, answer.observed.challenger_content) == (30, 0.9)


def test_given_the_planned_sample_at_the_deadline_then_it_is_judged_and_not_too_late() -> None:
    assert judge(Traffic(calls(30), ratings(scores(27, 3))), now=LATE) == "promote"


def test_given_plain_dislike_then_the_challenger_goes_before_its_sample_is_complete() -> None:
    assert judge(Traffic(calls(20), ratings(scores(0, 20)))) == "roll_back"


def test_given_harm_between_two_looks_then_nobody_looks() -> None:
    assert judge(Traffic(calls(9), ratings(scores(0, 9)))) == "continue"


def test_given_answers_no_better_than_half_as_good_then_nothing_is_promoted() -> None:
    assert judge(Traffic(calls(30), ratings(scores(14, 16)))) in {"inconclusive", "roll_back"}


def test_given_a_champion_that_nobody_rated_then_nothing_is_promoted() -> None:
    lonely = Traffic(calls(270, every=0.1), [])
    assert judge(Traffic(calls(30), ratings(scores(30, 0))), champion=lonely) == "inconclusive"


def test_given_a_challenger_that_fails_every_time_then_it_goes_without_a_single_rating() -> None:
    answer = judge_stage(CANARY, 0, START, SOON, CHAMPION, Traffic(calls(4, failed=4), []))
    assert answer.verdict == "roll_back"
    assert "4 of the challenger's 4 answers failed" in answer.reason


def test_given_one_failure_among_many_then_the_challenger_stays() -> None:
    assert judge(Traffic(calls(29, failed=1), ratings(scores(20, 9)))) == "continue"


def test_given_good_ratings_but_more_failures_than_allowed_then_nothing_is_promoted() -> None:
    answer = judge_stage(
        CANARY, 0, START, SOON, CHAMPION, Traffic(calls(40, failed=2, every=0.5), ratings(scores(30, 0)))
    )
    assert answer.verdict == "inconclusive"
    assert "2 of 40 answers" in answer.reason


def test_given_callers_who_leave_or_err_then_the_challenger_is_not_blamed() -> None:
    refused = [Call(START + 1, status, None) for status in (400, 401, 429, 499)] * 20
    answer = judge_stage(
        CANARY, 0, START, SOON, CHAMPION, Traffic([*calls(30), *refused], ratings(scores(30, 0)))
    )
    assert answer.verdict == "promote"
    assert answer.observed.challenger_calls == 30


def test_given_a_challenger_three_times_as_slow_then_it_goes() -> None:
    assert judge(Traffic(calls(40, ttft_ms=300.0), ratings(scores(30, 0)))) == "roll_back"


def test_given_a_rating_taken_back_then_the_later_word_counts_and_the_request_counts_once() -> None:
    changed = [*ratings(scores(30, 0)), *(Rating(f"r{n}", START + 1.5 + n, 0.0) for n in range(29))]
    answer = judge_stage(CANARY, 0, START, SOON, CHAMPION, Traffic(calls(30), changed))
    assert answer.observed.challenger_ratings == 30
    assert answer.verdict == "roll_back"


def test_given_more_data_after_the_planned_sample_then_the_verdict_stays_what_it_was() -> None:
    good = Traffic(calls(30), ratings(scores(27, 3)))
    worse = [Rating(f"late{n}", START + 100 + n, 0.0) for n in range(200)]
    assert judge(Traffic(good.calls, [*good.ratings, *worse])) == judge(good) == "promote"


def simulated(rate: float, ttft_ms: float, seed: int) -> str:
    """One stage, asked after each challenger rating until it ends; the champion pleases 60 % at 100 ms."""
    random_ = random.Random(seed)

    def traffic(count: int, rate: float, ttft_ms: float, every: float) -> Traffic:
        return Traffic(
            [
                Call(START + (n + 1) * every, 200, ttft_ms * random_.lognormvariate(0, 0.3))
                for n in range(count)
            ],
            ratings([float(random_.random() < rate) for _ in range(count)], every),
        )

    champion, challenger = traffic(540, 0.6, 100.0, 0.1), traffic(60, rate, ttft_ms, 1.0)
    for seen in (20, 40, 60):
        now = START + seen
        so_far = Traffic(
            [one for one in challenger.calls if one.received_at <= now],
            [one for one in challenger.ratings if one.given_at <= now],
        )
        verdict = judge_stage(CANARY, 1, START, now, champion, so_far).verdict
        if verdict != "continue":
            return verdict
    return "continue"


@pytest.mark.parametrize(
    ("rate", "ttft_ms", "wrong", "at_most"),
    [
        (0.6, 100.0, "roll_back", 3),  # as good as the champion: alpha / 2 of the stage is 1.25 %
        (0.3, 100.0, "promote", 0),  # 30 points worse
        (0.4, 100.0, "promote", 3),  # worse by just the accepted loss
        (0.8, 150.0, "promote", 3),  # slower by just the accepted ratio
    ],
)
def test_given_many_releases_then_the_loop_errs_no_more_often_than_its_budget(
    rate: float, ttft_ms: float, wrong: str, at_most: int
) -> None:
    outcomes = [simulated(rate, ttft_ms, seed) for seed in range(60)]
    assert outcomes.count(wrong) <= at_most
    assert "continue" not in outcomes


def test_given_many_better_challengers_then_most_are_promoted() -> None:
    outcomes = [simulated(0.85, 100.0, seed) for seed in range(40)]
    assert outcomes.count("promote") >= 34


def begin(release: ReleaseHarness, share: float = 0.1, stage: int = 0) -> dict[str, object]:
    release.experiment()
    return release.invoke("set_share", share=share, champion=OLD, challenger=NEW, stage=stage)


def test_given_rows_in_the_records_table_then_each_variant_is_judged_by_its_own(
    release: ReleaseHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    release.answered(20, "challenger", NEW["version"], start=-3600, thumbs=["down"] * 20)  # before it began
    started = begin(release)
    release.answered(40, "champion", OLD["version"], thumbs=["up", "down"] * 20)
    release.answered(30, "challenger", NEW["version"], thumbs=["up"] * 30)
    release.answered(50, "challenger", "another-version", start=500, thumbs=["down"] * 50)
    release.answered(9, "shadow", NEW["version"], start=600, thumbs=["down"] * 9)
    release.clock.now += 60
    answer = release.analyze("verdict", share=0.1, **started)
    assert answer["verdict"] == "promote"
    assert answer["observed"] == {
        "planned": 30,
        "challenger_ratings": 30,
        "champion_ratings": 40,
        "challenger_content": 1.0,
        "champion_content": 0.5,
        "challenger_calls": 30,
        "challenger_failures": 0,
    }
    assert release.story()[-1] == ("verdict", "promote")
    published = [line for line in capsys.readouterr().out.splitlines() if "evergreen.release.verdict" in line]
    assert len(published) == 1
    assert f'"model_version": "{NEW["version"]}"' in published[0]


def test_given_a_stage_that_goes_on_then_the_ledger_is_not_filled_with_it(release: ReleaseHarness) -> None:
    started = begin(release)
    rows = len(release.rows())
    assert release.analyze("verdict", share=0.1, **started)["verdict"] == "continue"
    assert len(release.rows()) == rows


def test_given_traffic_that_this_release_does_not_split_then_there_is_no_verdict(
    release: ReleaseHarness,
) -> None:
    started = begin(release)
    with pytest.raises(ExperimentMissingError, match="not split"):
        release.analyze("verdict", release_id="release-2", share=0.1, **started)
    release.invoke("restore", champion=OLD)
    with pytest.raises(ExperimentMissingError, match="not split"):
        release.analyze("verdict", share=0.1, **started)


def test_given_a_stage_that_the_settings_do_not_know_then_there_is_no_verdict(
    release: ReleaseHarness,
) -> None:
    started = begin(release, stage=2)
    with pytest.raises(ExperimentMissingError, match="stage 2"):
        release.analyze("verdict", share=0.1, **started)
