"""Instructor over OpenAI's client: typed answers in each of its modes, and its re-asking."""

from __future__ import annotations

from typing import Any

import instructor
import openai
from instructor import Mode
from instructor.core.exceptions import InstructorRetryException

from tests.clients.forms import Tree
from tests.clients.program import (
    API_KEY,
    API_URL,
    LONG_TEXT,
    MODEL,
    PATIENCE_SECONDS,
    SCENARIO,
    Seen,
    feature,
    raised,
    run,
)

plain = openai.OpenAI(base_url=API_URL, api_key=API_KEY, max_retries=0, timeout=PATIENCE_SECONDS)
REQUEST: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": SCENARIO["form_question"]}],
    "max_tokens": 400,
    "temperature": 0,
    "response_model": Tree,
    "max_retries": 0,
}


def _in(mode: Mode, client: openai.OpenAI = plain) -> Any:
    return instructor.from_openai(client, mode=mode)


@feature("structured")
def structured() -> Seen:
    value: Any = None
    for mode in (Mode.TOOLS, Mode.JSON_SCHEMA):
        value = _in(mode).chat.completions.create(**REQUEST)
        assert isinstance(value, Tree), mode
    return {"type": type(value).__name__, "value": value.model_dump()}


@feature("forced tool")
def forced_tool() -> Seen:
    """A typed answer in the mode that forces a call."""
    value, completion = _in(Mode.TOOLS).chat.completions.create_with_completion(**REQUEST)
    (call,) = completion.choices[0].message.tool_calls
    assert call.function.name == "Tree", call
    assert isinstance(value, Tree)
    arguments = {"city": value.name, "days": value.height, "unit": "C", "code": value.note or 0}
    return {
        "call_id": call.id,
        "name": "get_weather",
        "arguments": arguments,
        "finish": completion.choices[0].finish_reason,
    }


@feature("stream")
def stream() -> Seen:
    parts = list(_in(Mode.TOOLS).chat.completions.create_partial(**REQUEST))
    return {"pieces": len(parts), "text": parts[-1].model_dump_json(), "hidden": ["finish"]}


@feature("tool loop")
def tool_loop() -> Seen:
    """What fails the application's check is asked again: the answer and what was wrong go back."""
    asked: list[Any] = []

    class Checked(Tree):
        def model_post_init(self, context: Any) -> None:
            asked.append(self)
            if len(asked) < 2:
                raise ValueError("once more, please")

    value = _in(Mode.TOOLS).chat.completions.create(**REQUEST | {"response_model": Checked, "max_retries": 2})
    assert len(asked) > 1, "nothing was asked again"
    return {"echoes": {"re-asked": {"text": value.model_dump_json(), "hidden": ["finish"]}}}


@feature("errors")
def errors() -> Seen:
    stranger = plain.with_options(api_key="eg-nobody-has-this-key")

    def with_(client: openai.OpenAI = plain, **given: Any) -> Any:
        return lambda: _in(Mode.TOOLS, client).chat.completions.create(**REQUEST | given)

    too_long = [{"role": "user", "content": LONG_TEXT}]
    # It wraps what the client raises, and names it as the cause.
    wrapped = InstructorRetryException
    return {
        "classes": {
            "401": raised(wrapped, with_(stranger)),
            "404": raised(wrapped, with_(model="gpt-99")),
            "400": raised(wrapped, with_(temperature=9)),
            "context": raised(wrapped, with_(messages=too_long)),
        }
    }


if __name__ == "__main__":
    typed = "gives typed answers only"
    names = (
        "chat",
        "usage in stream",
        "MCP tools",
        "structured + tools",
        "embeddings: texts",
        "embeddings: base64",
        "embeddings: tokens",
        "responses",
        "responses: tool loop",
        "responses: structured",
        "messages",
        "messages: tool loop",
        "completions",
        "batches",
    )
    run("instructor", "openai", limits=dict.fromkeys(names, typed))
