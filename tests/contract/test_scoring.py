"""Rerank and score: a cross-encoder's scores equal plain transformers', an embedding model's are cosines."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.errors import ErrorReply
from contracts.scoring import Reranking, ScoreList
from tests.support.model_server import MODEL, ServerProcess, made

QUERY = "Where is my parcel?"
DOCUMENTS = [
    "A lamp.",
    "Your parcel was handed to the carrier this morning, and it will reach you tomorrow or the day after.",
    "Parcels are delivered from Monday to Saturday.",
    "x",
    "word " * 100,  # does not fit beside the query
]
FITTING = DOCUMENTS[:4]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tiny random cross-encoder is."""
    return tmp_path_factory.mktemp("reranker")


@pytest.fixture(scope="module")
def expected(embedding_model: Path, folder: Path) -> list[float]:
    """Makes the cross-encoder: each document's score, by plain transformers."""
    pairs = [[QUERY, document] for document in DOCUMENTS]
    scores: list[float] = made("reranker", embedding_model, folder, texts=pairs)
    assert len({round(score, 3) for score in scores}) == len(scores), "a model that tells nothing apart"
    return scores


@pytest.fixture(scope="module")
def reranker(folder: Path, expected: list[float]) -> Iterator[ServerProcess]:
    """A server of it."""
    with ServerProcess(folder) as process:
        yield process.wait_ready()


@pytest.fixture(scope="module")
def embedder(embedding_model: Path) -> Iterator[ServerProcess]:
    """A server of the real embedding model."""
    with ServerProcess(embedding_model) as process:
        yield process.wait_ready()


def ask(server: ServerProcess, route: str, **fields: Any) -> httpx.Response:
    headers = {"X-Amzn-SageMaker-Custom-Attributes": f"request_id=s-1,route={route}"} if route else {}
    return httpx.post(
        f"{server.url}/invocations", json={"model": MODEL, **fields}, headers=headers, timeout=60
    )


def rerank(server: ServerProcess, route: str = "/v1/rerank", **fields: Any) -> Reranking:
    reply = ask(server, route, **{"query": QUERY, "documents": FITTING, **fields})
    assert reply.status_code == 200, reply.text
    return Reranking.model_validate_json(reply.content)


def by_index(found: Reranking) -> list[float]:
    return [one.relevance_score for one in sorted(found.results, key=lambda one: one.index)]


@pytest.mark.parametrize("route", ["/v1/rerank", "/rerank", ""])
def test_scores_equal_those_of_plain_transformers(
    reranker: ServerProcess, expected: list[float], route: str
) -> None:
    found = rerank(reranker, route)
    assert by_index(found) == pytest.approx(expected[:4], abs=1e-5)
    scores = [one.relevance_score for one in found.results]
    assert scores == sorted(scores, reverse=True)
    assert [one.document.text for one in found.results if one.document] == [
        FITTING[one.index] for one in found.results
    ]
    assert found.id == "rerank-s-1" if route else found.id.startswith("rerank-")
    assert found.model == MODEL
    assert found.usage.prompt_tokens > 4 * 7, "the query is read with each document"


def test_only_the_best_are_given(reranker: ServerProcess, expected: list[float]) -> None:
    found = rerank(reranker, top_n=2, return_documents=False)
    best = sorted(range(4), key=lambda index: -expected[index])[:2]
    assert [(one.index, one.document) for one in found.results] == [(index, None) for index in best]
    assert len(rerank(reranker, top_n=0).results) == len(rerank(reranker, top_n=99).results) == 4


def test_equal_documents_keep_their_order(reranker: ServerProcess) -> None:
    assert [one.index for one in rerank(reranker, documents=["same"] * 5).results] == [0, 1, 2, 3, 4]


