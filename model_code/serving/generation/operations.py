"""The text operations of the container, by the route that the custom attributes name.

An operation without text (embeddings and the like) does not belong here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from contracts.chat import ChatRequest
from contracts.completions import CompletionRequest
from model_code.serving.generation.planning import Plan, Planner
from model_code.serving.protocol.response_writers import ChatWriter, CompletionWriter, Writer

Request = ChatRequest | CompletionRequest


@dataclass(frozen=True)
class Operation:
    """One kind of text generation."""

    request: type[ChatRequest] | type[CompletionRequest]
    plan: Callable[[Planner, Any], Awaitable[Plan]]
    writer: Callable[[str, str, int], Writer]
    parts: Callable[[Any], Sequence[Any]] = lambda request: [request]  # one request for each prompt


def _one_by_one(request: CompletionRequest) -> list[CompletionRequest]:
    return [request.model_copy(update={"prompt": prompt}) for prompt in request.prompts]


CHAT = Operation(ChatRequest, Planner.chat, ChatWriter)
COMPLETION = Operation(CompletionRequest, Planner.completion, CompletionWriter, _one_by_one)
BY_ROUTE = {"": CHAT, "/v1/chat/completions": CHAT, "/v1/completions": COMPLETION}
"""Operations by the public path that the custom attributes name; none named means a chat."""
