"""What a generation yields on its way from the service to the reply. Plain data, text not tokens."""

from __future__ import annotations

from dataclasses import dataclass

from contracts.chat import FinishReason, TokenLogprob


@dataclass(frozen=True, slots=True)
class ToolCallPart:
    """Part of a tool call: `id` and `name` come with its first piece, arguments in any number of them."""

    number: int
    arguments: str
    id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class OutputDelta:
    """Part of answer `index`: text (may be empty), tokens so far, and why it ended on the last piece.

    `stop` is the stop string at which it ended, if it did.
    """

    text: str
    completion_tokens: int
    finish_reason: FinishReason | None = None
    index: int = 0
    logprobs: list[TokenLogprob] | None = None
    calls: tuple[ToolCallPart, ...] = ()
    stop: str | None = None
