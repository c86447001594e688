"""Tokens become deltas of one answer: text, calls, log probabilities, and why it ended."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

tokenizers = pytest.importorskip("tokenizers")
pytest.importorskip("jinja2")

from model_code.serving.engines.base import Logprob, SamplingParams, TokenEvent  # noqa: E402
from model_code.serving.engines.vocabulary import read_vocabulary  # noqa: E402
from model_code.serving.generation.chat_tokenizer import ChatTokenizer  # noqa: E402
from model_code.serving.generation.output_stream import OutputStream  # noqa: E402
from model_code.serving.generation.planning import Plan, ToolPlan  # noqa: E402
from model_code.serving.generation.tool_calls import TAGS  # noqa: E402
from model_code.serving.protocol.deltas import OutputDelta  # noqa: E402

END = "<|end|>"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    """A byte-level tokenizer of single bytes and one control token."""
    folder = tmp_path_factory.mktemp("tokenizer")
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    model = tokenizers.models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[])
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    made.add_special_tokens([END])
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    return ChatTokenizer(folder)


def run(tokenizer: ChatTokenizer, text: str, plan: Plan, reason: str | None = "stop") -> list[OutputDelta]:
    """Feed a text token by token; the last one carries the reason."""
    choice, deltas = OutputStream(plan, tokenizer, 0), []
    tokens = tokenizer.encode(text)
    for number, token in enumerate(tokens, 1):
        last = number == len(tokens)
        logprobs = None if plan.logprobs is None else [Logprob(-1.0, [(token, -1.0), (0, -2.0)])]
        piece = choice.push(TokenEvent([token], reason if last else None, logprobs))  # type: ignore[arg-type]
        if piece is not None:
            deltas.append(piece)
        if choice.ended:
            break
    return deltas


def plan(**fields: Any) -> Plan:
    return Plan(
        **{"prompt": [0], "max_tokens": 9, "sampling": SamplingParams(0, 1, None), "stops": [], **fields}
    )


def tools(**fields: Any) -> ToolPlan:
    defaults = {
        "names": {"add"},
        "syntax": TAGS,
        "visible": frozenset(),
        "forced": False,
        "only": None,
        "several": True,
    }
    return ToolPlan(**{**defaults, **fields})


def said(deltas: list[OutputDelta]) -> str:
    return "".join(piece.text for piece in deltas)


def test_text_goes_out_as_it_comes(tokenizer: ChatTokenizer) -> None:
    deltas = run(tokenizer, "aé🙂b", plan())
    assert [piece.text for piece in deltas if piece.text] == ["a", "é", "🙂", "b"]
    assert (deltas[-1].finish_reason, deltas[-1].completion_tokens) == ("stop", 8)


def test_control_tokens_add_nothing(tokenizer: ChatTokenizer) -> None:
    assert said(run(tokenizer, f"a{END}b", plan())) == "ab"


def test_a_stop_string_ends_it(tokenizer: ChatTokenizer) -> None:
    deltas = run(tokenizer, "one STOP two", plan(stops=["STOP"]), "length")
    assert (said(deltas), deltas[-1].finish_reason) == ("one ", "stop")


def test_every_token_of_the_text_has_its_log_probability(tokenizer: ChatTokenizer) -> None:
    deltas = run(tokenizer, f"é!{END}", plan(logprobs=1))
    entries = [entry for piece in deltas for entry in piece.logprobs or []]
    assert bytes(byte for entry in entries for byte in entry.bytes or []) == "é!".encode()
    assert all(len(entry.top_logprobs) == 1 for entry in entries)
    assert entries[-1].top_logprobs[0].token == "!"


def test_beside_an_echo_every_token_has_one_the_last_one_too(tokenizer: ChatTokenizer) -> None:
    """Evaluation harnesses count entries: one that is missing for the end would cut off the prompt's last."""
    asked = plan(prompt=tokenizer.encode("ab"), echo="ab", logprobs=1)
    first = OutputStream(asked, tokenizer, 0).echo([Logprob(-3.0, [(0, -2.0)])])
    assert first.text == "ab"
    values = [entry.logprob for entry in first.logprobs or []]
    assert math.isnan(values[0])
    assert values[1:] == [-3.0]
    further = [entry for piece in run(tokenizer, END, asked) for entry in piece.logprobs or []]
    assert [entry.token for entry in further] == [END]


