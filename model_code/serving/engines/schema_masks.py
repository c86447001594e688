"""Holds a request of the transformers engine to a JSON Schema, with llguidance: which tokens may come next.

Everything that touches llguidance stands here. Its limits keep any schema's cost bounded.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from model_code.serving.engines.errors import UnsupportedSchemaError

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions  # a type of its stub: at run time there is none

_LAYOUT: JsonCompileOptions = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""As Python's json writes it: an answer cannot run away into blanks."""
_WORD_BITS = 32
_LONGEST_REASON = 300


class SchemaMasks:
    """Makes masks for one tokenizer; `vocabulary` is how many tokens the model tells apart."""

    def __init__(self, folder: Path, vocabulary: int, eos: Sequence[int]) -> None:
        self._folder = folder
        self._vocabulary = vocabulary
        self._eos = list(eos)
        self._tokenizer: LLTokenizer | None = None
        self._making = threading.Lock()
        self._limits = LLParserLimits(
            initial_lexer_fuel=1_000_000,
            max_grammar_size=200_000,
            max_lexer_states=50_000,
            verbose_errors=False,
        )

    def matcher(self, schema: str) -> SchemaMatcher:
        """A matcher for one answer. A large schema takes up to a second. Raises UnsupportedSchemaError."""
        try:
            grammar = LLMatcher.grammar_from_json_schema(schema, overrides=_LAYOUT)
        except ValueError as error:
            raise UnsupportedSchemaError(_one_line(str(error))) from None
        matcher = LLMatcher(self._made(), grammar, log_level=0, limits=self._limits)
        if matcher.is_error():
            raise UnsupportedSchemaError(_one_line(matcher.get_error()))
        return SchemaMatcher(matcher)

    def _made(self) -> LLTokenizer:
        """The tokenizer, made when it is first needed: it takes about a second."""
        with self._making:
            if self._tokenizer is None:
                source = (self._folder / "tokenizer.json").read_text(encoding="utf-8")
                self._tokenizer = LLTokenizer(source, n_vocab=self._vocabulary, eos_token=self._eos)
            return self._tokenizer


class SchemaMatcher:
    """Where one answer stands in its schema; `fault` says why it cannot go on."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher
        self.fault: str | None = None

    def mask(self, logits: torch.Tensor) -> None:
        """Put the logits [vocabulary] of tokens that may not come next to minus infinity, in place."""
        words = torch.frombuffer(bytearray(self._matcher.compute_bitmask()), dtype=torch.int32)
        if self._matcher.is_error():
            self.fault = _one_line(self._matcher.get_error())
            return
        bits = torch.arange(_WORD_BITS, dtype=torch.int32)
        allowed = ((words.unsqueeze(1) >> bits) & 1).flatten()[: logits.shape[0]].bool()
        logits[: allowed.shape[0]].masked_fill_(~allowed.to(logits.device), float("-inf"))
        logits[allowed.shape[0] :] = float("-inf")

    def take(self, token: int) -> None:
        """The token that was chosen."""
        if not self._matcher.consume_token(token):
            self.fault = _one_line(self._matcher.get_error())


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_LONGEST_REASON]
