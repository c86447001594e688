"""Which requests can be answered again: a kept answer is one text, so others must not be asked for it."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.chat import ChatRequest
from lambdas.pipeline.cache import _is_one_text

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    ("fields", "kept"),
    [({}, True), ({"n": 2}, False), ({"tools": [TOOL]}, False), ({"logprobs": True}, False)],
)
def test_only_one_text_is_kept(fields: dict[str, Any], kept: bool) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **fields}
    assert _is_one_text(ChatRequest.model_validate(body)) is kept