def test_a_call_is_found_and_is_the_reason(tokenizer: ChatTokenizer) -> None:
    text = 'Hm.<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'
    deltas = run(tokenizer, text, plan(tools=tools()))
    [call] = [call for piece in deltas for call in piece.calls]
    assert (said(deltas), call.name, call.arguments) == ("Hm.", "add", '{"a": 1}')
    assert call.id is not None
    assert deltas[-1].finish_reason == "tool_calls"


def test_without_a_call_the_reason_stays(tokenizer: ChatTokenizer) -> None:
    deltas = run(tokenizer, "Hm. <tool", plan(tools=tools()))
    assert (said(deltas), deltas[-1].finish_reason) == ("Hm. <tool", "stop")


def test_where_one_call_is_wanted_the_answer_ends_with_it(tokenizer: ChatTokenizer) -> None:
    call = '<tool_call>{"name": "add"}</tool_call>'
    deltas = run(tokenizer, call + call, plan(tools=tools(several=False)))
    assert len([call for piece in deltas for call in piece.calls]) == 1
    assert deltas[-1].finish_reason == "tool_calls"
    assert deltas[-1].completion_tokens == len(call)


def test_a_named_functions_arguments_are_streamed(tokenizer: ChatTokenizer) -> None:
    deltas = run(tokenizer, '{"a": 1}', plan(tools=tools(forced=True, only="add")))
    calls = [call for piece in deltas for call in piece.calls]
    assert "".join(call.arguments for call in calls) == '{"a": 1}'
    assert [call.name for call in calls if call.name] == ["add"]
    assert len(calls) > 2
    assert (said(deltas), deltas[-1].finish_reason) == ("", "tool_calls")


def test_a_forced_choice_is_one_call(tokenizer: ChatTokenizer) -> None:
    text = '{"name": "add", "arguments": {"a": 1}}'
    deltas = run(tokenizer, text, plan(tools=tools(forced=True)))
    [call] = [call for piece in deltas for call in piece.calls]
    assert (said(deltas), call.name, call.arguments) == ("", "add", '{"a": 1}')
    assert deltas[-1].finish_reason == "tool_calls"


def test_a_forced_choice_that_is_cut_off_says_so(tokenizer: ChatTokenizer) -> None:
    deltas = run(tokenizer, '{"name": "ad', plan(tools=tools(forced=True)), "length")
    assert (said(deltas), deltas[-1].finish_reason) == ('{"name": "ad', "length")


def test_bytes_decode_as_the_tokenizer_itself_decodes(tokenizer: ChatTokenizer) -> None:
    """Given random tokens, whole characters come out as the reference has them."""
    source = random.Random(4)
    for _ in range(50):
        tokens = [source.randrange(256) for _ in range(20)]
        text = tokenizer._tokenizer.decode(tokens)
        streamed = tokenizer.stream_decoder()
        assert text.startswith("".join(streamed.push([token]) for token in tokens))


def test_both_ways_of_writing_bytes_are_known() -> None:
    sentence_piece = {
        "model": {"vocab": [["<s>", 0], ["\u2581a", -1], ["<0x0A>", -2]]},
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}]},
        "added_tokens": [{"id": 0, "content": "<s>", "special": True}],
    }
    vocabulary = read_vocabulary(sentence_piece)
    assert vocabulary is not None
    assert vocabulary.tokens == [b"<s>", b" a", b"\n"]
    assert vocabulary.special == {0}
    assert read_vocabulary({"model": {"vocab": {}}, "decoder": {"type": "WordPiece"}}) is None


def test_a_tokenizer_file_without_template_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(tokenizers.Tokenizer(tokenizers.models.BPE()).to_str())
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ValueError, match="no chat template"):
        ChatTokenizer(tmp_path)
