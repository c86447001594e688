"""The near-duplicate join finds exactly what comparing every pair would find."""

from hypothesis import given
from hypothesis import strategies as st

from model_code.training.similarity import jaccard, near_pairs, shingles

texts = st.lists(st.lists(st.sampled_from("abcdef"), max_size=9).map(" ".join), max_size=25)
thresholds = st.sampled_from([0.3, 0.5, 0.55, 0.6, 0.7, 0.8, 0.9, 1.0])


@given(texts, thresholds)
def test_the_join_equals_comparing_all_pairs(given_texts: list[str], threshold: float) -> None:
    sets = [shingles(text) for text in given_texts]
    expected = {(i, j) for i in range(len(sets)) for j in range(i) if jaccard(sets[i], sets[j]) >= threshold}
    found = list(near_pairs(sets, threshold))
    assert set(found) == expected
    assert len(found) == len(expected), "no pair twice"


def test_a_threshold_that_floats_cannot_hold_exactly_loses_no_pair() -> None:
    # 11 of 20 shingles shared by a subset: exactly 0.55, while 0.55 * 20 is 11.000000000000002.
    whole = shingles(" ".join(f"w{'x' * n}" for n in range(22)))
    part = shingles(" ".join(f"w{'x' * n}" for n in range(13)))
    assert jaccard(whole, part) == 0.55
    assert list(near_pairs([whole, part], 0.55)) == [(1, 0)]


def test_case_punctuation_and_order_numbers_make_no_new_text() -> None:
    assert shingles("Where is order F4821?") == shingles("where is order f9037")
    assert shingles("Where is my order") != shingles("Where is my refund")


def test_texts_shorter_than_a_shingle_are_compared_as_a_whole() -> None:
    assert jaccard(shingles("thank you"), shingles("Thank you!")) == 1.0
    assert jaccard(shingles("thank you"), shingles("thank him")) == 0.0
