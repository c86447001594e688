"""The report as a whole: decision, figures that agree with each other, slices, groups, examples."""

import random
from datetime import UTC, datetime

import pytest

from contracts.report import EvaluationReport
from evaluation.evaluate import EvaluationSettings, evaluate
from evaluation.predictions import InputError, SystemPredictions, dataset_digest
from evaluation.report.page import render
from tests.support.evaluation_data import system

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
QUICK = EvaluationSettings(resamples=400)


def report_on(*systems, settings=QUICK):
    return evaluate(systems, "support", settings, NOW)


@pytest.fixture(scope="module")
def improved():
    return report_on(system("old", loss=0.5), system("new", loss=0.2))


def test_a_better_candidate_is_promoted(improved):
    assert improved.decision.outcome == "promote"
    assert improved.headline == improved.decision.reason
    assert "the token F1 is" in improved.headline
    assert [one.name for one in improved.decision.criteria] == ["token_f1", "duration_mean", "error_rate"]


def test_a_worse_candidate_is_rolled_back():
    decision = report_on(system("old", loss=0.2), system("new", loss=0.5)).decision

    assert decision.outcome == "roll_back"
    assert "lower" in decision.reason


def test_the_same_answers_are_inconclusive_when_a_gain_is_asked():
    old = system("old", loss=0.3)

    decision = report_on(old, SystemPredictions("new", old.predictions, old.digest)).decision

    assert decision.outcome == "inconclusive"
    assert "the token F1 is unchanged" in decision.reason


def test_shuffled_answers_do_not_pass():
    old = system("old", loss=0.2)
    texts = [one.prediction for one in old.predictions]
    random.Random(1).shuffle(texts)
    shuffled = [
        one.model_copy(update={"prediction": text}) for one, text in zip(old.predictions, texts, strict=True)
    ]

    decision = report_on(old, SystemPredictions("new", tuple(shuffled), old.digest)).decision

    assert decision.outcome == "roll_back"


def test_a_slow_candidate_is_rolled_back_whatever_its_answers():
    decision = report_on(system("old", loss=0.5), system("new", loss=0.1, speed=1.6)).decision

    assert decision.outcome == "roll_back"
    assert decision.reason.startswith("Roll back: the mean latency is")


def test_failing_items_are_counted_and_cannot_make_a_system_look_fast():
    old, new = system("old", loss=0.4), system("new", loss=0.1, failing=25)

    report = report_on(old, new)

    assert report.systems[1].errors == 25
    assert report.decision.outcome == "roll_back"
    assert "error rate is 20.8 points higher" in report.decision.reason
    assert {one.items for one in report.results if one.metric == "duration_p95"} == {95}


def test_a_handful_of_items_decides_nothing():
    decision = report_on(system("old", loss=0.9, items=12), system("new", loss=0.0, items=12)).decision

    assert decision.outcome == "inconclusive"
    assert "12 of the 30 planned observations" in decision.reason


def test_groups_are_the_units_of_the_decision():
    def grouped(one):
        rows = [row.model_copy(update={"group": row.id[:4]}) for row in one.predictions]
        return SystemPredictions(one.name, tuple(rows), one.digest)

    report = report_on(grouped(system("old", loss=0.5)), grouped(system("new", loss=0.2)))

    assert report.dataset.groups == 12
    assert report.decision.observed == 12
    assert report.decision.outcome == "inconclusive"


def test_figures_agree_with_each_other(improved):
    values = {(one.metric, one.system): one for one in improved.results if one.slice is None}

    for one in improved.comparisons:
        if one.slice is None:
            difference = values[one.metric, "new"].value - values[one.metric, "old"].value
            assert one.difference == pytest.approx(difference, abs=1e-9)
            assert one.interval.low <= one.difference <= one.interval.high
            if one.wins is not None:
                assert one.wins + one.ties + one.losses == one.items
                assert sum(bar.count for bar in one.histogram) == one.items
    for one in improved.results:
        assert one.interval is None or one.interval.low <= one.value <= one.interval.high


def test_slices_are_scored_apart(improved):
    assert (
        improved.dataset.slices == {"long": 84, "short": 36} or sum(improved.dataset.slices.values()) == 120
    )
    sliced = [one for one in improved.comparisons if one.slice is not None]
    assert {(one.slice, one.metric) for one in sliced} == {
        (name, metric) for name in ("long", "short") for metric in ("token_f1", "error_rate")
    }


def test_examples_are_the_extremes_and_a_sample(improved):
    kinds = [one.kind for one in improved.examples]
    gains = {
        kind: [one.answers[1].value - one.answers[0].value for one in improved.examples if one.kind == kind]
        for kind in ("win", "loss")
    }

    assert kinds.count("win") == kinds.count("sample") == 5
    assert gains["win"] == sorted(gains["win"], reverse=True)
    assert min(gains["win"]) > 0 > max(gains["loss"])
    assert len({one.id for one in improved.examples}) == len(improved.examples)


