"""The encoder engine against plain transformers, padded batches against single texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import numpy as np  # noqa: E402

from model_code.serving.encoders.embedding_service import normalised  # noqa: E402
from model_code.serving.engines.base import EngineLimits  # noqa: E402
from model_code.serving.engines.encoder import Tokens  # noqa: E402
from model_code.serving.engines.errors import EngineError  # noqa: E402
from model_code.serving.engines.pooling import Pooling, pool  # noqa: E402
from model_code.serving.engines.transformers_encoder import TransformersEncoder  # noqa: E402

LIMITS = EngineLimits(max_context=None, max_running=8, threads=1)
SHAPE: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 48, "max_position_embeddings": 40, "initializer_range": 0.4,
}  # fmt: skip
TEXTS = [[1, 5, 9, 2], [1, 2], [1, 7, 7, 7, 7, 7, 7, 2]]
TOKENS = [Tokens(text) for text in TEXTS]


def encoder(folder: Path, kind: Any, model: Any) -> TransformersEncoder:
    torch.manual_seed(0)
    model.save_pretrained(folder)
    loaded = TransformersEncoder(LIMITS, kind)
    loaded.load(folder)
    return loaded


@pytest.mark.parametrize("mode", ["cls", "mean", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"])
def test_padding_changes_no_vector(mode: str) -> None:
    random = np.random.default_rng(0)
    states = [torch.tensor(random.normal(size=(length, 4)), dtype=torch.float32) for length in (5, 2)]
    padded = torch.full((2, 5, 4), 99.0)
    padded[0], padded[1, :2] = states[0], states[1]
    mask = torch.tensor([[1] * 5, [1, 1, 0, 0, 0]])

    together = pool(Pooling((mode,)), padded, mask)
    for row, state in zip(together, states, strict=True):
        alone = pool(Pooling((mode,)), state[None], torch.ones(1, len(state), dtype=torch.long))[0]
        assert torch.allclose(row, alone, atol=1e-6)
        assert row.norm().item() == pytest.approx(1)


def test_embeddings_equal_the_models_own(tmp_path: Path) -> None:
    model = transformers.BertModel(transformers.BertConfig(**SHAPE), add_pooling_layer=False).eval()
    found = encoder(tmp_path, "embedding", model).encode(TOKENS)

    with torch.inference_mode():
        means = [model(torch.tensor([text])).last_hidden_state[0].mean(0) for text in TEXTS]
    expected = torch.nn.functional.normalize(torch.stack(means), dim=1).numpy()
    assert np.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_scores_equal_the_models_own(tmp_path: Path, kind: str) -> None:
    labels = {0: "no", 1: "yes"}
    extra = {"pad_token_id": 0, "id2label": labels, "label2id": {"no": 0, "yes": 1}}
    config = transformers.AutoConfig.for_model(kind, **SHAPE, **extra)
    model = transformers.AutoModelForSequenceClassification.from_config(config).eval()
    loaded = encoder(tmp_path, "classification", model)

    assert (loaded.labels, loaded.normalisation, loaded.pads) == (("no", "yes"), "softmax", True)
    with torch.inference_mode():
        expected = [model(torch.tensor([text])).logits[0].numpy() for text in TEXTS]
    assert np.allclose(loaded.encode(TOKENS), expected, atol=1e-5)


def test_without_a_padding_token_a_classifier_takes_one_text_at_a_time(tmp_path: Path) -> None:
    config = transformers.AutoConfig.for_model("llama", **SHAPE)
    config.pad_token_id = None
    model = transformers.AutoModelForSequenceClassification.from_config(config).eval()
    loaded = encoder(tmp_path, "classification", model)

    assert not loaded.pads
    assert loaded.encode(TOKENS[:1]).shape == (1, 2)


@pytest.mark.parametrize(
    ("problem", "labels", "expected"),
    [
        (None, 3, "softmax"),
        (None, 1, "sigmoid"),
        ("multi_label_classification", 3, "sigmoid"),
        ("regression", 1, "none"),
    ],
)
def test_the_normalisation_is_the_models_own(
    tmp_path: Path, problem: str | None, labels: int, expected: str
) -> None:
    config = transformers.BertConfig(**SHAPE, num_labels=labels, problem_type=problem)
    loaded = encoder(tmp_path, "classification", transformers.BertForSequenceClassification(config))
    assert loaded.normalisation == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "sigmoid"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}, "none"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}}, "sigmoid"),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}, "none"),
    ],
)
def test_a_cross_encoders_activation_is_the_one_it_names(
    tmp_path: Path, fields: dict[str, Any], expected: str
) -> None:
    config = transformers.BertConfig(**SHAPE, num_labels=1, **fields)
    loaded = encoder(tmp_path, "reranking", transformers.BertForSequenceClassification(config))
    assert loaded.normalisation == expected


def test_an_activation_that_is_not_served_ends_the_start(tmp_path: Path) -> None:
    own = {"activation_fn": "torch.nn.modules.activation.Tanh"}
    config = transformers.BertConfig(**SHAPE, num_labels=1, sentence_transformers=own)
    with pytest.raises(EngineError, match="Tanh"):
        encoder(tmp_path, "reranking", transformers.BertForSequenceClassification(config))


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_pairs_are_told_apart_by_their_types_where_the_model_has_any(tmp_path: Path, kind: str) -> None:
    more = {"type_vocab_size": 1} if kind == "roberta" else {}
    config = transformers.AutoConfig.for_model(kind, **SHAPE, **more, num_labels=1, pad_token_id=0)
    model = transformers.AutoModelForSequenceClassification.from_config(config).eval()
    pairs = [Tokens([1, 5, 2, 9, 2], [0, 0, 0, 1, 1]), Tokens([1, 5, 2], [0, 0, 1]), Tokens([1, 2])]
    found = encoder(tmp_path, "reranking", model).encode(pairs)
    for pair, row in zip(pairs, found, strict=True):
        types = {} if kind != "bert" else {"token_type_ids": torch.tensor([pair.type_ids or [0] * len(pair)])}
        with torch.inference_mode():
            alone = model(torch.tensor([pair.ids]), **types).logits[0].numpy()
        assert np.allclose(row, alone, atol=1e-5)


def test_the_context_is_the_smallest_bound(tmp_path: Path) -> None:
    model = transformers.BertModel(transformers.BertConfig(**SHAPE), add_pooling_layer=False)
    (tmp_path / "modules.json").write_text(json.dumps([{"type": "x.Transformer", "path": ""}]))
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 24}))
    assert encoder(tmp_path, "embedding", model).context_tokens == 24


def test_normalisations() -> None:
    scores = np.array([[1000.0, 0.0], [0.0, 0.0]], np.float32)
    assert normalised(scores, "softmax").tolist() == [[1, 0], [0.5, 0.5]]
    assert normalised(scores, "sigmoid")[1].tolist() == [0.5, 0.5]
    assert normalised(scores, "none") is scores
