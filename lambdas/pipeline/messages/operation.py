"""`/v1/messages`: Anthropic's protocol, as another form of a chat.

Source: Anthropic's API reference, "Messages" and "Errors"; its clients for when they try again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from contracts.access import Principal
from contracts.errors import STATUS_OF_TYPE
from contracts.messages_api import MessagesRequest
from contracts.messages_replies import STATUS_OVERLOADED
from lambdas.pipeline.messages import rendering
from lambdas.pipeline.messages.request import chat_request
from lambdas.pipeline.operations import Chat, ModelRequest, Rendering
from lambdas.runtime.errors import ApiError

_LONGEST_WAIT_SECONDS = 60


class Messages(Chat):
    """Makes a chat of a request, and a message of its answer."""

    route = "/v1/messages"
    id_prefix = "msg_"
    request = MessagesRequest

    def model_request(self, asked: Any, principal: Principal) -> ModelRequest:
        """See Operation."""
        return chat_request(asked)

    def rendering(self, answer_id: str, created: int, asked: BaseModel, body: ModelRequest) -> Rendering:
        """See Generation."""
        request_id = answer_id.removeprefix(self.id_prefix)
        return rendering.MessageRendering(answer_id, body.model, request_id)

    def error_body(self, error: ApiError, request_id: str) -> str:
        """See Operation."""
        return rendering.error_body(error, request_id)

    def status(self, status: int) -> int:
        """See Operation."""
        return STATUS_OVERLOADED if status == STATUS_OF_TYPE["overloaded_error"] else status

    def headers(self, request_id: str, reply: Mapping[str, str]) -> dict[str, str]:
        """See Operation."""
        headers = {"request-id": request_id}
        # The clients wait as long as they are told, be it until next month, unless they are told not to.
        if int(reply.get("retry-after", 0)) > _LONGEST_WAIT_SECONDS:
            headers["x-should-retry"] = "false"
        return headers


MESSAGES = Messages()
