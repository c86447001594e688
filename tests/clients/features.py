"""What each client must have seen of each feature, judged by the same rules for all of them.

A rule takes what a program reported (tests/clients/program.py) and what it reported before, and returns what
is wrong, or None. Where a feature depends on how clever the model is, the protocol alone is judged: a call
that is forced must have the function's name and arguments of its schema, while what the model says of the
weather may be nonsense. What a client hides from its users stands in `hidden`.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jsonschema

from tests.clients.scenario import SCENARIO

Seen = Mapping[str, Any]
Rule = Callable[[Seen, Mapping[str, Seen]], "str | None"]
FINISHED = {"stop", "length", "completed", "incomplete", "end_turn", "max_tokens", "tool-calls", "tool_calls"}
"""How answers end, in the words of the protocols and of clients that translate them."""
FEATURES: dict[str, Rule] = {}


def _feature(name: str) -> Callable[[Rule], Rule]:
    def kept(rule: Rule) -> Rule:
        FEATURES[name] = rule
        return rule

    return kept


def _first(*problems: str | None) -> str | None:
    return next((problem for problem in problems if problem), None)


def _text(text: Any) -> str | None:
    return None if isinstance(text, str) and text.strip() else f"no text: {text!r}"


def _finish(seen: Seen) -> str | None:
    if "finish" in seen.get("hidden", ()):
        return None
    return None if seen.get("finish") in FINISHED else f"finish reason {seen.get('finish')!r}"


def _usage(seen: Seen) -> str | None:
    if "usage" in seen.get("hidden", ()):
        return None
    prompt, completion, total = seen.get("usage") or (0, 0, 0)
    good = prompt > 0 and completion > 0 and total == prompt + completion
    return None if good else f"usage {seen.get('usage')}"


def _identified(seen: Seen, *beginnings: str) -> str | None:
    if "id" in seen.get("hidden", ()):
        return None
    return None if str(seen.get("id")).startswith(beginnings) else f"id {seen.get('id')!r}"


def _of_schema(value: Any, schema: Any) -> str | None:
    try:
        jsonschema.validate(value, schema)
    except jsonschema.ValidationError as error:
        return f"{value!r}: {error.message}"
    return None


def _call(seen: Seen) -> str | None:
    hidden = seen.get("hidden", ())
    return _first(
        None if seen.get("name") == "get_weather" else f"called {seen.get('name')!r}",
        _of_schema(seen.get("arguments"), SCENARIO["arguments"]),
        None if seen.get("call_id") or "call_id" in hidden else "a call without id",
    )


def _echoes(seen: Seen) -> str | None:
    """Each helper's message was put back, and the second turn was answered."""
    echoes = seen.get("echoes") or {}
    problems = [f"{how}: {_text(e.get('text')) or _finish(e)}" for how, e in echoes.items()]
    return _first(
        None if echoes else "nothing was put back",
        *(problem for problem in problems if not problem.endswith(": None")),
    )


def _numbers(vector: Sequence[float] | str) -> Sequence[float]:
    """A vector; some clients hand on the base64 that they were told to ask for."""
    if not isinstance(vector, str):
        return vector
    packed = base64.b64decode(vector)
    return struct.unpack(f"<{len(packed) // 4}f", packed)


def _vectors(seen: Seen, before: Mapping[str, Seen]) -> str | None:
    vectors = [_numbers(vector) for vector in seen.get("vectors") or []]
    if len(vectors) != len(SCENARIO["texts"]) or len({len(vector) for vector in vectors}) != 1:
        return f"{len(vectors)} vectors"
    if any(abs(math.hypot(*vector) - 1) > 1e-3 for vector in vectors):
        return f"vectors of length {[math.hypot(*vector) for vector in vectors]}"
    if math.dist(*vectors) < 0.1:
        return "different texts have the same vector"
    texts = before.get("embeddings: texts", {}).get("vectors")
    if texts and any(math.dist(a, b) > 1e-2 for a, b in zip(texts, vectors, strict=True)):
        return "other vectors than as texts in floats"
    return None


@_feature("chat")
def _chat(seen: Seen, _: Mapping[str, Seen]) -> str | None:
    return _first(_text(seen.get("text")), _finish(seen), _usage(seen), _identified(seen, "chatcmpl-"))


@_feature("stream")
def _stream(seen: Seen, _: Mapping[str, Seen]) -> str | None:
    """Not held against the whole answer: the engine's arithmetic depends on what else is in its batch."""
    pieces = seen.get("pieces", 0)
    return _first(None if pieces > 1 else f"{pieces} pieces", _text(seen.get("text")), _finish(seen))


