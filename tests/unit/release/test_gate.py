"""Who may meet callers at all: reports made by `evaluation` itself, judged from the bucket."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from contracts.predictions import Prediction
from evaluation.evaluate import EvaluationSettings, evaluate
from evaluation.predictions import SystemPredictions
from lambdas.release.errors import ReportUnusableError
from tests.support.release_loop import BUCKET, NEW, OLD, RELEASE, ReleaseHarness

FOLDER = f"releases/{RELEASE}/"
REPORT = f"s3://{BUCKET}/{FOLDER}report/report.json"
ITEMS = 60
RIGHT = "your parcel arrives on monday"
WRONG = "please hold the line"
Answers = Callable[[int], str]


def answers(say: Answers, duration_ms: float = 100.0, items: int = ITEMS) -> list[Prediction]:
    return [
        Prediction(
            id=f"item-{number:03}",
            prompt="where is it?",
            references=[RIGHT],
            prediction=say(number),
            duration_ms=duration_ms + number % 5,
        )
        for number in range(items)
    ]


def half_right(number: int) -> str:
    return RIGHT if number % 2 else WRONG


def mostly_right(number: int) -> str:
    return WRONG if number % 10 == 0 else RIGHT


def cut(rows: list[Prediction], count: int) -> list[Prediction]:
    """The first `count` of the answers end at the limit of tokens, the others by themselves."""
    return [
        one.model_copy(update={"finish_reason": "length" if number < count else "stop"})
        for number, one in enumerate(rows)
    ]


def publish(
    release: ReleaseHarness,
    champion: list[Prediction],
    challenger: list[Prediction],
    *,
    heldout_rows: int = ITEMS,
    settings: EvaluationSettings | None = None,
) -> None:
    """Predictions, data card and report of the release, as its jobs leave them."""
    systems = []
    for name, predictions in (("champion", champion), ("challenger", challenger)):
        content = b"".join(one.model_dump_json().encode() + b"\n" for one in predictions)
        release.bucket.objects[f"{FOLDER}{name}/predictions.jsonl"] = content
        systems.append(SystemPredictions(name, tuple(predictions), hashlib.sha256(content).hexdigest()))
    report = evaluate(systems, "heldout", settings or EvaluationSettings(resamples=400), datetime.now(UTC))
    release.bucket.objects[f"{FOLDER}report/report.json"] = report.model_dump_json().encode()
    release.put_data_card(heldout_rows)


def decide(release: ReleaseHarness, challenger: dict[str, str] = NEW, uri: str = REPORT) -> tuple[str, str]:
    answer = release.analyze("gate", report_uri=uri, champion=OLD, challenger=challenger)
    return answer["decision"], answer["reason"]


@pytest.mark.parametrize(
    "uri", [REPORT, REPORT.removesuffix("report.json"), REPORT.removesuffix("/report.json")]
)
def test_given_a_challenger_that_is_better_on_held_out_items_then_it_passes(
    release: ReleaseHarness, uri: str
) -> None:
    publish(release, answers(half_right), answers(mostly_right))
    decision, reason = decide(release, uri=uri)
    assert decision == "promote"
    assert reason.startswith("The challenger is better: the token F1")
    assert release.story() == [("gate", "promote")]
    assert release.rows()[0]["reason"] == reason


def test_given_a_challenger_that_learned_its_training_answers_by_heart_then_it_is_kept_out(
    release: ReleaseHarness,
) -> None:
    """To held-out questions it recites answers to others, however well it knows those."""
    publish(release, answers(half_right), answers(lambda number: f"{WRONG} {number}"))
    decision, reason = decide(release)
    assert decision == "keep"
    assert "lower" in reason


def test_given_a_challenger_trained_on_shuffled_answers_then_it_is_kept_out(release: ReleaseHarness) -> None:
    publish(release, answers(half_right), answers(lambda number: RIGHT if (number * 7) % 5 < 2 else WRONG))
    decision, reason = decide(release)
    assert decision == "keep"
    assert reason.startswith("The champion stays:")
    assert release.story() == [("gate", "keep")]


def test_given_a_gain_that_chance_explains_then_the_champion_stays(release: ReleaseHarness) -> None:
    publish(
        release, answers(half_right), answers(lambda number: RIGHT if number == 0 else half_right(number))
    )
    decision, reason = decide(release)
    assert decision == "keep"
    assert "no gain is shown" in reason


def test_given_a_better_but_much_slower_challenger_then_the_champion_stays(release: ReleaseHarness) -> None:
    publish(release, answers(half_right), answers(mostly_right, duration_ms=200.0))
    decision, reason = decide(release)
    assert decision == "keep"
    assert "the mean latency is" in reason


def test_given_a_challenger_a_fifth_slower_then_the_gates_own_ratio_decides_not_the_reports(
    release: ReleaseHarness,
) -> None:
    publish(release, answers(half_right), answers(mostly_right, duration_ms=118.0))
    assert decide(release)[0] == "promote"


def test_given_no_latency_in_the_report_then_the_champion_stays(release: ReleaseHarness) -> None:
    champion, challenger = (
        [one.model_copy(update={"duration_ms": None}) for one in answers(say)]
        for say in (half_right, mostly_right)
    )
    publish(release, champion, challenger)
    decision, reason = decide(release)
    assert decision == "keep"
    assert "latency" in reason


def test_given_too_few_held_out_items_then_the_champion_stays(release: ReleaseHarness) -> None:
    publish(release, answers(half_right, items=12), answers(mostly_right, items=12), heldout_rows=12)
    assert decide(release)[0] == "keep"


def test_given_a_challenger_with_the_champions_bytes_then_there_is_nothing_to_release(
    release: ReleaseHarness,
) -> None:
    publish(release, answers(half_right), answers(mostly_right))
    decision, reason = decide(release, NEW | {"digest": OLD["digest"]})
    assert decision == "keep"
    assert "byte for byte" in reason


@pytest.mark.parametrize("whose", ["champion", "challenger"])
def test_given_a_report_on_other_answers_than_the_releases_then_the_champion_stays(
    release: ReleaseHarness, whose: str
) -> None:
    publish(release, answers(half_right), answers(mostly_right))
    release.bucket.objects[f"{FOLDER}{whose}/predictions.jsonl"] += b"\n"
    decision, reason = decide(release)
    assert decision == "keep"
    assert f"other answers of the {whose}" in reason


def test_given_a_report_on_a_part_of_the_held_out_items_then_the_champion_stays(
    release: ReleaseHarness,
) -> None:
    publish(release, answers(half_right), answers(mostly_right), heldout_rows=ITEMS + 40)
    decision, reason = decide(release)
    assert decision == "keep"
    assert "60 of the 100 held-out items" in reason


def test_given_a_report_by_another_metric_then_the_champion_stays(release: ReleaseHarness) -> None:
    settings = EvaluationSettings(primary="exact_match", resamples=400)
    publish(release, answers(half_right), answers(mostly_right), settings=settings)
    decision, reason = decide(release)
    assert decision == "keep"
    assert "token_f1" in reason


def test_given_a_report_with_a_larger_error_budget_then_the_champion_stays(release: ReleaseHarness) -> None:
    settings = EvaluationSettings(alpha=0.2, resamples=400)
    publish(release, answers(half_right), answers(mostly_right), settings=settings)
    decision, reason = decide(release)
    assert decision == "keep"
    assert "too narrow" in reason


@pytest.mark.parametrize("side", ["champion", "challenger"])
def test_given_many_answers_cut_on_either_side_then_nothing_is_decided(
    release: ReleaseHarness, side: str
) -> None:
    """Four of 60 are above 5 %, three are not."""
    systems = {"champion": answers(half_right), "challenger": answers(mostly_right)}
    systems[side] = cut(systems[side], 4)
    publish(release, **systems, settings=EvaluationSettings(resamples=400, maximum_cut_share=1))
    reason = (
        f"Inconclusive: 6.67 % of the answers of the {side} were cut at the limit of tokens, above the "
        "5 % accepted."
    )
    assert decide(release) == ("keep", reason)
    publish(release, **systems | {side: cut(systems[side], 3)})
    assert decide(release)[0] == "promote"


@pytest.mark.parametrize(
    "missing", ["report/report.json", "data/data_card.json", "champion/predictions.jsonl"]
)
def test_given_missing_evidence_then_the_gate_fails_and_names_it(
    release: ReleaseHarness, missing: str
) -> None:
    publish(release, answers(half_right), answers(mostly_right))
    del release.bucket.objects[FOLDER + missing]
    with pytest.raises(ReportUnusableError, match=missing):
        decide(release)
    assert release.story() == [("gate", "failed")]


def test_given_something_that_is_no_report_then_the_gate_fails(release: ReleaseHarness) -> None:
    publish(release, answers(half_right), answers(mostly_right))
    release.bucket.objects[f"{FOLDER}report/report.json"] = b'{"title": "?"}'
    with pytest.raises(ReportUnusableError, match="EvaluationReport"):
        decide(release)