def test_what_is_too_long_is_refused_by_its_place_or_cut_as_transformers_cuts(
    reranker: ServerProcess, expected: list[float]
) -> None:
    reply = ask(reranker, "/v1/rerank", query=QUERY, documents=DOCUMENTS)
    error = ErrorReply.model_validate_json(reply.content).error
    assert (reply.status_code, error.code, error.param) == (400, "context_length_exceeded", "documents[4]")
    assert "truncate_prompt_tokens" in error.message

    cut = rerank(reranker, documents=DOCUMENTS, truncate_prompt_tokens=-1)
    assert by_index(cut) == pytest.approx(expected, abs=1e-5)
    short = rerank(reranker, documents=DOCUMENTS, max_tokens_per_doc=20)
    assert by_index(short)[3] == pytest.approx(expected[3], abs=1e-5)
    assert short.usage.prompt_tokens < cut.usage.prompt_tokens


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"truncate_prompt_tokens": 3}, "truncate_prompt_tokens"),
        ({"truncate_prompt_tokens": 65}, "truncate_prompt_tokens"),
        ({"documents": []}, "documents"),
        ({"documents": ["a", ""]}, "documents[1]"),
        ({"query": None}, "query"),
        ({"top_n": "2"}, "top_n"),
        ({"instruction": "x"}, "instruction"),
    ],
)
def test_wrong_requests_are_refused_by_name(
    reranker: ServerProcess, fields: dict[str, Any], param: str
) -> None:
    reply = ask(reranker, "/v1/rerank", **{"query": QUERY, "documents": FITTING, **fields})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)


def test_another_model_is_404(reranker: ServerProcess) -> None:
    reply = ask(reranker, "/v1/rerank", model="gpt-x", query=QUERY, documents=FITTING)
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_not_found")


def test_pairs_are_scored_in_their_order(reranker: ServerProcess, expected: list[float]) -> None:
    one_to_many = ask(reranker, "/v1/score", text_1=QUERY, text_2=FITTING)
    found = ScoreList.model_validate_json(one_to_many.content)
    assert [one.score for one in found.data] == pytest.approx(expected[:4], abs=1e-5)
    pairs = ask(reranker, "/score", queries=[QUERY] * 4, documents=FITTING)
    assert pairs.json()["data"] == one_to_many.json()["data"]


def test_raw_scores_can_be_had(reranker: ServerProcess) -> None:
    def scores(**fields: Any) -> list[float]:
        reply = ask(reranker, "/v1/score", text_1=QUERY, text_2=FITTING, **fields)
        return [one["score"] for one in reply.json()["data"]]

    raw = scores(use_activation=False)
    assert scores() == pytest.approx([1 / (1 + 2.718281828**-score) for score in raw], abs=1e-4)


def test_it_classifies_by_its_one_label(reranker: ServerProcess) -> None:
    reply = ask(reranker, "/v1/classify", input=["a"]).json()
    assert (reply["data"][0]["label"], reply["data"][0]["num_classes"]) == ("relevance", 1)


def test_concurrent_requests_share_batches_and_keep_their_own_answers(
    reranker: ServerProcess, expected: list[float]
) -> None:
    def single(index: int) -> float:
        found = rerank(reranker, documents=[FITTING[index % 4]])
        return found.results[0].relevance_score

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(single, range(24)))
    assert found == pytest.approx([expected[index % 4] for index in range(24)], abs=1e-5)


def test_an_embedding_model_ranks_by_the_cosine_of_its_vectors(embedder: ServerProcess) -> None:
    reply = ask(embedder, "/v1/embeddings", input=[QUERY, *FITTING])
    query, *vectors = (one["embedding"] for one in reply.json()["data"])
    cosines = [sum(a * b for a, b in zip(query, vector, strict=True)) for vector in vectors]

    found = rerank(embedder)
    assert by_index(found) == pytest.approx(cosines, abs=1e-4)
    assert found.results[0].index in (1, 2), "what speaks of parcels comes first"
    pairs = ask(embedder, "/v1/score", text_1=[QUERY] * 4, text_2=FITTING).json()
    assert [one["score"] for one in pairs["data"]] == pytest.approx(cosines, abs=1e-4)


def test_an_embedding_model_refuses_and_cuts_alike(embedder: ServerProcess) -> None:
    long = ["short", "word " * 300]
    reply = ask(embedder, "/v1/rerank", query=QUERY, documents=long)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "documents[1]")
    assert len(rerank(embedder, documents=long, max_tokens_per_doc=50).results) == 2
    assert len(rerank(embedder, documents=long, truncate_prompt_tokens=-1).results) == 2
    reply = ask(embedder, "/v1/classify", input="a")
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "unsupported_operation")


def test_a_chat_model_refuses_to_rerank_by_name(client: httpx.Client) -> None:
    headers = {"X-Amzn-SageMaker-Custom-Attributes": "route=/rerank"}
    body = {"model": MODEL, "query": QUERY, "documents": FITTING}
    reply = client.post("/invocations", json=body, headers=headers)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (400, "unsupported_operation")
    assert "generates text" in error["message"]
