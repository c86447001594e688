"""Several answers, log probabilities, and text completions."""

from __future__ import annotations

import math

import httpx
import pytest

from contracts.chat import ChatCompletion
from contracts.completions import Completion
from tests.support.model_server import CONTEXT_TOKENS, MODEL, Client, chat, events, refused

pytestmark = pytest.mark.usefixtures("known_prompt")  # answers are compared
COMPLETIONS = {"X-Amzn-SageMaker-Custom-Attributes": "route=/v1/completions"}


def ask(client: httpx.Client, **fields: object) -> ChatCompletion:
    reply = client.post("/invocations", json=chat(**fields))
    assert reply.status_code == 200, reply.text
    return ChatCompletion.model_validate(reply.json())


def test_several_answers_differ_and_a_seed_repeats_them(client: httpx.Client) -> None:
    first, again = (ask(client, n=3, seed=7, max_tokens=12) for _ in range(2))
    texts = [choice.message.content for choice in first.choices]
    assert [choice.index for choice in first.choices] == [0, 1, 2]
    assert len(set(texts)) == 3
    assert [choice.message.content for choice in again.choices] == texts
    assert first.usage is not None
    assert first.usage.completion_tokens == 36


def test_several_streamed_answers_are_told_apart(client: httpx.Client) -> None:
    whole = ask(client, n=2, seed=7, max_tokens=12)
    body = chat(stream=True, n=2, seed=7, max_tokens=12, stream_options={"include_usage": True})
    with client.stream("POST", "/invocations", json=body) as reply:
        chunks = events(reply)
    for choice in whole.choices:
        own = [c for chunk in chunks for c in chunk["choices"] if c["index"] == choice.index]
        assert own[0]["delta"]["role"] == "assistant"
        assert "".join(c["delta"].get("content", "") for c in own) == choice.message.content
        assert own[-1]["finish_reason"] == "length"
    assert chunks[-1]["usage"]["completion_tokens"] == 24


@pytest.mark.parametrize(
    "fields", [{"temperature": 0}, {"seed": 1, "temperature": 0.7, "top_p": 0.8}], ids=str
)
def test_every_token_has_its_log_probability(client: httpx.Client, fields: dict) -> None:
    choice = ask(client, logprobs=True, max_tokens=12, **fields).choices[0]
    assert choice.logprobs is not None
    entries = choice.logprobs.content or []
    assert len(entries) == 12
    assert all(math.isfinite(entry.logprob) and entry.logprob <= 1e-4 for entry in entries)
    raw = bytes(byte for entry in entries for byte in entry.bytes or [])
    assert raw.decode(errors="replace").startswith((choice.message.content or "").rstrip("\ufffd"))


def test_log_probabilities_are_the_models_own_whatever_the_sampling(client: httpx.Client) -> None:
    """Given a first token, its log probability does not depend on how it was drawn."""
    seen: dict[str, set[float]] = {}
    for seed in range(6):
        for temperature in (0.5, 1.0, 2.0):
            entry = (
                ask(client, logprobs=True, max_tokens=1, seed=seed, temperature=temperature)
                .choices[0]
                .logprobs
            )
            assert entry is not None
            for token in entry.content or []:
                seen.setdefault(repr(token.bytes), set()).add(round(token.logprob, 2))
    assert all(max(values) - min(values) < 0.1 for values in seen.values())


def test_streamed_log_probabilities_come_with_their_text(client: httpx.Client) -> None:
    with client.stream("POST", "/invocations", json=chat(stream=True, logprobs=True, max_tokens=12)) as reply:
        chunks = events(reply)
    entries = [
        entry
        for chunk in chunks
        for choice in chunk["choices"]
        for entry in (choice.get("logprobs") or {}).get("content", [])
    ]
    assert len(entries) == 12


def test_the_likeliest_tokens_are_told_or_refused_by_name(client: Client) -> None:
    reply = client.post("/invocations", json=chat(logprobs=True, top_logprobs=3, max_tokens=4, temperature=0))
    if client.kind == "openvino":
        error = refused(client, reply, 400)
        assert error is not None
        assert (error.param, error.code) == ("top_logprobs", "unsupported_by_engine")
        return
    choice = ChatCompletion.model_validate(reply.json()).choices[0]
    assert choice.logprobs is not None
    for entry in choice.logprobs.content or []:
        values = [top.logprob for top in entry.top_logprobs]
        assert len(values) == 3
        assert values == sorted(values, reverse=True)
        assert entry.logprob == pytest.approx(values[0])  # greedy: the likeliest is the one chosen


