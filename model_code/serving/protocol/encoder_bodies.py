"""The bodies of embeddings, scores and classes: from bytes to checked requests, from numbers to replies."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.classification import (
    Classification,
    ClassificationList,
    ClassificationRequest,
    LabelScore,
    PipelineRequest,
)
from contracts.embeddings import Embedding, EmbeddingList, EmbeddingsRequest
from contracts.scoring import (
    RerankDocument,
    Reranking,
    RerankRequest,
    RerankResult,
    Score,
    ScoreList,
    ScoreRequest,
)
from contracts.texts import TextsUsage
from model_code.serving.protocol.parsing import parse

Numbers = NDArray[np.float32]


def parse_embeddings(body: bytes, model: str) -> EmbeddingsRequest:
    """The request in a body, of `model` where it names none; raises ServingError that names the field."""
    return parse(EmbeddingsRequest, body, model=model)


def parse_classification(body: bytes, model: str) -> ClassificationRequest | PipelineRequest:
    """The request in a body of either shape: Hugging Face's is told by its `inputs`. Raises ServingError."""
    if has_field(body, "inputs"):
        return parse(PipelineRequest, body)
    return parse(ClassificationRequest, body, model=model)


def has_field(body: bytes, name: str) -> bool:
    """Whether a body is a JSON object with that field."""
    if f'"{name}"'.encode() not in body:
        return False
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):  # whoever parses it for good says what is wrong
        return False
    return isinstance(content, dict) and name in content


def embeddings_reply(request: EmbeddingsRequest, vectors: Numbers, tokens: int) -> bytes:
    """The body for vectors [texts, dimensions]."""
    items = [
        Embedding(index=index, embedding=_written(vector, request.encoding_format))
        for index, vector in enumerate(vectors)
    ]
    return EmbeddingList(data=items, model=request.model, usage=_usage(tokens)).model_dump_json().encode()


def _written(vector: Numbers, encoding: str) -> list[float] | str:
    if encoding == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    numbers: list[float] = vector.tolist()
    return numbers


def _usage(tokens: int) -> TextsUsage:
    return TextsUsage(prompt_tokens=tokens, total_tokens=tokens)


def rerank_reply(request: RerankRequest, scores: Numbers, tokens: int, request_id: str) -> bytes:
    """The body for scores [documents]: best first, equal ones in the order of the request."""
    order = np.argsort(-scores, kind="stable")[: request.count]
    results = [
        RerankResult(
            index=int(index),
            relevance_score=float(scores[index]),
            document=RerankDocument(text=request.documents[index]) if request.return_documents else None,
        )
        for index in order
    ]
    reply = Reranking(id=f"rerank-{request_id}", model=request.model, results=results, usage=_usage(tokens))
    return reply.model_dump_json(exclude_none=True).encode()


def score_reply(request: ScoreRequest, scores: Numbers, tokens: int, request_id: str) -> bytes:
    """The body for scores [pairs]."""
    reply = ScoreList(
        id=f"score-{request_id}",
        created=int(time.time()),
        model=request.model,
        data=[Score(index=index, score=float(score)) for index, score in enumerate(scores)],
        usage=_usage(tokens),
    )
    return reply.model_dump_json().encode()


def classification_reply(
    request: ClassificationRequest | PipelineRequest,
    scores: Numbers,
    labels: Sequence[str],
    tokens: int,
    request_id: str,
) -> bytes:
    """The body for scores [texts, labels], in the shape that the request came in.

    Args:
        request: what was asked.
        scores: [texts, labels].
        labels: what the columns stand for.
        tokens: how many the texts hold.
        request_id: makes the answer's id.
    """
    if isinstance(request, PipelineRequest):
        return _pipeline_reply(request, scores, labels)
    items = []
    for index, row in enumerate(scores):
        best = _best(row, labels, None)
        items.append(
            Classification(
                index=index, label=best[0].label, probs=row.tolist(), num_classes=len(row), scores=best
            )
        )
    reply = ClassificationList(
        id=f"classify-{request_id}",
        created=int(time.time()),
        model=request.model,
        data=items,
        usage=_usage(tokens),
    )
    return reply.model_dump_json().encode()


def _pipeline_reply(request: PipelineRequest, scores: Numbers, labels: Sequence[str]) -> bytes:
    """One text: its labels. Several: each one's best label, or with `top_k` each one's labels."""
    count = request.parameters.top_k
    rows: list[list[dict[str, Any]]] = [
        [one.model_dump() for one in _best(row, labels, count or 1)] for row in scores
    ]
    if isinstance(request.inputs, str):
        return json.dumps(rows[0]).encode()
    return json.dumps(rows if count else [row[0] for row in rows]).encode()


def _best(row: Numbers, labels: Sequence[str], count: int | None) -> list[LabelScore]:
    order = np.argsort(-row, kind="stable")[:count]
    return [LabelScore(label=labels[index], score=float(row[index])) for index in order]
