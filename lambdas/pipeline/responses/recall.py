"""What a request refers to instead of sending it: items of earlier answers, and whole conversations."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from contracts.access import Principal
from contracts.jobs import work_pk
from contracts.kept_response import KeptResponse
from contracts.messages import Message
from contracts.response_objects import FunctionCallItem, OutputItem, OutputMessage
from contracts.responses import InputCall, InputMessage, ItemReference, ResponsesRequest
from lambdas.pipeline.responses.conversation import ChatItem, items_of
from lambdas.runtime.errors import ApiError

ID_PREFIX = "resp_"
MOST_REFERENCES = 128
"""Most answers whose items one request may refer to."""
_PAUSES = (0.05, 0.1, 0.2)
"""Seconds. An answer is kept once its caller has it, who may be quick to refer to it."""


class KeptResponses(Protocol):
    """Where answers are kept, apart for each key; see `lambdas.aws.responses_table.ResponsesTable`."""

    def find(self, owner: str, id: str) -> KeptResponse | None:
        """The owner's answer, where it has not run out."""

    def keep(self, owner: str, kept: KeptResponse, seconds: int) -> None:
        """Keep an answer for so long."""


class Recall:
    """Looks up what a request refers to. Without `kept` there is nothing to refer to."""

    def __init__(self, kept: KeptResponses | None, sleep: Callable[[float], None] = time.sleep) -> None:
        self._kept, self._sleep = kept, sleep

    def earlier_turns(self, asked: ResponsesRequest, principal: Principal) -> list[Message]:
        """The conversation that `previous_response_id` names. Raises ApiError 400, 503."""
        if asked.previous_response_id is None:
            return []
        found = self._found(owner_of(principal), {asked.previous_response_id})
        earlier = found.get(asked.previous_response_id)
        if earlier is None:
            raise _unknown("previous_response_id", "previous_response_not_found", "answer")
        if earlier.conversation is None:
            raise ApiError(
                "invalid_request_error",
                "The conversation up to that answer is too long to be kept: send it as 'input'.",
                param="previous_response_id",
                code="previous_response_not_found",
            )
        return earlier.conversation

    def items(self, asked: ResponsesRequest, principal: Principal) -> list[ChatItem]:
        """The request's items, references replaced by what they refer to. Raises ApiError 400, 503."""
        items = items_of(asked)
        referred = {_answer_of(item.id) for item in items if isinstance(item, ItemReference)}
        if len(referred) > MOST_REFERENCES:
            raise ApiError(
                "invalid_request_error",
                f"'input' refers to items of {len(referred)} answers, and may to {MOST_REFERENCES}.",
                param="input",
                code="invalid_value",
            )
        found = self._found(owner_of(principal), referred) if referred else {}
        outputs = {item.id: item for kept in found.values() for item in kept.response.output}
        known: list[ChatItem] = []
        for place, item in enumerate(items):
            if not isinstance(item, ItemReference):
                known.append(item)
            elif item.id not in outputs:
                raise _unknown(f"input[{place}].id", "item_not_found", "item")
            elif (said := as_input(outputs[item.id])) is not None:
                known.append(said)
        return known

    def _found(self, owner: str, ids: set[str]) -> dict[str, KeptResponse]:
        """What is kept under these ids; one that is missing may be on its way, so it is looked for again."""
        if self._kept is None:
            return {}
        found: dict[str, KeptResponse] = {}
        try:
            for pause in (*_PAUSES, None):
                for name in ids - set(found):
                    if (kept := self._kept.find(owner, name)) is not None:
                        found[name] = kept
                if pause is None or len(found) == len(ids):
                    break
                self._sleep(pause)
        except Exception as error:
            raise ApiError(
                "overloaded_error",
                "What the request refers to could not be read. Try again.",
                code="responses_unavailable",
                retry_after=2,
            ) from error
        return found


def owner_of(principal: Principal) -> str:
    """Whose answers they are: the key's, or the bearer's where many share what stands for a key."""
    return work_pk(principal.tenant, principal.key_id or principal.key_name, principal.subject)


def _answer_of(item: str) -> str:
    """The id of the answer that an item is of; see rendering.item_id."""
    return ID_PREFIX + item.partition("_")[2].rpartition("_")[0]


def as_input(item: OutputItem) -> ChatItem | None:
    """An item as input; None where no model reads it again."""
    if isinstance(item, OutputMessage):
        return InputMessage(role="assistant", content="".join(part.text for part in item.content))
    if isinstance(item, FunctionCallItem):
        fields = item.model_dump(include={"type", "call_id", "name", "arguments"})
        return InputCall.model_validate(fields)
    return None


def _unknown(param: str, code: str, what: str) -> ApiError:
    return ApiError(
        "invalid_request_error",
        f"There is no such {what}, or none any more: output is kept for a time, for the key that asked,"
        " and not where `store` was false. With `store: false` set, clients send the items themselves.",
        param=param,
        code=code,
    )
