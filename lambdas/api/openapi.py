"""The OpenAPI document of the HTTP API, made from the very models that requests are checked against.

python -m lambdas.api.openapi > docs/openapi.json
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from contracts.catalogue import ModelCard, ModelList
from contracts.chat import ChatChunk, ChatCompletion, ChatRequest
from contracts.classification import ClassificationList, ClassificationRequest
from contracts.completions import Completion, CompletionRequest
from contracts.embeddings import EmbeddingList, EmbeddingsRequest
from contracts.errors import ErrorReply
from contracts.jobs import (
    Batch,
    BatchList,
    BatchRequest,
    File,
    FileDeleted,
    FileList,
    Job,
    JobDeleted,
    JobRequest,
)
from contracts.messages_api import MessagesRequest
from contracts.messages_replies import STATUS_OVERLOADED, MessageErrorReply, MessageEvent, MessageReply
from contracts.moderation import Moderation, ModerationRequest
from contracts.records import FeedbackReceipt, FeedbackRequest
from contracts.response_objects import ModelResponse, ResponseDeleted, ResponseEvent
from contracts.responses import ResponsesRequest
from contracts.scoring import Reranking, RerankRequest, ScoreList, ScoreRequest
from contracts.usage import UsageReport

VERSION = "1.0.0"
_REQUESTS: tuple[type[BaseModel], ...] = (
    ChatRequest,
    ResponsesRequest,
    MessagesRequest,
    CompletionRequest,
    EmbeddingsRequest,
    RerankRequest,
    ScoreRequest,
    ClassificationRequest,
    ModerationRequest,
    FeedbackRequest,
    JobRequest,
    BatchRequest,
)
_REPLIES: tuple[type[BaseModel], ...] = (
    ChatCompletion,
    ChatChunk,
    ModelResponse,
    ResponseEvent,
    ResponseDeleted,
    MessageReply,
    MessageEvent,
    MessageErrorReply,
    Completion,
    EmbeddingList,
    Reranking,
    ScoreList,
    ClassificationList,
    Moderation,
    ModelList,
    ModelCard,
    FeedbackReceipt,
    UsageReport,
    Job,
    JobDeleted,
    File,
    FileList,
    FileDeleted,
    Batch,
    BatchList,
    ErrorReply,
)
_REFUSALS = {
    "400": "Something in the request has to change; `param` names it.",
    "401": "No valid key.",
    "403": "The key lacks a scope.",
    "404": "No such model, request or route.",
    "413": "The body, or the file in it, is too large.",
    "429": "A budget is spent or too many requests came at once; `retry-after` says when to come back.",
    "500": "The service failed.",
    "502": "The service failed before it could say why.",
    "503": "The model is full, starting or down; `retry-after` says when to come back.",
    "504": "The model did not answer in time.",
}
_OF_BODIES = "413"  # where nothing is sent, nothing is too large
_KEY_REUSED = "The idempotency key was used for another request."


def document() -> dict[str, Any]:
    """The document as JSON values; the server's address is relative, since it differs by stage."""
    _, schemas = models_json_schema(
        [*((model, "validation") for model in _REQUESTS), *((model, "serialization") for model in _REPLIES)],
        ref_template="#/components/schemas/{model}",
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": "Evergreen", "version": VERSION, "license": {"name": "Apache-2.0"}},
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "paths": {
            "/v1/chat/completions": {
                "post": _model_operation("chat", ChatRequest, ChatCompletion, stream_of=ChatChunk)
            },
            "/v1/responses": {
                "post": _model_operation("respond", ResponsesRequest, ModelResponse, stream_of=ResponseEvent)
            },
            "/v1/messages": {"post": _message_operation()},
            "/v1/completions": {
                "post": _model_operation("complete", CompletionRequest, Completion, stream_of=Completion)
            },
            "/v1/embeddings": {"post": _model_operation("embed", EmbeddingsRequest, EmbeddingList)},
            "/v1/rerank": {"post": _model_operation("rerank", RerankRequest, Reranking)},
            "/v1/score": {"post": _model_operation("score", ScoreRequest, ScoreList)},
            "/v1/classify": {"post": _model_operation("classify", ClassificationRequest, ClassificationList)},
            "/v1/moderations": {"post": _model_operation("moderate", ModerationRequest, Moderation)},
            "/v1/models": {"get": _operation("listModels", None, ModelList)},
            "/v1/models/{model}": {
                "get": _operation("getModel", None, ModelCard, parameters=[_parameter("model", "path")])
            },
            "/v1/feedback": {
                "post": _operation("giveFeedback", FeedbackRequest, FeedbackReceipt, status="201")
            },
            "/v1/usage": {
                "get": _operation(
                    "getUsage",
                    None,
                    UsageReport,
                    parameters=[_parameter(name, "query", format="date") for name in ("start", "end")],
                )
            },
            **_work_paths(),
        },
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _model_operation(
    id: str, request: type[BaseModel], reply: type[BaseModel], *, stream_of: type[BaseModel] | None = None
) -> dict[str, Any]:
    """An operation that asks the model: its answer may be a kept one, and it may become a job."""
    busy = _deprecated("x-evergreen-when-busy", {"const": "job"})
    cached = [
        _parameter("cache-control", "header"),
        _deprecated("x-evergreen-cache", {"type": "integer", "minimum": 1}),
    ]
    parameters = [
        _parameter("prefer", "header"),
        busy,
        _parameter("idempotency-key", "header"),
        *(cached if stream_of else []),
    ]
    operation = _operation(
        id, request, reply, stream_of=stream_of, parameters=parameters, conflict=_KEY_REUSED
    )
    operation["responses"]["202"] = {
        "description": "The model is busy and the request has become a job, as asked for.",
        "content": {"application/json": {"schema": _reference(Job)}},
    }
    return operation


def _message_operation() -> dict[str, Any]:
    """Anthropic's: its key comes in another header, its errors have another shape, and it becomes no job."""
    operation = _operation(
        "createMessage",
        MessagesRequest,
        MessageReply,
        stream_of=MessageEvent,
        parameters=[_parameter("cache-control", "header")],
    )
    replies = operation["responses"]
    for status, reply in replies.items():
        if status >= "400":
            reply["content"] = {"application/json": {"schema": _reference(MessageErrorReply)}}
    replies[str(STATUS_OVERLOADED)] = replies.pop("503")
    return {**operation, "security": [{"apiKey": []}]}


def _work_paths() -> dict[str, Any]:
    """Jobs, files, batches and kept answers."""
    one, page = [_parameter("id", "path")], [_parameter(name, "query") for name in ("limit", "after")]
    answered = {"description": "What the request itself would have got.", "content": {"application/json": {}}}
    result = _operation("getJobResult", None, Job, parameters=one, conflict="The job is not over yet.")
    result["responses"]["200"] = answered
    form = {"multipart/form-data": {"schema": _UPLOAD}}
    upload = _operation("uploadFile", form, File)
    content = _operation("getFileContent", None, File, parameters=one)
    content["responses"]["200"] = {"description": "JSON Lines.", "content": {"application/jsonl": {}}}
    once: dict[str, Any] = {
        "parameters": [_parameter("idempotency-key", "header")],
        "conflict": _KEY_REUSED,
    }
    submit = _operation("submitJob", JobRequest, Job, status="202", **once)
    delete = _operation("deleteJob", None, Job, parameters=one)
    either = {"anyOf": [_reference(Job), _reference(JobDeleted)]}
    delete["responses"]["200"]["content"]["application/json"]["schema"] = either
    return {
        "/v1/jobs": {"post": submit},
        "/v1/jobs/{id}": {"get": _operation("getJob", None, Job, parameters=one), "delete": delete},
        "/v1/jobs/{id}/result": {"get": result},
        "/v1/jobs/{id}/cancel": {"post": _operation("cancelJob", None, Job, parameters=one)},
        "/v1/files": {"post": upload, "get": _operation("listFiles", None, FileList, parameters=page)},
        "/v1/files/{id}": {
            "get": _operation("getFile", None, File, parameters=one),
            "delete": _operation("deleteFile", None, FileDeleted, parameters=one),
        },
        "/v1/files/{id}/content": {"get": content},
        "/v1/responses/{id}": {
            "get": _operation("getResponse", None, ModelResponse, parameters=one),
            "delete": _operation("deleteResponse", None, ResponseDeleted, parameters=one),
        },
        "/v1/batches": {
            "post": _operation("createBatch", BatchRequest, Batch, **once),
            "get": _operation("listBatches", None, BatchList, parameters=page),
        },
        "/v1/batches/{id}": {"get": _operation("getBatch", None, Batch, parameters=one)},
        "/v1/batches/{id}/cancel": {"post": _operation("cancelBatch", None, Batch, parameters=one)},
    }


_UPLOAD = {
    "type": "object",
    "required": ["purpose", "file"],
    "properties": {
        "purpose": {"type": "string", "const": "batch"},
        "file": {"type": "string", "contentMediaType": "application/octet-stream"},
    },
}


def _operation(
    id: str,
    request: type[BaseModel] | dict[str, Any] | None,
    reply: type[BaseModel],
    *,
    stream_of: type[BaseModel] | None = None,
    status: str = "200",
    parameters: list[dict[str, Any]] | None = None,
    conflict: str | None = None,
) -> dict[str, Any]:
    content = {"application/json": {"schema": _reference(reply)}}
    if stream_of is not None:
        content["text/event-stream"] = {"schema": _reference(stream_of)}
    refusals = {code: text for code, text in _REFUSALS.items() if request or code != _OF_BODIES}
    if conflict:
        refusals["409"] = conflict
    operation: dict[str, Any] = {
        "operationId": id,
        "responses": {
            status: {"description": "The answer.", "content": content},
            **{
                refusal: {
                    "description": meaning,
                    "content": {"application/json": {"schema": _reference(ErrorReply)}},
                }
                for refusal, meaning in refusals.items()
            },
        },
    }
    if request is not None:
        body = request if isinstance(request, dict) else {"application/json": {"schema": _reference(request)}}
        operation["requestBody"] = {"required": True, "content": body}
    if parameters:
        operation["parameters"] = parameters
    return operation


def _deprecated(header: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A header that one more release accepts."""
    return {"name": header, "in": "header", "required": False, "deprecated": True, "schema": schema}


def _parameter(name: str, place: str, **schema: str) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": {"type": "string", **schema}}


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


if __name__ == "__main__":
    print(json.dumps(document(), indent=2, sort_keys=True))