@_feature("usage in stream")
def _usage_in_stream(seen: Seen, before: Mapping[str, Seen]) -> str | None:
    whole = before.get("chat", {}).get("usage")
    return _first(
        _usage(seen),
        None
        if not whole or "usage" in seen.get("hidden", ()) or whole[0] == seen["usage"][0]
        else f"not {whole}",
        None
        if seen.get("chunks_with_usage", 1) == 1
        else f"{seen.get('chunks_with_usage')} chunks have usage",
    )


@_feature("forced tool")
def _forced_tool(seen: Seen, _: Mapping[str, Seen]) -> str | None:
    return _first(_call(seen), _finish(seen))


@_feature("tool loop")
def _tool_loop(seen: Seen, _: Mapping[str, Seen]) -> str | None:
    return _echoes(seen)


@_feature("MCP tools")
def _mcp_tools(seen: Seen, _: Mapping[str, Seen]) -> str | None:
    return _first(_finish(seen), _usage(seen))


@_feature("structured")
def _structured(seen: Seen, _: Mapping[str, Seen]) -> str | None:
    echo = _text(seen["echo"]) if "echo" in seen else None
    return _first(_of_schema(seen.get("value"), SCENARIO["form"]), _typed(seen), echo)


def _typed(seen: Seen) -> str | None:
    """What a client hands out as a type of the application's is one."""
    return None if seen.get("type", "Tree") == "Tree" else f"a {seen.get('type')} came"


@_feature("structured + tools")
def _structured_with_tools(seen: Seen, _: Mapping[str, Seen]) -> str | None:
    """A call of the tool, or an answer of the form: which of them is the model's choice."""
    return None if seen.get("name") == "get_weather" else _of_schema(seen.get("value"), SCENARIO["form"])


@_feature("embeddings: texts")
def _embeddings_of_texts(seen: Seen, before: Mapping[str, Seen]) -> str | None:
    tokens = seen.get("prompt_tokens", 1)
    return _vectors(seen, before) or (None if tokens > 0 else "no usage")


FEATURES["embeddings: base64"] = _embeddings_of_texts
FEATURES["embeddings: tokens"] = _embeddings_of_texts
FEATURES["responses"] = lambda seen, _: _first(
    _text(seen.get("text")), _finish(seen), _usage(seen), _identified(seen, "resp_"), _events(seen)
)
FEATURES["responses: tool loop"] = lambda seen, _: _call(seen) or _echoes(seen)
FEATURES["responses: structured"] = _structured
FEATURES["messages"] = lambda seen, _: _first(
    _text(seen.get("text")), _finish(seen), _usage(seen), _identified(seen, "msg_"), _events(seen)
)
FEATURES["messages: tool loop"] = lambda seen, _: _call(seen) or _echoes(seen)


def _events(seen: Seen) -> str | None:
    """A stream begins and ends as its protocol says, with text between."""
    events = seen.get("events")
    if events is None:
        return None if "events" in seen.get("hidden", ()) else "no stream was tried"
    wanted = (
        ("response.created", "response.output_text.delta", {"response.completed", "response.incomplete"})
        if any(event.startswith("response.") for event in events)
        else ("message_start", "content_block_delta", {"message_stop"})
    )
    good = events and events[0] == wanted[0] and wanted[1] in events and events[-1] in wanted[2]
    return None if good else f"events {events}"


@_feature("completions")
def _completions(seen: Seen, _: Mapping[str, Seen]) -> str | None:
    scores = seen.get("token_logprobs") or []
    scored = len(scores) > 1 and scores[0] is None and all(score <= 0 for score in scores[1:])
    texts = seen.get("texts") or []
    return _first(
        None if len(texts) == 2 and all(texts) else f"texts {texts}",
        None if seen.get("indices", [0, 1]) == [0, 1] else f"indices {seen.get('indices')}",
        None if scored or "token_logprobs" in seen.get("hidden", ()) else f"log probabilities {scores}",
    )


@_feature("batches")
def _batches(seen: Seen, _: Mapping[str, Seen]) -> str | None:
    wanted = {"status": "completed", "results": {"r1": 200, "r2": 200}, "listed": True, "file": True}
    return None if dict(seen) == wanted else f"{dict(seen)}"


@_feature("errors")
def _errors(seen: Seen, _: Mapping[str, Seen]) -> str | None:
    """Each refusal reached the application as the class that the client has for it, named beside it."""
    wrong = [
        f"{which} is {classes or 'nothing'}, not {wanted}"
        for which, (classes, wanted) in seen.get("classes", {}).items()
        if wanted not in classes
    ]
    tried = {"401", "404", "400"} - seen.get("classes", {}).keys()
    return "; ".join(wrong) or (f"{sorted(tried)} not tried" if tried else None)
