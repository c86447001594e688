"""Operators' commands read and write items as the functions do."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lambdas.aws import dynamodb as dynamo
from operations.dynamodb import from_item, to_item

NUMBERS = st.integers(-(10**30), 10**30) | st.floats(-1e9, 1e9).map(lambda value: round(value, 6))
VALUES = st.recursive(
    st.booleans() | st.text(max_size=20) | NUMBERS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1, max_size=5), inner),
    max_leaves=8,
)
ITEMS = st.dictionaries(st.text(min_size=1, max_size=8), VALUES | st.none(), max_size=5)


@given(ITEMS)
def test_what_an_operator_writes_a_function_reads_and_the_other_way_round(values: dict[str, object]) -> None:
    present = {name: value for name, value in values.items() if value is not None}

    assert dynamo.from_item(to_item(values)) == present
    assert from_item(dynamo.to_item(values)) == present
