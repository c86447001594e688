"""`/v1/responses`: an adapter over chats."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from contracts.access import Principal
from contracts.responses import ResponsesRequest
from lambdas.pipeline.operations import Chat, ModelRequest, Rendering
from lambdas.pipeline.responses.conversation import chat_request, turns_of
from lambdas.pipeline.responses.recall import ID_PREFIX, Recall
from lambdas.pipeline.responses.rendering import ResponseRendering


class Responses(Chat):
    """OpenAI's Responses protocol. The model is asked as in a chat."""

    route = "/v1/responses"
    id_prefix = ID_PREFIX
    request = ResponsesRequest

    def __init__(self, recall: Recall) -> None:
        self._recall = recall

    def model_request(self, asked: Any, principal: Principal) -> ModelRequest:
        """See Operation."""
        request: ResponsesRequest = asked
        turns = self._recall.earlier_turns(request, principal)
        return chat_request(request, [*turns, *turns_of(self._recall.items(request, principal))])

    def rendering(
        self, answer_id: str, created: int, asked: BaseModel, body: ModelRequest
    ) -> Rendering | None:
        """See Generation."""
        assert isinstance(asked, ResponsesRequest)
        return ResponseRendering(answer_id, created, asked)
