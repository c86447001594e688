"""The page: self-contained, escaped, complete, and drawn for one system as well as two."""

import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from contracts.interval import Interval
from contracts.predictions import Prediction
from contracts.report import Bin
from evaluation.evaluate import EvaluationSettings, evaluate
from evaluation.predictions import SystemPredictions
from evaluation.report.formatting import bounds, signed, size
from evaluation.report.page import render
from evaluation.report.plots import Scale, curve_plot, histogram_plot, ticks
from tests.support.evaluation_data import system

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
QUICK = EvaluationSettings(resamples=200)
VOID = {"meta"}


class Outline(HTMLParser):
    """Collects tags and visible text, and checks that every tag is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "style" not in self._open:
            self.text += data


@pytest.fixture(scope="module")
def page():
    return render(evaluate([system("old", loss=0.5), system("new", loss=0.2)], "support", QUICK, NOW))


def test_the_verdict_comes_first(page):
    text = Outline(page).text

    assert text.index("Promote") < text.index("The token F1 is") < text.index("What decided")
    for title in (
        "Quality",
        "Operation",
        "Item by item",
        "Slices",
        "Timings",
        "Answers",
        "How it was computed",
    ):
        assert title in text


def test_nothing_is_loaded_from_anywhere(page):
    outline = Outline(page)

    assert not {"script", "link", "img", "iframe", "object"} & set(outline.tags)
    assert not [name for name, _ in outline.attributes if name in ("src", "href") or name.startswith("on")]
    assert not re.search(r"url\(|@import|https?://", page)


def test_untrusted_text_stays_text():
    attack = '</pre><script>alert("1")</script>&amp;'
    rows = [
        Prediction(
            id=f"{number}{attack}",
            prompt=attack,
            references=[attack],
            prediction=attack,
            slice=attack,
            error=attack,
        )
        for number in range(3)
    ]
    hostile = [SystemPredictions(name, tuple(rows), "0" * 64) for name in (attack, f"{attack}2")]

    page = render(evaluate(hostile, attack, EvaluationSettings(resamples=20, title=attack), NOW))

    assert "<script" not in page
    assert attack in Outline(page).text


def test_plots_have_names_for_those_who_cannot_see_them(page):
    labels = [value for name, value in Outline(page).attributes if name == "aria-label"]

    assert any(label.startswith("Token F1: difference +0.") for label in labels)
    assert any("share of answers done" in label for label in labels)


def test_one_system_and_no_timings_still_make_a_page():
    rows = tuple(Prediction(id=str(number), prediction="a", references=["a"]) for number in range(4))

    text = Outline(render(evaluate([SystemPredictions("only", rows, "0" * 64)], "d", QUICK, NOW))).text

    assert "only reaches a token F1 of 1.000" in text
    for title in ("What decided", "Item by item", "Timings", "Slices"):
        assert title not in text


def test_equal_systems_draw_too():
    old = system("old", loss=0.3)

    text = Outline(
        render(evaluate([old, SystemPredictions("new", old.predictions, "0" * 64)], "d", QUICK, NOW))
    ).text

    assert "worse on 0, equal on 120" in text


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (-0.5, 0.5, [-0.4, -0.2, 0, 0.2, 0.4]), (3, 3, [3]), (0, 7e6, None)],
)
def test_ticks_are_round_and_inside(low, high, expected):
    found = ticks(low, high)

    assert expected is None or found == pytest.approx(expected)
    assert all(low <= value <= high for value in found)
    assert len(found) <= 6


def test_a_scale_keeps_inside_the_drawing():
    scale = Scale(0, 10, 100, 200)

    assert [scale.at(value) for value in (-5, 0, 5, 10, 50)] == [100, 100, 150, 200, 200]


def test_bars_say_better_or_worse_by_the_metric_s_direction():
    bins = [Bin(low=-3, high=-1, count=2), Bin(low=-1, high=1, count=1), Bin(low=1, high=3, count=4)]

    up = histogram_plot(bins, "t", "x", higher_is_better=True)
    down = histogram_plot(bins, "t", "x", higher_is_better=False)

    assert re.findall(r'class="fill (\w+)"', up) == ["bad", "open", "good"]
    assert re.findall(r'class="fill (\w+)"', down) == ["good", "open", "bad"]


def test_curves_of_no_time_at_all_draw():
    assert "<polyline" in curve_plot([("a", [0.0] * 101)], "t", "ms")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (size(-0.0001, "fraction"), "0.000"),
        (size(-12.3, "ms"), "−12 ms"),
        (signed(0.2, "ms"), "+0.2 ms"),
        (signed(0.034, "relative"), "+3.4 %"),
    ],
)
def test_figures_as_people_read_them(text, expected):
    assert text == expected


def test_bounds_name_the_unit_once():
    assert bounds(Interval(low=-1.5, high=2, level=0.9, method="m"), "ms", sign=True) == "−1.5 to +2.0 ms"
