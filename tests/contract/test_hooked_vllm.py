"""vLLM's own server with our hook: start and end, each with a server of its own. Opt-in: `-m peers`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.classification import ClassificationList
from contracts.scoring import Reranking, ScoreList
from tests.support.model_server import ServerProcess, chat, made
from tests.support.peers import HOOKED
from tests.support.waiting import until

pytestmark = [pytest.mark.peers, pytest.mark.parametrize("vllm", HOOKED)]
LONG = chat(stream=True, max_tokens=8000)
SHORTER = chat(stream=True, max_tokens=400)
WAIT_SECONDS = 60.0


def test_on_sigterm_ping_fails_at_once_and_running_streams_finish(tiny_model: Path, vllm: str) -> None:
    with ServerProcess(tiny_model, EVERGREEN_ENGINE=vllm) as server:
        server.wait_ready()
        with server.client() as client, client.stream("POST", "/invocations", json=SHORTER) as running:
            lines = running.iter_lines()
            next(lines)
            server.terminate()
            until(lambda: server.ping() == 503, "a ping is refused after SIGTERM", WAIT_SECONDS)
            refused = httpx.post(f"{server.url}/invocations", json=chat(), timeout=WAIT_SECONDS)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "not_ready")
            assert events_of(lines)[-1]["choices"][0]["finish_reason"] in ("length", "stop")
        assert server.wait_exit() == 0


def test_what_outlasts_the_drain_ends_with_an_error_event(tiny_model: Path, vllm: str) -> None:
    with ServerProcess(tiny_model, EVERGREEN_ENGINE=vllm, EVERGREEN_DRAIN_SECONDS="0.2") as server:
        server.wait_ready()
        with server.client() as client, client.stream("POST", "/invocations", json=LONG) as running:
            lines = running.iter_lines()
            first = next(lines)
            server.terminate()
            last = [line for line in [first, *lines] if line][-1]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "draining"
        assert server.wait_exit() == 0


def test_completions_go_by_their_route(tiny_model: Path, vllm: str) -> None:
    with ServerProcess(tiny_model, EVERGREEN_ENGINE=vllm) as server:
        server.wait_ready()
        reply = httpx.post(
            f"{server.url}/invocations",
            json={"model": "tiny", "prompt": "Once", "max_tokens": 4},
            headers={"X-Amzn-SageMaker-Custom-Attributes": "route=/v1/completions"},
            timeout=WAIT_SECONDS,
        )
        assert reply.status_code == 200, reply.text
        assert reply.json()["object"] == "text_completion"
        line = server.line(message="ready")
        assert line["context_tokens"] == 8192


def test_pairs_are_scored_as_by_our_handler(embedding_model: Path, tmp_path: Path, vllm: str) -> None:
    query, documents = "Where is my parcel?", ["A lamp.", "Your parcel is on its way.", "x"]
    pairs = [[query, document] for document in documents]
    expected = made("reranker", embedding_model, tmp_path, texts=pairs)
    bodies: dict[str, dict[str, Any]] = {
        "/v1/rerank": {"query": query, "documents": documents},
        "/v1/score": {"text_1": query, "text_2": documents},
        "/v1/classify": {"input": documents},
    }
    with ServerProcess(tmp_path, EVERGREEN_ENGINE=vllm, EVERGREEN_MAX_CONTEXT_TOKENS="64") as server:
        server.wait_ready()
        replies = {
            route: httpx.post(
                f"{server.url}/invocations",
                json={"model": "tiny", **body},
                headers={"X-Amzn-SageMaker-Custom-Attributes": f"route={route}"},
                timeout=WAIT_SECONDS,
            ).text
            for route, body in bodies.items()
        }
    ranked = Reranking.model_validate_json(replies["/v1/rerank"]).results
    scores = [one.relevance_score for one in sorted(ranked, key=lambda one: one.index)]
    assert scores == pytest.approx(expected, abs=1e-3)
    scored = ScoreList.model_validate_json(replies["/v1/score"]).data
    assert [one.score for one in scored] == pytest.approx(expected, abs=1e-3)
    classified = ClassificationList.model_validate_json(replies["/v1/classify"]).data
    assert [(one.label, one.num_classes) for one in classified] == [("relevance", 1)] * 3


def events_of(lines: object) -> list[dict]:
    """The events that are left of a stream."""
    data = [line.removeprefix("data: ") for line in lines if line]  # type: ignore[attr-defined]
    assert data[-1] == "[DONE]", data[-3:]
    return [json.loads(item) for item in data[:-1]]
