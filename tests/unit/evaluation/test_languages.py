"""Scripts without blanks, and without Latin letters, are scored by what a reader calls their words."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU

from evaluation.evaluate import EvaluationSettings, evaluate
from evaluation.metrics.qa import exact_match, normalise, token_f1
from evaluation.metrics.rouge import rouge_f1
from evaluation.metrics.words import rouge_words, words
from evaluation.predictions import InputError, SystemPredictions
from tests.support.evaluation_data import predictions

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)

NEAR = [
    ("北京是中国的首都。", "北京是中国首都"),
    ("東京は日本の首都です", "東京が日本の首都です"),
    ("กรุงเทพเป็นเมืองหลวงของไทย", "กรุงเทพเป็นเมืองหลวง"),
    ("서울은 대한민국의 수도입니다", "서울은 한국의 수도입니다"),
    ("Москва — столица России", "столица России — Москва"),
    ("القاهرة عاصمة مصر", "القاهرة هي عاصمة مصر"),
    ("दिल्ली भारत की राजधानी है", "भारत की राजधानी दिल्ली है"),
]


@pytest.mark.parametrize(("reference", "answer"), NEAR)
def test_a_near_answer_scores_and_a_strange_one_does_not(reference: str, answer: str) -> None:
    for score in (token_f1, lambda one, other: rouge_f1("rouge1", one, other)):
        assert score(reference, answer) > 0.5
        assert score(reference, reference) == 1
        assert score(reference, "12 %") == 0


@pytest.mark.parametrize(
    ("reference", "answer", "equal"),
    [
        ("北京。", "北京", True),
        ("「北京」", "北京", True),
        ("北京 2008", "北京2008", True),
        ("北京", "南京", False),
        ("Zürich!", "zürich", True),
        ("Zürich", "zurich", False),
    ],
)
def test_marks_of_any_script_are_none_of_the_answer(reference: str, answer: str, equal: bool) -> None:
    assert exact_match(reference, answer) == equal


def test_f1_of_characters_by_hand() -> None:
    # 4 of 5 characters of the answer are among the 6 of the reference
    assert token_f1("我在北京工作", "我去北京作") == pytest.approx(2 * 0.8 * (4 / 6) / (0.8 + 4 / 6))


@given(st.text(alphabet=st.characters(max_codepoint=0x24F), max_size=60))
def test_latin_text_has_squads_words(text: str) -> None:
    assert words(normalise(text)) == normalise(text).split()


@given(st.text(max_size=60))
def test_no_word_is_lost(text: str) -> None:
    assert "".join(words(text)) == "".join(text.split())
    assert all(word in text.lower() for word in rouge_words(text))


def test_a_sentence_is_no_word_to_bleu() -> None:
    rights = ["北京是中国的首都。", "上海是中国最大的城市。"] * 20
    items = predictions(["北京是中国首都。", "上海是中国最大城市。"] * 20, [[right] for right in rights])
    systems = [SystemPredictions(name, tuple(items), "0" * 64) for name in ("old", "new")]
    settings = EvaluationSettings(primary="bleu", resamples=100)

    with pytest.raises(InputError, match=r"100 % of the references .* --bleu-tokenizer zh or char"):
        evaluate(systems, "zh", settings, NOW)
    for tokenizer in ("zh", "char"):
        report = evaluate(systems, "zh", replace(settings, bleu_tokenizer=tokenizer), NOW)
        (bleu,) = {one.value for one in report.results if one.metric == "bleu"}
        expected = BLEU(tokenize=tokenizer).corpus_score([one.prediction for one in items], [rights]).score
        assert bleu == pytest.approx(expected)
        assert f"tok:{tokenizer}|" in report.method.signatures["bleu"]
