"""Embeddings of a real model: equal to plain transformers', in every shape the OpenAI client asks for."""

from __future__ import annotations

import base64
import concurrent.futures
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.embeddings import EmbeddingList
from contracts.errors import ErrorReply
from tests.support.model_server import MODEL, ServerProcess, chat, made

ROUTE = {"X-Amzn-SageMaker-Custom-Attributes": "request_id=e-1,route=/v1/embeddings"}
TEXTS = [
    "Where is my parcel?",
    "The lamp arrived broken, and I would like to send it back before the end of the month.",
    "x",
    "Ärger mit der Lieferung – 荷物はどこですか?",
    "Repeat. " * 60,
]


@pytest.fixture(scope="module")
def embedder(embedding_model: Path) -> Iterator[ServerProcess]:
    """A server of the embedding model, its engine chosen by the artefact."""
    with ServerProcess(embedding_model) as process:
        yield process.wait_ready()


def ask(server: ServerProcess, **fields: Any) -> httpx.Response:
    body = {"model": MODEL, "input": TEXTS, **fields}
    return httpx.post(f"{server.url}/invocations", json=body, headers=ROUTE, timeout=60)


def vectors(reply: httpx.Response) -> list[list[float]]:
    assert reply.status_code == 200, reply.text
    found = EmbeddingList.model_validate(reply.json())
    assert [item.index for item in found.data] == list(range(len(found.data)))
    return [item.embedding for item in found.data if isinstance(item.embedding, list)]


def cosine(left: list[float], right: list[float]) -> float:
    def dot(one: list[float], other: list[float]) -> float:
        return sum(a * b for a, b in zip(one, other, strict=True))

    return dot(left, right) / (dot(left, left) * dot(right, right)) ** 0.5


def refused(reply: httpx.Response, status: int, code: str, param: str | None) -> str:
    error = ErrorReply.model_validate_json(reply.content).error
    assert (reply.status_code, error.code, error.param) == (status, code, param)
    return error.message


def test_vectors_equal_those_of_plain_transformers(embedder: ServerProcess, embedding_model: Path) -> None:
    found = vectors(ask(embedder))
    expected = made("embed", embedding_model, texts=TEXTS)

    assert len(found) == len(TEXTS)
    for one, other in zip(found, expected, strict=True):
        assert cosine(one, other) > 0.9999
        assert abs(sum(number**2 for number in one) - 1) < 1e-4


def test_concurrent_requests_share_batches_and_keep_their_own_answers(embedder: ServerProcess) -> None:
    expected = vectors(ask(embedder))

    def single(index: int) -> list[float]:
        return vectors(ask(embedder, input=TEXTS[index % len(TEXTS)]))[0]

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = list(pool.map(single, range(40)))
    for index, vector in enumerate(found):
        assert cosine(vector, expected[index % len(TEXTS)]) > 0.9999


def test_base64_holds_the_same_numbers(embedder: ServerProcess) -> None:
    plain = vectors(ask(embedder, input="Hello"))[0]
    coded = ask(embedder, input="Hello", encoding_format="base64").json()["data"][0]["embedding"]

    numbers = struct.unpack(f"<{len(plain)}f", base64.b64decode(coded))
    assert list(numbers) == pytest.approx(plain)


def test_fewer_dimensions_are_the_leading_ones_at_unit_length(embedder: ServerProcess) -> None:
    whole = vectors(ask(embedder, input="Hello"))[0]
    short = vectors(ask(embedder, input="Hello", dimensions=64))[0]

    assert len(short) == 64
    assert cosine(short, whole[:64]) > 0.9999
    assert sum(number**2 for number in short) == pytest.approx(1)
    message = refused(ask(embedder, dimensions=385), 400, "invalid_value", "dimensions")
    assert "384" in message


def test_tokens_are_counted_and_the_request_logged(embedder: ServerProcess) -> None:
    body = {"model": MODEL, "input": ["Hello", "Hello"]}
    own = {name: value.replace("e-1", "e-17") for name, value in ROUTE.items()}  # no other test's line
    reply = httpx.post(f"{embedder.url}/invocations", json=body, headers=own, timeout=60)

    assert reply.json()["usage"] == {"prompt_tokens": 6, "total_tokens": 6}  # with the two special tokens
    assert reply.headers["x-request-id"] == "e-17"
    assert embedder.line(message="request", request_id="e-17")["status"] == 200


def test_a_text_that_is_too_long_is_refused_by_its_place(embedder: ServerProcess) -> None:
    reply = ask(embedder, input=["short", "word " * 300])
    assert "256" in refused(reply, 400, "context_length_exceeded", "input[1]")


def test_wrong_requests_are_refused_by_name(embedder: ServerProcess) -> None:
    refused(ask(embedder, model="gpt-x"), 404, "model_not_found", "model")
    refused(ask(embedder, input=[]), 400, "invalid_value", "input")
    refused(ask(embedder, input=""), 400, "invalid_value", "input")
    refused(ask(embedder, dimension=3), 400, "unknown_parameter", "dimension")


def test_what_an_embedding_model_does_not_do_is_refused_by_name(embedder: ServerProcess) -> None:
    url = f"{embedder.url}/invocations"
    assert "chat/completions" in refused(
        httpx.post(url, json=chat(), timeout=60), 400, "unsupported_operation", "route"
    )
    adapter = {**ROUTE, "X-Amzn-SageMaker-Adapter-Identifier": "a"}
    reply = httpx.post(url, json={"model": MODEL, "input": "x"}, headers=adapter, timeout=60)
    refused(reply, 400, "unsupported_operation", None)
    nowhere = {"X-Amzn-SageMaker-Custom-Attributes": "route=/v1/nowhere"}
    reply = httpx.post(url, json={"model": MODEL, "input": "x"}, headers=nowhere, timeout=60)
    refused(reply, 404, "unknown_route", "route")
    assert embedder.ping() == 200


def test_a_chat_model_refuses_embeddings_by_name(client: httpx.Client) -> None:
    reply = client.post("/invocations", json={"model": MODEL, "input": "x"}, headers=ROUTE)
    assert "/v1/embeddings" in refused(reply, 400, "unsupported_operation", "route")


def test_on_sigterm_it_ends_well(embedder: ServerProcess) -> None:
    """The last test here: it ends the server that the others asked."""
    embedder.terminate()
    assert embedder.wait_exit() == 0
