"""OpenAI's Responses protocol: what `POST /v1/responses` answers, whole and as events.

Source: the OpenAI API reference, "Responses" and "Streaming events". Times are seconds since the epoch.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.chat import TokenLogprob
from contracts.errors import ErrorObject

ItemStatus = Literal["in_progress", "completed", "incomplete"]
ResponseStatus = Literal["in_progress", "completed", "incomplete", "failed"]


class _Answer(BaseModel):
    model_config = ConfigDict(defer_build=True, extra="ignore")


class OutputText(_Answer):
    """A text of the model's."""

    type: Literal["output_text"] = "output_text"
    text: str = ""
    annotations: list[dict[str, Any]] = []
    logprobs: list[TokenLogprob] = []


class OutputMessage(_Answer):
    """What the model says."""

    id: str
    type: Literal["message"] = "message"
    status: ItemStatus = "in_progress"
    role: Literal["assistant"] = "assistant"
    content: list[OutputText] = []


class FunctionCallItem(_Answer):
    """A function that the model wants called; `arguments` is the JSON text it wrote."""

    id: str
    type: Literal["function_call"] = "function_call"
    status: ItemStatus = "in_progress"
    call_id: str
    name: str
    arguments: str = ""


class ReasoningText(_Answer):
    """Some of what a reasoning model noted."""

    type: Literal["reasoning_text"] = "reasoning_text"
    text: str = ""


class ReasoningItem(_Answer):
    """What a reasoning model noted before its answer."""

    id: str
    type: Literal["reasoning"] = "reasoning"
    status: ItemStatus = "in_progress"
    summary: list[dict[str, Any]] = []
    content: list[ReasoningText] = []


OutputItem = Annotated[OutputMessage | FunctionCallItem | ReasoningItem, Field(discriminator="type")]


class InputTokensDetails(_Answer):
    """What of the prompt's tokens was computed before."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputTokensDetails(_Answer):
    """What of the answer's tokens are a reasoning model's notes."""

    reasoning_tokens: int = 0


class ResponseUsage(_Answer):
    """Token counts of one request, as the model's own tokenizer counts them."""

    input_tokens: int
    input_tokens_details: InputTokensDetails = InputTokensDetails()
    output_tokens: int
    output_tokens_details: OutputTokensDetails = OutputTokensDetails()
    total_tokens: int


class IncompleteDetails(_Answer):
    """Why an answer is not whole."""

    reason: Literal["max_output_tokens", "content_filter"]


class ModelResponse(_Answer):
    """The answer, with what it was asked for. `store` is true only where the caller said so.

    `content_filter` is `<guard>:<label>` of a refused answer.
    """

    id: str
    object: Literal["response"] = "response"
    created_at: int
    completed_at: int | None = None
    status: ResponseStatus
    error: ErrorObject | None = None
    incomplete_details: IncompleteDetails | None = None
    content_filter: str | None = None
    model: str
    output: list[OutputItem] = []
    usage: ResponseUsage | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    store: bool = False
    background: Literal[False] = False
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    parallel_tool_calls: bool = True
    tools: list[dict[str, Any]] = []
    tool_choice: str | dict[str, Any] = "auto"
    text: dict[str, Any] = {"format": {"type": "text"}}
    reasoning: dict[str, Any] = {"effort": None, "summary": None}
    truncation: Literal["disabled"] = "disabled"
    user: str | None = None
    metadata: dict[str, str] = {}


class ResponseDeleted(_Answer):
    """Reply of `DELETE /v1/responses/{id}`."""

    id: str
    object: Literal["response"] = "response"
    deleted: Literal[True] = True


class ResponseEvent(_Answer):
    """One event of a streamed answer. Which fields it has depends on `type`; they count from 0.

    The last one is `response.completed`, `response.incomplete` or `response.failed`.
    """

    type: Literal[
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.reasoning_text.delta",
        "response.reasoning_text.done",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
        "response.incomplete",
        "response.failed",
        "error",
    ]
    sequence_number: int
    response: ModelResponse | None = None
    output_index: int | None = None
    item: OutputItem | None = None
    item_id: str | None = None
    content_index: int | None = None
    part: OutputText | ReasoningText | None = None
    delta: str | None = None
    text: str | None = None
    logprobs: list[TokenLogprob] | None = None
    name: str | None = None
    arguments: str | None = None
    error: ErrorObject | None = None
    message: str | None = None
    code: str | None = None
    param: str | None = None
