"""What counts as personal data or a template hole, and what stands in for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_code.training.cleaning import (
    fill_placeholders,
    find_personal_data,
    find_placeholder,
    iban_valid,
    luhn_valid,
    mask_personal_data,
    normalise,
)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("write to jo.fern+shop@mail.example.org please", "email"),
        ("my card is 4111 1111 1111 1111", "card"),
        ("pay with 5555-5555-5555-4444 now", "card"),
        ("from DE89 3704 0044 0532 0130 00 today", "iban"),
        ("call +44 20 7946 0018", "phone"),
        ("call (555) 010-4477", "phone"),
        ("call 020 7946 0018", "phone"),
    ],
)
def test_personal_data_is_found_by_kind_and_masked(text: str, kind: str) -> None:
    assert find_personal_data(text) == kind
    masked = mask_personal_data(text)
    assert find_personal_data(masked) is None
    assert find_placeholder(masked) is None, "a stand-in must not look like a template hole"


@pytest.mark.parametrize(
    "text",
    [
        "cancel purchase 113542617735902",  # long, but no card network starts with 1
        "card 4111 1111 1111 1112",  # fails the checksum
        "order F4821 of 22.11.2026, 3 pieces for 1,299.00 euros",
        "between 8 and 18 from Monday to Saturday",
        "IBAN DE00 3704 0044 0532 0130 00",  # fails the checksum
        "version 2.13.0 and 10.0.2 are fine",
    ],
)
def test_look_alikes_are_left_alone(text: str) -> None:
    assert find_personal_data(text) is None
    assert mask_personal_data(text) == text


@pytest.mark.parametrize("hole", ["{{Order Number}}", "{{ Website Name }}", "[Live Chat]", "<ORDER_ID>"])
def test_a_template_hole_is_found_and_filled_with_its_own_words(hole: str) -> None:
    text = f"Open the {hole} page."
    assert find_placeholder(text) == hole
    filled = fill_placeholders(text)
    assert filled == f"Open the {hole.strip('{}[]<> ').replace('_', ' ').lower()} page."
    assert find_placeholder(filled) is None


def test_brackets_and_markup_that_are_no_holes_stay() -> None:
    text = "List [1], array[i] and <b>bold</b> are fine"
    assert find_placeholder(text) is None
    assert fill_placeholders(text) == text


def test_checksums_accept_published_examples_and_refuse_a_changed_digit() -> None:
    assert luhn_valid("4012888888881881")
    assert not luhn_valid("4012888888881882")
    assert iban_valid("GB82 WEST 1234 5698 7654 32")
    assert not iban_valid("GB82 WEST 1234 5698 7654 33")


def test_normalising_composes_accents_and_tidies_blanks() -> None:
    assert normalise("  cafe\u0301\r\n  two\u00a0 words\t\x07 ") == "café\ntwo words"


@given(st.text(max_size=200))
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)
