"""After the reply: keeps an answer of `/v1/responses` for the requests that refer to it.

What the guards have masked is kept as its label, `[EMAIL]`: the value is the caller's own, and a placeholder
would stand for another value in a later request.
"""

from __future__ import annotations

import json
from typing import Any

from contracts import metrics
from contracts.chat import ChatRequest
from contracts.kept_response import KeptResponse
from contracts.messages import Message
from contracts.response_objects import ModelResponse, OutputItem
from contracts.responses import ResponsesRequest
from lambdas.pipeline.guards import json_text
from lambdas.pipeline.guards.vault import Vault
from lambdas.pipeline.request import Admission, Response
from lambdas.pipeline.responses.conversation import turns_of
from lambdas.pipeline.responses.recall import KeptResponses, as_input, owner_of
from lambdas.runtime.logs import Logger
from lambdas.runtime.metrics import MetricLine

MOST_BYTES = 350_000
"""Largest row: an item of the table may have 400 kB, its keys and names included."""


class KeepResponse:
    """Keeps answers for `seconds`."""

    def __init__(self, kept: KeptResponses, seconds: int, endpoint_name: str, logger: Logger) -> None:
        self._kept, self._seconds = kept, seconds
        self._endpoint_name, self._logger = endpoint_name, logger

    def __call__(self, admission: Admission, answer: ModelResponse, vault: Vault, response: Response) -> None:
        """Nothing is kept of an answer that broke off, nor for keys that opted out. A failure is logged."""
        request = admission.request
        asked, body = request.asked, admission.body
        if not isinstance(asked, ResponsesRequest) or not isinstance(body, ChatRequest):
            return
        if not (asked.is_kept and request.principal.keep_text and response.ended and response.error is None):
            return
        try:
            kept = KeptResponse(
                tenant=request.principal.tenant,
                user=asked.user,
                response=_masked_answer(answer, vault),
                conversation=_conversation(asked, body, answer, vault),
            )
            if _size(kept) > MOST_BYTES:
                kept = kept.model_copy(update={"conversation": None})
            if _size(kept) <= MOST_BYTES:
                self._kept.keep(owner_of(request.principal), kept, self._seconds)
        except Exception as error:  # noqa: BLE001 - the reply has gone
            self._logger.failure("response_write_failed", error)
            line = MetricLine({metrics.DIM_ENDPOINT: self._endpoint_name})
            line.add({metrics.RECORDS_LOST: (1, "Count")}, [[metrics.DIM_ENDPOINT]])
            line.emit(request_id=request.incoming.request_id)


def _size(kept: KeptResponse) -> int:
    return len(kept.model_dump_json(exclude_none=True).encode())


def _conversation(
    asked: ResponsesRequest, body: ChatRequest, answer: ModelResponse, vault: Vault
) -> list[Message]:
    """The turns as the model read them, and its answer; instructions hold for their own request alone."""
    read = body.messages[1:] if asked.instructions is not None else body.messages
    said = [item for each in answer.output if (item := as_input(each)) is not None]
    return [_masked_turn(turn, vault) for turn in [*read, *turns_of(said)]]


def _masked_answer(answer: ModelResponse, vault: Vault) -> ModelResponse:
    """Metadata is left out: no guard has seen it."""
    answer = answer.model_copy(update={"metadata": {}})
    if vault.is_empty:
        return answer
    output = [_masked_item(item, vault) for item in answer.output]
    fields = answer.model_dump(mode="json", exclude={"output"})
    return ModelResponse.model_validate({**_masked_strings(fields, vault), "output": output})


def _masked_item(item: OutputItem, vault: Vault) -> Any:
    fields = item.model_dump(mode="json")
    arguments = fields.pop("arguments", None)
    masked = _masked_strings(fields, vault)
    return masked if arguments is None else {**masked, "arguments": _masked_json(arguments, vault)}


def _masked_turn(turn: Message, vault: Vault) -> Message:
    if vault.is_empty:
        return turn
    calls = [
        call.model_copy(
            update={
                "function": call.function.model_copy(
                    update={"arguments": _masked_json(call.function.arguments, vault)}
                )
            }
        )
        for call in turn.tool_calls or []
    ]
    content = None if turn.content is None else vault.labelled(turn.text)
    return turn.model_copy(update={"content": content, **({"tool_calls": calls} if calls else {})})


def _masked_json(text: str, vault: Vault) -> str:
    """JSON stays JSON: a number that was masked becomes a string."""
    return json_text.whole(text).changed([], lambda piece, _: vault.labelled(piece))


def _masked_strings(value: dict[str, Any], vault: Vault) -> dict[str, Any]:
    reading = json_text.strings(json.dumps(value, ensure_ascii=False))
    masked: dict[str, Any] = json.loads(reading.changed([], lambda piece, _: vault.labelled(piece)))
    return masked
