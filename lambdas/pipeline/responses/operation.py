"""`/v1/responses`: an adapter over chats."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from contracts.access import Principal
from contracts.responses import ItemReference, ResponsesRequest
from lambdas.pipeline.operations import Chat, ModelRequest, Rendering
from lambdas.pipeline.responses.conversation import chat_request, items_of, turns_of
from lambdas.pipeline.responses.rendering import ResponseRendering


class Responses(Chat):
    """OpenAI's Responses protocol. The model is asked as in a chat."""

    route = "/v1/responses"
    id_prefix = "resp_"
    request = ResponsesRequest

    def model_request(self, asked: Any, principal: Principal) -> ModelRequest:
        """See Operation."""
        request: ResponsesRequest = asked
        items = [item for item in items_of(request) if not isinstance(item, ItemReference)]
        return chat_request(request, turns_of(items))

    def rendering(
        self, answer_id: str, created: int, asked: BaseModel, body: ModelRequest
    ) -> Rendering | None:
        """See Generation."""
        assert isinstance(asked, ResponsesRequest)
        return ResponseRendering(answer_id, created, asked)


RESPONSES = Responses()
