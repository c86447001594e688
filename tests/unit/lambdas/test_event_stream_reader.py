"""The event-stream reader against botocore's, for any messages cut anywhere."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lambdas.aws.sagemaker import messages
from tests.support.event_stream import decode, message

names = st.text("abcdefghijklmnopqrstuvwxyz:-", min_size=1, max_size=20)
contents = st.tuples(st.dictionaries(names, st.text(max_size=30), max_size=4), st.binary(max_size=200))


@given(st.lists(contents, max_size=4), st.integers(1, 60))
def test_it_reads_what_botocore_reads(sent: list[tuple[dict[str, str], bytes]], size: int) -> None:
    data = b"".join(message(headers, payload) for headers, payload in sent)
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    found = [(one.headers, one.payload) for one in messages(pieces)]
    assert found == sent
    assert found == [(dict(one.headers), bytes(one.payload)) for one in decode(data)]