def test_a_report_survives_its_json(improved):
    assert EvaluationReport.model_validate_json(improved.model_dump_json()) == improved


def test_the_same_input_gives_the_same_report(improved):
    assert report_on(system("old", loss=0.5), system("new", loss=0.2)) == improved


def cut(given, count):
    rows = [
        one.model_copy(update={"finish_reason": "length" if number < count else "stop"})
        for number, one in enumerate(given.predictions)
    ]
    return SystemPredictions(given.name, tuple(rows), given.digest)


@pytest.mark.parametrize(("losses", "verdict"), [((0.5, 0.2), "promote"), ((0.2, 0.5), "roll_back")])
def test_a_report_on_stumps_decides_nothing_and_says_how_many_there_are(losses, verdict):
    old, new = (system(name, loss=loss) for name, loss in zip(("old", "new"), losses, strict=True))

    report = report_on(cut(old, 0), cut(new, 12))

    assert [one.cut_share for one in report.systems] == [0, 0.1]
    assert report.decision.outcome == "inconclusive"
    assert report.headline == (
        "Inconclusive: 10 % of the answers of new were cut at the limit of tokens, above the 5 % accepted."
    )
    assert "Cut at the limit</span> <b>old 0 %, new 10 %" in render(report)
    assert report_on(cut(old, 6), cut(new, 6)).decision.outcome == verdict


def test_the_share_of_cut_answers_is_of_those_that_say_how_they_ended():
    old = cut(system("old", loss=0.5, items=40, failing=20), 30)

    (shown,) = report_on(old).systems

    assert shown.cut_share == 0.5
    assert report_on(system("old", loss=0.5)).systems[0].cut_share is None


def test_one_system_gets_a_report_without_a_decision():
    report = report_on(system("only", loss=0.3, failing=2))

    assert report.decision is None
    assert report.comparisons == []
    assert report.headline.startswith("only reaches a token F1 of 0.")
    assert report.headline.endswith("on 120 items, 2 of them without an answer.")


def test_the_digest_of_the_data_ignores_answers_and_order():
    rows = system("old", loss=0.5).predictions

    assert dataset_digest(rows) == dataset_digest(system("new", loss=0.1).predictions[::-1])
    assert dataset_digest(rows) != dataset_digest(rows[1:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"references": ["other"]}, "item 'q0003': references differs between old and new"),
        ({"id": "q9999"}, "item 'q9999' of new is missing from old"),
    ],
)
def test_different_evaluation_sets_are_refused(change, message):
    old, new = system("old", loss=0.5), system("new", loss=0.2)
    rows = list(new.predictions)
    rows[3] = rows[3].model_copy(update=change)

    with pytest.raises(InputError, match=message):
        report_on(old, SystemPredictions("new", tuple(rows), new.digest))


def test_a_primary_metric_that_does_not_fit_is_refused():
    with pytest.raises(InputError, match="'accuracy' does not fit these files; these do: token_f1"):
        report_on(system("old", loss=0.5), settings=EvaluationSettings(primary="accuracy"))


def test_two_systems_of_one_name_are_refused():
    with pytest.raises(InputError, match="names of their own"):
        report_on(system("same", loss=0.5), system("same", loss=0.2))


def without_references(given, missing):
    rows = [
        row.model_copy(update={"references": []}) if number < missing else row
        for number, row in enumerate(given.predictions)
    ]
    return SystemPredictions(given.name, tuple(rows), given.digest)


def test_an_item_without_references_costs_that_item_and_is_named():
    report = report_on(*(without_references(system(n, loss=x), 2) for n, x in (("old", 0.5), ("new", 0.2))))
    alone = report_on(
        *(
            SystemPredictions(n, system(n, loss=x).predictions[2:], "0" * 64)
            for n, x in (("old", 0.5), ("new", 0.2))
        )
    )

    def values(of):
        return {(one.metric, one.system): one for one in of.results if one.slice is None}

    for metric in ("token_f1", "exact_match", "bleu", "chrf", "rouge_l"):
        assert values(report)[metric, "new"].items == 118
        assert values(report)[metric, "new"].value == pytest.approx(values(alone)[metric, "new"].value)
    assert values(report)["error_rate", "new"].items == 120
    assert any(note.startswith("2 items lack") and "q0000, q0001." in note for note in report.method.notes)
    assert report.decision.outcome == "promote"
    assert report.decision.observed == 118
    render(report)


def test_too_few_items_with_references_decide_nothing():
    report = report_on(*(without_references(system(n, loss=x), 100) for n, x in (("old", 0.5), ("new", 0.2))))

    assert report.decision.outcome == "inconclusive"
    assert any("q0000, q0001, q0002, q0003, q0004, …" in note for note in report.method.notes)


def test_one_item_is_said_in_the_singular():
    report = report_on(SystemPredictions("new", system("new", loss=0).predictions[:1], "0" * 64))

    assert "reaches a token F1 of" in report.headline
    assert "on 1 item, none of them" in report.headline
