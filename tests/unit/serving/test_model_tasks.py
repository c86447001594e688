"""What a model can do, and how its sentence vectors are pooled, read from its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model_code.serving.engines.errors import EngineError
from model_code.serving.engines.pooling import Pooling, read_pooling
from model_code.serving.model_tasks import UnsupportedArchitectureError, task_of


def write(folder: Path, **files: Any) -> Path:
    """JSON files in a folder; two underscores are a slash, and every name ends in .json."""
    for name, content in files.items():
        path = folder / (name.replace("__", "/") + ".json")
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    return folder


def modules(*kinds: str) -> list[dict[str, str]]:
    return [
        {"type": f"sentence_transformers.models.{kind}", "path": "" if index == 0 else f"{index}_{kind}"}
        for index, kind in enumerate(kinds)
    ]


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [
        ("LlamaForCausalLM", "generation"),
        ("GPT2LMHeadModel", "generation"),
        ("BertModel", "embedding"),
        ("BertForMaskedLM", "embedding"),
        ("DistilBertForSequenceClassification", "classification"),
    ],
)
def test_the_architecture_says_what_a_model_can_do(tmp_path: Path, architecture: str, kind: str) -> None:
    assert task_of(write(tmp_path, config={"architectures": [architecture]})) == kind


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        ({"id2label": {"0": "LABEL_0"}}, "reranking"),
        ({"id2label": {"0": "no", "1": "yes"}}, "classification"),
        ({"num_labels": 1}, "reranking"),
        ({}, "classification"),
    ],
)
def test_a_classifier_of_one_label_scores_pairs(tmp_path: Path, labels: dict[str, Any], kind: str) -> None:
    config = {"architectures": ["BertForSequenceClassification"], **labels}
    assert task_of(write(tmp_path, config=config)) == kind


def test_sentence_transformers_files_make_any_model_one_of_embeddings(tmp_path: Path) -> None:
    write(tmp_path, config={"architectures": ["Qwen3ForCausalLM"]}, modules=modules("Transformer", "Pooling"))
    assert task_of(tmp_path) == "embedding"


def test_without_a_word_about_it_a_model_generates(tmp_path: Path) -> None:
    assert task_of(write(tmp_path, config={"model_type": "llama"})) == "generation"


def test_another_kind_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedArchitectureError, match="BertForQuestionAnswering"):
        task_of(write(tmp_path, config={"architectures": ["BertForQuestionAnswering"]}))


def test_the_pooling_is_the_models_own(tmp_path: Path) -> None:
    write(
        tmp_path,
        modules=modules("Transformer", "Pooling"),
        sentence_bert_config={"max_seq_length": 128},
        **{"1_Pooling__config": {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}},
    )
    assert read_pooling(tmp_path) == Pooling(("cls",), normalise=False, longest=128)


def test_several_modes_are_joined_in_their_order(tmp_path: Path) -> None:
    flags = {"word_embedding_dimension": 8, "pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}
    write(tmp_path, modules=modules("Transformer", "Pooling", "Normalize"), **{"1_Pooling__config": flags})
    assert read_pooling(tmp_path) == Pooling(("cls", "max"))


def test_the_newer_spelling_is_understood(tmp_path: Path) -> None:
    write(
        tmp_path,
        modules=modules("Transformer", "Pooling"),
        **{"1_Pooling__config": {"pooling_mode": "lasttoken", "include_prompt": True}},
    )
    assert read_pooling(tmp_path).modes == ("lasttoken",)


def test_without_files_of_that_kind_it_is_the_mean_at_unit_length(tmp_path: Path) -> None:
    assert read_pooling(tmp_path) == Pooling(("mean",), normalise=True)


def test_a_module_that_is_not_served_is_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path, modules=modules("Transformer", "Dense"))
    with pytest.raises(EngineError, match="Dense"):
        read_pooling(tmp_path)


def test_a_pooling_that_is_not_served_is_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path, modules=modules("Transformer", "Pooling"), **{"1_Pooling__config": {"pooling_mode": "x"}})
    with pytest.raises(EngineError, match="'x'"):
        read_pooling(tmp_path)
