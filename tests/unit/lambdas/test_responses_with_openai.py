"""`/v1/responses` through OpenAI's own Python client."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.support.fake_model_endpoint import Reply, chat_events, cut
from tests.support.front_door import MODEL, Door
from tests.support.openai_client import client_of
from tests.support.response_requests import function
from tests.unit.lambdas.test_door_tools import CALL, stream


class Place(BaseModel):
    """A form of an answer."""

    city: str


def test_create_and_stream(door: Door) -> None:
    client = client_of(door)
    whole = client.responses.create(model=MODEL, input="Hi")
    assert (whole.output_text, whole.status) == ("Hello", "completed")

    pieces = [e.delta for e in client.responses.create(model=MODEL, input="Hi", stream=True)
              if e.type == "response.output_text.delta"]  # fmt: skip
    assert pieces == ["Hel", "lo"]
    with client.responses.stream(model=MODEL, input="Hi") as events:
        answer = events.get_final_response()
    assert (answer.output_text, answer.usage and answer.usage.total_tokens) == ("Hello", 8)


def test_parse_whole_and_streamed(door: Door) -> None:
    door.sagemaker.replies = [Reply(parts=cut(chat_events('{"city": ', '"Paris"}'), 50))]
    client = client_of(door)
    parsed = client.responses.parse(model=MODEL, input="Where?", text_format=Place)
    assert parsed.output_parsed == Place(city="Paris")
    with client.responses.stream(model=MODEL, input="Where?", text_format=Place) as events:
        assert events.get_final_response().output_parsed == Place(city="Paris")


@pytest.mark.parametrize("streamed", [False, True])
def test_a_loop_of_two_turns_replays_the_output(door: Door, streamed: bool) -> None:
    """As OpenAI's guide to function calling writes it: the output goes back as it came."""
    client = client_of(door)
    door.sagemaker.replies = stream({"delta": {"reasoning_content": "Hm."}}, *CALL)
    turns: list[Any] = [{"role": "user", "content": "Mail Bob"}]
    tools: Any = [function("mail")]
    first: Any
    if streamed:
        with client.responses.stream(model=MODEL, input=turns, tools=tools, store=False) as events:
            first = events.get_final_response()
    else:
        first = client.responses.create(model=MODEL, input=turns, tools=tools, store=False)
    turns += first.output
    [call] = [item for item in first.output if item.type == "function_call"]
    turns.append({"type": "function_call_output", "call_id": call.call_id, "output": "sent"})

    door.sagemaker.replies = [Reply(parts=cut(chat_events("Done."), 50))]
    assert client.responses.create(model=MODEL, input=turns, tools=tools).output_text == "Done."


def test_errors_reach_the_client(door: Door) -> None:
    client = client_of(door)
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model=MODEL, input="x", tools=[{"type": "web_search"}])
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "tools[0]")

    begun = chat_events("Hel", done=False).partition(b'"finish_reason": "stop"')[0].rpartition(b"data: ")[0]
    door.sagemaker.replies = [Reply(parts=cut(begun, 40), break_off=True)]
    with pytest.raises(openai.APIError):
        list(client.responses.create(model=MODEL, input="x", stream=True))
