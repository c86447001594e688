"""`/v1/responses` on a running laptop cloud: one function keeps an answer, others find and delete it."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.support.laptop import Laptop
from tests.support.response_requests import function


def test_an_answer_is_streamed_referred_to_read_and_deleted(laptop: Laptop) -> None:
    client, model = laptop.openai(), laptop.model
    brief: dict[str, Any] = {
        "model": model,
        "max_output_tokens": 8,
        "tools": [function()],
        "tool_choice": "none",
    }
    events: list[Any] = list(client.responses.create(input="Say hi.", stream=True, **brief))
    kinds, first = [event.type for event in events], events[-1].response
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] in ("response.completed", "response.incomplete")
    assert first.usage.output_tokens > 0

    referring: Any = [
        {"role": "user", "content": "Say hi."},
        {"type": "item_reference", "id": first.output[0].id},
        {"role": "user", "content": "Again."},
    ]
    by_item = client.responses.create(input=referring, **brief)
    by_id = client.responses.create(input="Again.", previous_response_id=first.id, **brief)
    assert by_item.usage is not None
    assert by_id.usage is not None
    assert by_item.usage.input_tokens == by_id.usage.input_tokens > first.usage.input_tokens

    assert client.responses.retrieve(first.id).output_text == first.output_text
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    with pytest.raises(openai.BadRequestError, match="store: false"):
        client.responses.create(input="Again.", previous_response_id=first.id, **brief)
