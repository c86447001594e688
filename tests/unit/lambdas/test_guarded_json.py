"""Answers that were to be JSON stay JSON whatever guards take out of them or put back, streamed or whole."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.chat import ChatRequest
from contracts.guards import BedrockSettings, GuardSettings
from lambdas.pipeline.answer_guard import GuardAnswer
from lambdas.pipeline.guards import json_text
from lambdas.pipeline.guards.base import Action, Finding, Guards
from lambdas.pipeline.guards.pii import PiiRules
from lambdas.pipeline.guards.session import GuardSession
from lambdas.pipeline.guards.vault import Vault
from lambdas.pipeline.operations import CHAT
from lambdas.pipeline.request import Chunk, Response, TextGeneration
from lambdas.runtime.logs import Logger
from tests.support.fake_model_endpoint import Reply, chat_events, cut
from tests.support.front_door import MODEL, SETTINGS, Door, chat, events
from tests.unit.lambdas.test_bedrock_guard import bedrock, intervened

FORM = {"response_format": {"type": "json_object"}}
OWN = ['Ann "Al" O\\Neil', "12 High Street\nYork", "ann@x.org", "\\", '"']
OF_OTHERS = ["bob@y.org", "4111111111111111"]
EMAIL, CARD = "[EMAIL]", "[CARD]"

words = st.sampled_from(
    ["Write to", "n", ".", "!", "é", "😀", "\n", "\t", "\\", '"', "{", "]", ",", "true", "a" * 30, *OF_OTHERS]
)
texts = st.lists(words | st.sampled_from([f"[NAME_{n + 1}]" for n in range(len(OWN))])).map(" ".join)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9_999) | texts | st.just(int(OF_OTHERS[1])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def as_released(value: Any) -> Any:
    """What the caller is to get of a value that the model said."""
    if isinstance(value, str):
        said = value.replace(OF_OTHERS[0], EMAIL).replace(OF_OTHERS[1], CARD)
        return re.sub(r"\[NAME_(\d)\]", lambda found: OWN[int(found[1]) - 1], said)
    if isinstance(value, list):
        return [as_released(each) for each in value]
    if isinstance(value, dict):
        return {as_released(name): as_released(each) for name, each in value.items()}
    return CARD if value == int(OF_OTHERS[1]) and not isinstance(value, bool) else value


def guarded(answer: str, size: int) -> str:
    """What the stage lets through of an answer that comes in pieces of `size` characters."""
    body = ChatRequest.model_validate(chat(**FORM))
    generation = TextGeneration(CHAT, body, body, "chatcmpl-r", 0)
    response = Response()
    session = GuardSession(response.guards, response.trace)
    for number, own in enumerate(OWN, start=1):
        masked = session.vault.mask(own, [Finding("test", "name", Action.MASK, 0, len(own))])
        assert masked == f"[NAME_{number}]"
    pieces = [answer[at : at + size] for at in range(0, len(answer), size)]
    chunks: list[Chunk] = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    guard = GuardAnswer(Guards([PiiRules()], Logger("test", "CRITICAL"), fail_open=False))
    released = guard(generation, chunks, session, response)
    return "".join(choice["delta"].get("content", "") for c in released for choice in c["choices"])


@given(values, st.booleans(), st.sampled_from([None, 2]), st.integers(1, 80))
def test_json_stays_json_and_says_what_it_should(
    value: Any, escaped: bool, indent: int | None, size: int
) -> None:
    answer = json.dumps(value, ensure_ascii=escaped, indent=indent)
    assert json.loads(guarded(answer, size)) == as_released(value)


@given(st.text(st.sampled_from('{}[]:,"\\un1e-. \nao'), max_size=60), st.booleans())
def test_what_nobody_changes_is_written_as_it_was(text: str, within: bool) -> None:
    assert json_text.part(text, within).changed([], lambda piece, _: piece) == text
    assert json_text.whole(text).changed([], lambda piece, _: piece) == text


def test_a_long_string_is_not_held_until_its_end() -> None:
    """The caller of a stream waits for a sentence, within JSON as well."""
    body = ChatRequest.model_validate(chat(stream=True, **FORM))
    generation, response = TextGeneration(CHAT, body, body, "chatcmpl-r", 0), Response()
    said: list[Chunk] = []

    def model() -> Any:
        for text in ('{"a": "One \\"here\\". ', "Two. ", 'Three."}'):
            said.append({"choices": [{"index": 0, "delta": {"content": text}}]})
            yield said[-1]
        yield {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}

    guard = GuardAnswer(Guards([PiiRules()], Logger("test", "CRITICAL"), fail_open=False))
    first = next(guard(generation, model(), GuardSession(response.guards, response.trace), response))
    assert first["choices"][0]["delta"]["content"] == '{"a": "One \\"here\\". '
    assert len(said) == 1


# --- through the door ------------------------------------------------------------------------------------


def answered(door: Door, answer: str, prompt: str, *, stream: bool) -> str:
    door.sagemaker.replies = [Reply(parts=cut(chat_events(*re.findall(r"(?s).{1,7}", answer)), 45))]
    reply, body = door.ask(chat(prompt, stream=stream, **FORM))
    assert reply.status == 200, body
    if not stream:
        return str(json.loads(body)["choices"][0]["message"]["content"])
    choices = [choice for event in events(body)[:-1] for choice in event["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("escape", ["\\n", "\\t", "\\u000a"])
def test_a_mask_tears_no_escape(make_door: Callable[..., Door], escape: str, stream: bool) -> None:
    door = make_door(SETTINGS.model_copy(update={"guards": GuardSettings(mask_pii=True)}))
    answer = f'{{"to": "Write to{escape}bob@y.org", "card": 4111111111111111}}'
    said = json.loads(answered(door, answer, "Hi", stream=stream))
    assert said == {"to": json.loads(f'"Write to{escape}[EMAIL]"'), "card": "[CARD]"}


@pytest.mark.parametrize("stream", [False, True])
def test_the_callers_own_words_come_back_as_json_needs_them(
    make_door: Callable[..., Door], monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    name = 'Ann "Al" O\\Neil'
    entity = {"type": "NAME", "match": name, "action": "ANONYMIZED"}
    found = intervened(sensitiveInformationPolicy={"piiEntities": [entity]})
    with bedrock(lambda source, text: (200, found)) as (url, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", url)
        guards = GuardSettings(bedrock=BedrockSettings(guardrail_id="gr1", version="3"))
        door = make_door(SETTINGS.model_copy(update={"guards": guards}))
        answer = '{"name": "[NAME_1]", "length": 14}'
        said = json.loads(answered(door, answer, f"I am {name}.", stream=stream))
    assert said == {"name": name, "length": 14}
    assert json.loads(door.sagemaker.calls[-1][1])["messages"][0]["content"] == "I am [NAME_1]."


@pytest.mark.parametrize("stream", [False, True])
def test_an_escape_hides_no_word(make_door: Callable[..., Door], stream: bool) -> None:
    guards = GuardSettings(denied_topics={"war": ["war"]})
    door = make_door(SETTINGS.model_copy(update={"guards": guards}))
    assert answered(door, '{"text": "\\u0077ar"}', "Hi", stream=stream) == ""


def test_plain_text_is_left_as_it_is(make_door: Callable[..., Door]) -> None:
    door = make_door(SETTINGS.model_copy(update={"guards": GuardSettings(mask_pii=True)}))
    door.sagemaker.replies = [Reply(parts=cut(chat_events('Say "[EMAIL_1]" or \\n'), 45))]
    _, body = door.ask({**chat("ann@x.org"), "response_format": {"type": "text"}, "model": MODEL})
    assert json.loads(body)["choices"][0]["message"]["content"] == 'Say "ann@x.org" or \\n'


def test_many_findings_in_many_strings_take_no_longer_each() -> None:
    text = json.dumps(["a@b.cc"] * 50_000)
    started = time.process_time()
    reading = json_text.whole(text)
    masked = reading.changed(PiiRules().check(reading.text), Vault().mask)
    assert json.loads(masked) == ["[EMAIL_1]"] * 50_000
    # Each finding beside each string would take hours.
    assert time.process_time() - started < 120
