"""Classification: scores equal to plain transformers', in vLLM's shape and in Hugging Face's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.classification import ClassificationList
from tests.support.model_server import MODEL, ServerProcess, made

ROUTE = {"X-Amzn-SageMaker-Custom-Attributes": "route=/v1/classify"}
TEXTS = ["Where is my parcel?", "I want my money back, and I want it this week.", "no"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tiny random classifier is."""
    return tmp_path_factory.mktemp("classifier")


@pytest.fixture(scope="module")
def expected(embedding_model: Path, folder: Path) -> list[list[float]]:
    """Makes the classifier: each text's probabilities, by plain transformers."""
    return made("classifier", embedding_model, folder, texts=TEXTS)


@pytest.fixture(scope="module")
def classifier(folder: Path, expected: list[list[float]]) -> Iterator[ServerProcess]:
    """A server of it."""
    with ServerProcess(folder) as process:
        yield process.wait_ready()


def ask(server: ServerProcess, body: dict[str, Any], headers: dict[str, str] = ROUTE) -> Any:
    reply = httpx.post(f"{server.url}/invocations", json=body, headers=headers, timeout=60)
    return reply.status_code, reply.json()


@pytest.mark.parametrize("route", ["/v1/classify", "/classify"])
def test_scores_equal_those_of_plain_transformers(
    classifier: ServerProcess, expected: list[list[float]], route: str
) -> None:
    headers = {"X-Amzn-SageMaker-Custom-Attributes": f"request_id=c-1,route={route}"}
    status, body = ask(classifier, {"model": MODEL, "input": TEXTS}, headers)

    assert status == 200, body
    found = ClassificationList.model_validate(body)
    labels = ("billing", "delivery", "returns")
    for item, probabilities in zip(found.data, expected, strict=True):
        assert item.probs == pytest.approx(probabilities, abs=1e-5)
        assert (item.label, item.num_classes) == (labels[probabilities.index(max(probabilities))], 3)
        best = sorted(zip(item.probs, labels, strict=True), reverse=True)
        assert [(one.score, one.label) for one in item.scores or []] == best
    assert (found.id, found.usage.total_tokens > 0) == ("classify-c-1", True)


def test_hugging_faces_body_is_answered_in_its_shape(
    classifier: ServerProcess, expected: list[list[float]]
) -> None:
    status, single = ask(classifier, {"inputs": TEXTS[0]}, {})
    assert status == 200
    assert [set(one) for one in single] == [{"label", "score"}]
    assert single[0]["score"] == pytest.approx(max(expected[0]), abs=1e-5)

    _, several = ask(classifier, {"inputs": TEXTS}, {})
    assert [one["score"] for one in several] == pytest.approx([max(row) for row in expected], abs=1e-5)

    _, ranked = ask(classifier, {"inputs": TEXTS, "parameters": {"top_k": 2}}, {})
    assert [len(row) for row in ranked] == [2, 2, 2]


def test_the_normalisation_can_be_chosen(classifier: ServerProcess) -> None:
    _, raw = ask(classifier, {"model": MODEL, "input": TEXTS[0], "use_activation": False})
    parameters = {"function_to_apply": "sigmoid", "top_k": 3}
    _, each = ask(classifier, {"inputs": TEXTS[0], "parameters": parameters}, {})

    assert sum(raw["data"][0]["probs"]) != pytest.approx(1)
    highest = max(raw["data"][0]["probs"])
    assert each[0]["score"] == pytest.approx(1 / (1 + 2.718281828**-highest), abs=1e-4)


def test_a_text_that_is_too_long_is_cut_where_that_is_asked_for(classifier: ServerProcess) -> None:
    body = {"model": MODEL, "input": "word " * 100}
    assert ask(classifier, body)[0] == 400
    status, answer = ask(classifier, {**body, "truncate_prompt_tokens": 10})
    assert (status, answer["usage"]["prompt_tokens"]) == (200, 10)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"inputs": ["a", ""]}, "invalid_value", "inputs[1]"),
        ({"inputs": "a", "parameters": {"truncation": True}}, "unknown_parameter", "parameters.truncation"),
        ({"inputs": "a", "parameters": {"top_k": 0}}, "invalid_value", "parameters.top_k"),
        ({"model": MODEL, "input": "a", "top_k": 2}, "unsupported_parameter", "top_k"),
        ({"inputs": "word " * 100}, "context_length_exceeded", "inputs[0]"),
        ({"messages": []}, "unsupported_operation", "route"),
    ],
)
def test_wrong_requests_are_refused_by_name(
    classifier: ServerProcess, body: dict[str, Any], code: str, param: str
) -> None:
    status, answer = ask(classifier, body, {})
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (400, code, param)


@pytest.mark.usefixtures("expected")
def test_the_openvino_engine_refuses_a_classifier_at_its_start(folder: Path) -> None:
    with ServerProcess(folder, EVERGREEN_ENGINE="openvino") as server:
        assert server.wait_exit() == 1
        assert "openvino engine generates text only" in server.output
