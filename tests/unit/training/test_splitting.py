"""Held-out items share no user, template group or near-duplicate with training, whatever comes in."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_code.training.splitting import (
    SplitError,
    check_split,
    clusters_of,
    is_set_aside,
    split,
    without_contamination,
    without_repeats,
)
from tests.support.training_data import pair

WORDS = ["return", "refund", "parcel", "lamp", "rug", "chair", "cancel", "invoice", "card", "window", "leaf"]


@st.composite
def pair_lists(draw: st.DrawFn):
    rows = draw(st.integers(2, 40))
    sentence = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join)
    return [
        pair(
            number,
            draw(sentence),
            draw(sentence),
            user=f"u{draw(st.integers(0, 12))}",
            group=f"g{draw(st.integers(0, 15))}",
        )
        for number in range(rows)
    ]


@given(pair_lists(), st.sampled_from([0.2, 0.3, 0.5]), st.sampled_from([0.5, 0.8]), st.integers(0, 5))
def test_no_split_ever_leaks(pairs, fraction: float, threshold: float, seed: int) -> None:
    try:
        sides = split(pairs, fraction=fraction, threshold=threshold, seed=seed)
    except SplitError:
        return  # too few groups for two sides: refused, so nothing leaks
    check_split(sides.train, sides.heldout, threshold)
    assert len(sides.train) + len(sides.heldout) + sides.dropped.total() == len(pairs)


@pytest.mark.parametrize(
    ("other", "complaint"),
    [
        (pair(2, "entirely different words here", user="u1"), "user 'u1'"),
        (pair(2, "entirely different words here", group="g1"), "group 'g1'"),
        (pair(2, "how do I return the brass lamp today"), "near-duplicates"),
    ],
)
def test_the_check_names_what_leaked(other, complaint: str) -> None:
    first = pair(1, "How do I return the brass lamp today?")
    with pytest.raises(SplitError, match=complaint):
        check_split([first], [other], 0.8)


def test_a_side_is_kept_as_the_data_grows() -> None:
    groups = [f"group-{number}" for number in range(400)]
    aside = {group for group in groups if is_set_aside(group, 0.3, "heldout 0")}
    assert 0.2 < len(aside) / len(groups) < 0.4
    assert aside != {group for group in groups if is_set_aside(group, 0.3, "heldout 1")}
    wider = {group for group in groups if is_set_aside(group, 0.5, "heldout 0")}
    assert aside < wider, "a larger fraction only adds groups"


def test_near_duplicates_join_their_groups_into_one_cluster() -> None:
    pairs = [
        pair(1, "how do I return the brass lamp today", group="b"),
        pair(2, "How do I return the brass lamp today?", group="a"),
        pair(3, "what does the delivery to Greyport cost", group="c"),
    ]
    assert clusters_of(pairs, 0.8) == ["a", "a", "c"]


def test_the_newest_of_repeated_prompts_stays() -> None:
    old = pair(1, "How long is the warranty?", "Two years.")
    corrected = pair(2, "how long is the warranty", "Six years on the frame, two on anything electric.")
    kept, drops = without_repeats([old, corrected], 0.8)
    assert kept == [corrected]
    assert drops == Counter({"duplicate": 1, "near_duplicate": 0})


def test_near_duplicate_pairs_keep_the_newest() -> None:
    answer = "wipe it with a damp cotton cloth and a drop of olive soap and dry it at once"
    old = pair(1, "how can I clean it", answer)
    new = pair(2, "how can I clean this", answer)
    kept, drops = without_repeats([old, new], 0.7)
    assert kept == [new]
    assert drops["near_duplicate"] == 1


@pytest.mark.parametrize(
    "evaluation_text",
    ["How do I return the brass lamp?", "a secret phrase of the judge's own answers, word by word"],
)
def test_pairs_that_repeat_an_evaluation_text_are_dropped(evaluation_text: str) -> None:
    leaking = pair(
        1, "how do I return the brass lamp", "A secret phrase of the judge's own answers word by word"
    )
    clean = pair(2, "what does delivery to Greyport cost")
    kept, drops = without_contamination([leaking, clean], [evaluation_text], 0.8)
    assert kept == [clean]
    assert drops == Counter({"contaminated": 1})
