"""A prompt's log probabilities are those of a plain forward pass of the same weights, on both engines."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("openvino_genai")

from transformers import AutoModelForCausalLM  # noqa: E402

from model_code.serving.engines import transformers_scorer  # noqa: E402
from model_code.serving.engines.base import EngineLimits, Logprob  # noqa: E402
from model_code.serving.engines.openvino_scorer import PromptScorer  # noqa: E402
from model_code.serving.engines.transformers_engine import TransformersEngine  # noqa: E402
from tests.unit.serving.test_openvino_engine import folder  # noqa: E402, F401 - a fixture

TOP = 3


@pytest.fixture
def prompt() -> list[int]:
    """Longer than what is computed at once."""
    return [(7 * i * i + 3 * i) % 90 for i in range(transformers_scorer.CHUNK_TOKENS + 40)]


def reference(path: Path, prompt: list[int]) -> Any:
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    with torch.inference_mode():
        return torch.log_softmax(model(torch.tensor([prompt])).logits[0], dim=-1)


def check(found: list[Logprob], expected: Any, prompt: list[int], tolerance: float) -> None:
    assert len(found) == len(prompt) - 1
    for place, entry in enumerate(found):
        assert entry.value == pytest.approx(float(expected[place, prompt[place + 1]]), abs=tolerance)
        best = expected[place].topk(TOP)
        assert [value for _, value in entry.top] == pytest.approx(best.values.tolist(), abs=tolerance)


def test_the_openvino_scorer(folder: Path, prompt: list[int]) -> None:  # noqa: F811
    scorer = PromptScorer(folder, 1)
    try:
        found = asyncio.run(scorer.score(prompt, TOP))
        again = asyncio.run(scorer.score(prompt, TOP))
    finally:
        scorer.close()
    check(found, reference(folder, prompt), prompt, 0.5)  # its weights have eight bits
    assert again == found


def test_the_transformers_scorer_beside_a_batch(folder: Path, prompt: list[int]) -> None:  # noqa: F811
    engine = TransformersEngine(EngineLimits(None, 2, 1))
    engine.load(folder)
    try:
        found = asyncio.run(engine.score(prompt, TOP))
    finally:
        engine.close()
    check(found, reference(folder, prompt), prompt, 0.1)  # on some machines in half precision
