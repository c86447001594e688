"""The table of clients: its judge lets nothing pass that a client did not get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.clients import table
from tests.clients.features import FEATURES
from tests.clients.programs import PROGRAMS
from tests.clients.scenario import SCENARIO

CALL = {
    "call_id": "c",
    "name": "get_weather",
    "arguments": {"city": "Paris", "days": 3, "unit": "C", "code": "x"},
}
TREE = {"name": "Larch", "height": 30, "kind": "conifer", "note": None}
ANSWER = {"id": "chatcmpl-1", "text": "Yew.", "finish": "stop", "usage": [3, 2, 5]}
ECHOED = {"echoes": {"create()": {"text": "12 C", "finish": "stop"}}}
UNIT_VECTORS = {"vectors": [[1.0, 0.0], [0.0, 1.0]], "prompt_tokens": 9}
RESPONSE_EVENTS = ["response.created", "response.output_text.delta", "response.completed"]
MESSAGE_EVENTS = ["message_start", "content_block_delta", "message_stop"]
GOOD: dict[str, dict[str, Any]] = {
    "chat": ANSWER,
    "stream": {"text": "Yew.", "pieces": 2, "finish": "stop"},
    "usage in stream": {"usage": [3, 2, 5], "chunks_with_usage": 1},
    "forced tool": {**CALL, "finish": "tool_calls"},
    "tool loop": ECHOED,
    "MCP tools": {"finish": "stop", "usage": [3, 2, 5]},
    "structured": {"type": "Tree", "value": TREE},
    "structured + tools": {"value": TREE},
    "embeddings: texts": UNIT_VECTORS,
    "embeddings: base64": UNIT_VECTORS,
    "embeddings: tokens": UNIT_VECTORS,
    "responses": {**ANSWER, "id": "resp_1", "events": RESPONSE_EVENTS},
    "responses: tool loop": {**CALL, **ECHOED},
    "responses: structured": {"value": TREE},
    "messages": {**ANSWER, "id": "msg_1", "events": MESSAGE_EVENTS},
    "messages: tool loop": {**CALL, **ECHOED},
    "completions": {"texts": ["a", "b"], "indices": [0, 1], "token_logprobs": [None, -1.0]},
    "batches": {"status": "completed", "results": {"r1": 200, "r2": 200}, "listed": True, "file": True},
    "errors": {"classes": {status: [["A", "B"], "B"] for status in ("401", "404", "400")}},
}
BAD: list[tuple[str, dict[str, Any]]] = [
    ("chat", {"text": ""}),
    ("chat", {"finish": None}),
    ("chat", {"usage": [3, 2, 6]}),
    ("chat", {"usage": None}),
    ("chat", {"id": "1"}),
    ("stream", {"pieces": 1}),
    ("stream", {"text": None}),
    ("usage in stream", {"usage": [4, 2, 6]}),
    ("usage in stream", {"chunks_with_usage": 2}),
    ("forced tool", {"name": "other"}),
    ("forced tool", {"arguments": {"city": "Paris"}}),
    ("forced tool", {"arguments": {**CALL["arguments"], "days": "3"}}),  # type: ignore[dict-item]
    ("forced tool", {"call_id": ""}),
    ("tool loop", {"echoes": {}}),
    ("tool loop", {"echoes": {**ECHOED["echoes"], "parse()": {"text": "", "finish": "stop"}}}),
    ("MCP tools", {"finish": "error"}),
    ("structured", {"value": {**TREE, "height": "30"}}),
    ("structured", {"value": None}),
    ("structured", {"type": "dict"}),
    ("structured", {"echo": ""}),
    ("structured + tools", {"value": None, "name": "other"}),
    ("embeddings: texts", {"vectors": [[1.0, 0.0]]}),
    ("embeddings: texts", {"vectors": [[2.0, 0.0], [0.0, 1.0]]}),
    ("embeddings: texts", {"vectors": [[1.0, 0.0], [1.0, 0.0]]}),
    ("embeddings: texts", {"prompt_tokens": 0}),
    ("embeddings: base64", {"vectors": [[0.0, 1.0], [1.0, 0.0]]}),
    ("embeddings: tokens", {"vectors": []}),
    ("responses", {"id": "chatcmpl-1"}),
    ("responses", {"events": RESPONSE_EVENTS[:2]}),
    ("responses: tool loop", {"call_id": None}),
    ("responses: structured", {"value": {}}),
    ("messages", {"events": MESSAGE_EVENTS[1:]}),
    ("messages: tool loop", {"echoes": {}}),
    ("completions", {"texts": ["a", ""]}),
    ("completions", {"indices": [0, 0]}),
    ("completions", {"token_logprobs": [None]}),
    ("batches", {"results": {"r1": 200}}),
    ("errors", {"classes": {"401": [["A"], "A"], "404": [["A"], "A"]}}),
    ("errors", {"classes": {**GOOD["errors"]["classes"], "400": [[], "B"]}}),
]


def _lines(**changed: dict[str, Any]) -> list[dict[str, Any]]:
    seen = GOOD | changed
    return [{"versions": {"client": "1"}}, *({"feature": name, **told} for name, told in seen.items())]


def test_what_a_client_should_see_is_right() -> None:
    assert set(GOOD) == set(FEATURES)
    assert set(table.judged("client", _lines()).marks.values()) == {"✓"}


@pytest.mark.parametrize(
    ("feature", "changed"), BAD, ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_it_should_not_see_is_noticed(feature: str, changed: dict[str, Any]) -> None:
    alone = [{"versions": {}}, {"feature": feature, **GOOD[feature], **changed}]
    before = [{"feature": name, **GOOD[name]} for name in ("chat", "embeddings: texts") if name != feature]
    assert table.judged("client", [*alone, *before]).marks[feature] == "✗"


def test_every_feature_has_something_to_notice() -> None:
    assert {feature for feature, _ in BAD} == set(FEATURES)


def test_a_feature_that_a_program_leaves_out_is_wrong() -> None:
    lines = [line for line in _lines() if line.get("feature") != "batches"]
    assert table.judged("client", lines).problems == ["batches"]
    assert table.judged("client", []).problems == list(FEATURES)


def test_a_feature_that_nobody_judges_is_refused() -> None:
    with pytest.raises(ValueError, match="nobody judges"):
        table.judged("client", [*_lines(), {"feature": "telepathy"}])


def test_limits_and_failures_carry_their_words_once() -> None:
    limited = {"limit": "has no batches"}
    rows = [
        table.judged("one", _lines(batches=limited, messages={"failed": "NotFoundError: 404"})),
        table.judged("two", _lines(batches=limited)),
    ]
    text = table.markdown(rows)
    assert rows[0].problems == ["messages"]
    assert rows[1].problems == []
    assert text.count("has no batches") == 1
    assert "✗ [1]" in text
    assert text.count("– [2]") == 2


def test_what_the_documents_refuse_is_a_limit() -> None:
    refused = {"failed": "Error: 400 'input' is not supported: send text instead of token ids, which …"}
    row = table.judged("client", _lines(**{"embeddings: tokens": refused}))
    assert row.marks["embeddings: tokens"] == "–"
    assert row.problems == []


def test_every_program_is_there_and_is_driven() -> None:
    folder = Path(__file__).parents[1] / "clients"
    files = {path.name for pattern in ("with_*.py", "with_*.mjs") for path in folder.glob(pattern)}
    driven = {f"{program}.{'mjs' if place == 'node' else 'py'}" for place, program in PROGRAMS.values()}
    assert files == driven


def test_the_scenario_has_a_result_for_each_text() -> None:
    assert len(SCENARIO["texts"]) == len(SCENARIO["tokens"])