def complete(client: httpx.Client, **fields: object) -> httpx.Response:
    body = {"model": MODEL, "prompt": "Once upon", "max_tokens": 8, **fields}
    return client.post("/invocations", json=body, headers=COMPLETIONS)


def test_a_text_completion(client: httpx.Client) -> None:
    reply = complete(client, n=2, seed=1)
    answer = Completion.model_validate(reply.json())
    assert answer.object == "text_completion"
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert all(choice.text for choice in answer.choices)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 16
    # The prompt goes in as it is, without the chat's frame around it.
    assert answer.usage.prompt_tokens < (ask(client).usage or answer.usage).prompt_tokens


def test_a_streamed_text_completion(client: httpx.Client) -> None:
    whole = Completion.model_validate(complete(client, temperature=0).json())
    body = {"model": MODEL, "prompt": "Once upon", "max_tokens": 8, "temperature": 0, "stream": True}
    with client.stream("POST", "/invocations", json=body, headers=COMPLETIONS) as reply:
        chunks = [Completion.model_validate(chunk) for chunk in events(reply)]
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert chunks[-1].choices[0].finish_reason == "length"


def test_several_prompts_are_answered_in_their_order(client: httpx.Client) -> None:
    prompts = [f"Number {number}" for number in range(5)]
    together = Completion.model_validate(complete(client, prompt=prompts, temperature=0).json())
    assert [choice.index for choice in together.choices] == list(range(5))
    for prompt, choice in zip(prompts, together.choices, strict=True):
        alone = Completion.model_validate(complete(client, prompt=[prompt], temperature=0).json())
        assert choice.text == alone.choices[0].text


def test_a_scored_prompt_is_what_an_evaluation_harness_reads(client: httpx.Client) -> None:
    """As `local-completions` of lm-evaluation-harness asks: token ids, and one more token."""
    asked = {"prompt": [[3, 500, 7, 900]], "max_tokens": 1, "logprobs": 1, "echo": True, "seed": 1234}
    [choice] = Completion.model_validate(complete(client, **asked, temperature=0).json()).choices
    scores = choice.logprobs
    assert scores is not None
    assert [len(each) for each in scores.model_dump().values()] == [5] * 4
    assert (scores.token_logprobs[0], scores.top_logprobs[0]) == (None, None)
    for own, best in zip(scores.token_logprobs[1:-1], scores.top_logprobs[1:-1], strict=True):
        assert own is not None
        assert best is not None
        assert own <= max(best.values()) <= 0
    assert choice.text.startswith("".join(scores.tokens[:-1]))  # the last one may be half a character


def test_a_prompt_scores_as_the_answer_did(client: httpx.Client) -> None:
    """What the model has written is as likely when it comes back as a prompt."""
    [written] = Completion.model_validate(complete(client, temperature=0, logprobs=0).json()).choices
    fields = {"prompt": "Once upon" + written.text, "echo": True, "logprobs": 1, "max_tokens": 0}
    [scored] = Completion.model_validate(complete(client, **fields).json()).choices
    assert written.logprobs is not None
    assert scored.logprobs is not None
    assert scored.finish_reason == "length"
    assert scored.logprobs.tokens[-8:] == written.logprobs.tokens
    assert scored.logprobs.token_logprobs[-8:] == pytest.approx(written.logprobs.token_logprobs, abs=0.1)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"logprobs": 6}, "logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"best_of": 3}, "best_of"),
        ({"suffix": "!"}, "suffix"),
        ({"prompt": None}, "prompt"),
        ({"prompt": ["a", ""]}, "prompt[1]"),
        ({"prompt": [10**7]}, "prompt"),
        ({"messages": []}, "messages"),
        ({"prompt": "word " * (CONTEXT_TOKENS + 50)}, "prompt"),
    ],
    ids=str,
)
def test_what_a_completion_cannot_do_is_refused_by_name(client: Client, fields: dict, param: str) -> None:
    error = refused(client, complete(client, **fields), 400)
    assert error is None or error.param == param


def test_an_unknown_route_is_refused_by_name(client: httpx.Client) -> None:
    headers = {"X-Amzn-SageMaker-Custom-Attributes": "route=/v1/images"}
    reply = client.post("/invocations", json=chat(), headers=headers)
    assert reply.status_code == 404
    assert reply.json()["error"]["code"] == "unknown_route"
