"""Tools in prompts, and calls found in what a model writes."""

from __future__ import annotations

import json

import pytest

from contracts.messages import CalledFunction, Message, ToolCall
from contracts.tools import Function, Tool
from model_code.serving.generation.tool_calls import (
    BARE_JSON,
    MISTRAL,
    TAGS,
    ParsedToolCall,
    ToolCallParser,
    ToolCallSyntax,
    begins_call,
    described,
    template_messages,
    tool_call_syntax,
)

NAMES = {"add", "find"}
ADD = '{"name": "add", "arguments": {"a": 1}}'
EXPECTED = ParsedToolCall("add", '{"a": 1}')


def run(syntax: ToolCallSyntax, text: str, size: int) -> tuple[str, list[ParsedToolCall]]:
    finder = ToolCallParser(syntax, NAMES)
    out, calls = "", []
    for start in range(0, len(text), size):
        more, found = finder.push(text[start : start + size])
        out, calls = out + more, calls + found
    more, found = finder.flush()
    return out + more, calls + found


CASES = {
    "a call": (TAGS, f"<tool_call>\n{ADD}\n</tool_call>", "", [EXPECTED]),
    "text before": (TAGS, f"Let me see.<tool_call>{ADD}</tool_call>", "Let me see.", [EXPECTED]),
    "two calls": (TAGS, f"<tool_call>{ADD}</tool_call>\n<tool_call>{ADD}</tool_call>", "", [EXPECTED] * 2),
    "a list": (TAGS, f"<tool_call>[{ADD}, {ADD}]</tool_call>", "", [EXPECTED] * 2),
    "cut off": (TAGS, '<tool_call>{"name": "ad', '<tool_call>{"name": "ad', []),
    "without end": (TAGS, f"<tool_call>{ADD}", "", [EXPECTED]),
    "no JSON": (TAGS, "<tool_call>add(1)</tool_call>!", "<tool_call>add(1)</tool_call>!", []),
    "unknown name": (
        TAGS, '<tool_call>{"name": "rm"}</tool_call>', '<tool_call>{"name": "rm"}</tool_call>', []
    ),
    "almost a mark": (TAGS, "a <tool_box> b <tool_", "a <tool_box> b <tool_", []),
    "Mistral": (MISTRAL, f"[TOOL_CALLS][{ADD}]", "", [EXPECTED]),
    "Llama": (BARE_JSON, '{"name": "add", "parameters": {"a": 1}}', "", [EXPECTED]),
    "Llama, text": (BARE_JSON, 'Use {"a": 1}.', 'Use {"a": 1}.', []),
    "Llama, other JSON": (BARE_JSON, '{"a": 1}', '{"a": 1}', []),
    "arguments as text": (BARE_JSON, '{"name": "add", "arguments": "{\\"a\\": 1}"}', "", [EXPECTED]),
}  # fmt: skip


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("case", CASES)
def test_calls_are_found_however_the_text_is_cut(case: str, size: int) -> None:
    syntax, text, out, calls = CASES[case]
    assert run(syntax, text, size) == (out, calls)


def test_the_template_tells_how_calls_are_written() -> None:
    assert tool_call_syntax("{{ messages }}") is TAGS
    assert tool_call_syntax("{% if tools %}<tool_call>{% endif %}") is TAGS
    assert tool_call_syntax("{% if tools %}[TOOL_CALLS]{% endif %}") is MISTRAL
    assert tool_call_syntax("{% if tools %}respond with JSON{% endif %}") is BARE_JSON


def test_a_template_without_tools_gets_them_in_the_system_turn() -> None:
    tool = Tool(type="function", function=Function(name="add", description="Adds {numbers}."))
    [system, user] = described([{"role": "user", "content": "x"}], [tool])
    assert (system["role"], user["role"]) == ("system", "user")
    assert '"name": "add"' in system["content"]

    [system] = described([{"role": "system", "content": "Be brief."}], [tool])
    assert system["content"].startswith("Be brief.\n")


def test_calls_and_results_of_earlier_turns_are_told_either_way() -> None:
    call = ToolCall(id="c1", function=CalledFunction(name="add", arguments='{"a": 1}'))
    messages = [
        Message(role="assistant", tool_calls=[call]),
        Message(role="tool", content="2", tool_call_id="c1"),
    ]
    [asked, answered] = template_messages(messages, with_calls=True)
    assert asked["tool_calls"][0]["function"] == {"name": "add", "arguments": {"a": 1}}
    assert (answered["role"], answered["tool_call_id"]) == ("tool", "c1")

    [asked, answered] = template_messages(messages, with_calls=False)
    assert json.loads(asked["content"].split("\n")[1]) == {"name": "add", "arguments": {"a": 1}}
    assert answered == {"role": "user", "content": "<tool_response>\n2\n</tool_response>"}


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        ("", True),
        ('{"na', True),
        ('{"name": "add", "argu', True),
        ('{"name": "add", "arguments": {"a": 1}}', True),
        ('{"name": "Ann"}', False),
        ('{"title": 1', False),
    ],
)
def test_the_beginning_of_a_call_is_told_from_an_answer(text: str, begins: bool) -> None:
    assert begins_call(text, {"add", "other"}) is begins
