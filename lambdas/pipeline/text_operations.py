"""The operations about texts that OpenAI's API does not have, and moderations: rerank, score, classify.

What a container is asked is what our handler and vLLM both understand; what a caller gets is made of its
numbers and of the caller's own texts, as they were before guards masked them.
"""

from __future__ import annotations

from typing import Any

from contracts import container
from contracts.classification import Classification, ClassificationList, ClassificationRequest
from contracts.moderation import CATEGORIES, Moderation, ModerationRequest, ModerationResult
from contracts.scoring import RerankDocument, Reranking, RerankRequest, ScoreList, ScoreRequest
from lambdas.pipeline.operations import Unary

FLAGGED_FROM = 0.5
"""From which probability on a label of a classifier flags a text."""
HARMLESS = frozenset(
    {
        "safe",
        "ok",
        "none",
        "neutral",
        "normal",
        "clean",
        "benign",
        "other",
        "nothate",
        "nontoxic",
        "nottoxic",
        "nonoffensive",
    }
)
"""Labels by which classifiers say that there is nothing, letters alone: they never flag."""


class Rerank(Unary):
    """`/v1/rerank`."""

    route = container_route = container.ROUTE_RERANK
    id_prefix = "rerank-"
    request = RerankRequest
    kinds = ("rerank", "embedding")

    def read(self, asked: RerankRequest, body: bytes) -> Reranking:
        """See Unary. Best first, equal ones in the order of the request."""
        answer = Reranking.model_validate_json(body)
        places = {result.index for result in answer.results}
        if (
            len(places) != len(answer.results)
            or len(places) != asked.count
            or max(places) >= len(asked.documents)
        ):
            raise ValueError("one result for each document, or for the best of them")
        answer.results.sort(key=lambda result: (-result.relevance_score, result.index))
        for result in answer.results:
            text = asked.documents[result.index]
            result.document = RerankDocument(text=text) if asked.return_documents else None
        return answer


class Score(Unary):
    """`/v1/score`."""

    route = container_route = container.ROUTE_SCORE
    id_prefix = "score-"
    request = ScoreRequest
    kinds = ("rerank", "embedding")

    def read(self, asked: ScoreRequest, body: bytes) -> ScoreList:
        """See Unary."""
        answer = ScoreList.model_validate_json(body)
        if [one.index for one in answer.data] != list(range(len(asked.pairs))):
            raise ValueError("one score for each pair")
        return answer


class Classify(Unary):
    """`/v1/classify`."""

    route, container_route = container.ROUTE_CLASSIFY, container.VLLM_CLASSIFY
    id_prefix = "classify-"
    request = ClassificationRequest
    kinds = ("classification",)

    def read(self, asked: ClassificationRequest | ModerationRequest, body: bytes) -> ClassificationList:
        """See Unary."""
        answer = ClassificationList.model_validate_json(body)
        if [one.index for one in answer.data] != list(range(len(asked.texts))):
            raise ValueError("one classification for each text")
        return answer


class Moderations(Unary):
    """`/v1/moderations` by a classifier; where guards answer, no model is asked."""

    route, container_route = "/v1/moderations", container.VLLM_CLASSIFY
    id_prefix = "modr-"
    request = ModerationRequest
    kinds = ("classification",)

    def body(self, request: Any) -> bytes:
        """See Unary."""
        asked = ClassificationRequest(model=request.model, input=request.texts, user=request.user)
        return super().body(asked)

    def read(self, asked: ModerationRequest, body: bytes) -> Moderation:
        """See Unary."""
        found = CLASSIFY.read(asked, body)
        return Moderation(
            id=found.id, model=found.model, results=[_judged(one) for one in found.data], usage=found.usage
        )


def _judged(found: Classification) -> ModerationResult:
    """The labels as categories; of a server that tells only the likeliest label, that one."""
    scores = {one.label: one.score for one in found.scores or []} or {found.label or "0": max(found.probs)}
    flags = {label: score >= FLAGGED_FROM and not _is_harmless(label) for label, score in scores.items()}
    return result_of(flags, scores)


def _is_harmless(label: str) -> bool:
    return "".join(filter(str.isalpha, label.lower())) in HARMLESS


def result_of(flags: dict[str, bool], scores: dict[str, float]) -> ModerationResult:
    """A result whose categories are OpenAI's and these."""
    nothing = [name for name in CATEGORIES if name not in flags]
    return ModerationResult(
        flagged=any(flags.values()),
        categories=dict.fromkeys(nothing, False) | flags,
        category_scores=dict.fromkeys(nothing, 0.0) | scores,
        category_applied_input_types={name: [] for name in nothing} | {name: ["text"] for name in flags},
    )


RERANK = Rerank()
SCORE = Score()
CLASSIFY = Classify()
MODERATIONS = Moderations()
