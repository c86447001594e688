"""Makes small models and reference answers for the contract suite; runs in the serving environment.

python -m tests.support.make_models classifier <embedding artefact> <folder>  # texts as JSON on stdin
python -m tests.support.make_models reranker <embedding artefact> <folder>    # pairs as JSON on stdin
python -m tests.support.make_models adapters <base artefact> <folder>
python -m tests.support.make_models embed <embedding artefact>      # texts as JSON on stdin
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
)

from contracts.artefact import MANIFEST_NAME, describe

LABELS = ("billing", "delivery", "returns")


def classifier(source: Path, folder: Path, labels: Sequence[str] = LABELS) -> None:
    """A tiny random BERT with these labels, and the embedding model's tokenizer."""
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=30522, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, initializer_range=0.5, id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copyfile(source / name, folder / name)
    (folder / MANIFEST_NAME).write_bytes(describe(folder, "tiny-classifier").canonical())


def adapter(base: Path, folder: Path, seed: int, width: int | None) -> None:
    """A LoRA adapter strong enough to change what a random model says; of another width on request."""
    config = AutoConfig.from_pretrained(base)
    if width is not None:
        config.hidden_size = width
    torch.manual_seed(seed)
    from peft import LoraConfig, get_peft_model  # takes seconds, and adapters alone need it

    model = get_peft_model(
        AutoModelForCausalLM.from_config(config),
        LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"]),
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.15)
    model.save_pretrained(folder)


def adapters(base: Path, folder: Path) -> None:
    """Two adapters of the base, `one` and `two`, and one of a narrower model, `foreign`."""
    adapter(base, folder / "one", 1, None)
    adapter(base, folder / "two", 2, None)
    adapter(base, folder / "foreign", 3, 96)


def embed(folder: Path, texts: list[str]) -> list[list[float]]:
    """Mean over the tokens, unit length, in float32, one text at a time."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    vectors = []
    for text in texts:
        with torch.inference_mode():
            hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        vectors.append(torch.nn.functional.normalize(hidden.mean(dim=0), dim=0).tolist())
    return vectors


def classify(folder: Path, texts: list[str]) -> list[list[float]]:
    """Probabilities per label, one text at a time."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        return [model(**tokenizer(text, return_tensors="pt")).logits[0].softmax(0).tolist() for text in texts]


def score(folder: Path, pairs: list[list[str]]) -> list[float]:
    """The score of each pair, cut as the tokenizer cuts it by itself, one pair at a time."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    scores = []
    for first, second in pairs:
        length = model.config.max_position_embeddings
        tokens = tokenizer(first, second, truncation=True, max_length=length, return_tensors="pt")
        with torch.inference_mode():
            scores.append(float(model(**tokens).logits[0, 0].sigmoid()))
    return scores


if __name__ == "__main__":
    what, first, *rest = sys.argv[1:]
    if what == "adapters":
        adapters(Path(first), Path(rest[0]))
    elif what == "classifier":
        classifier(Path(first), Path(rest[0]))
        print(json.dumps(classify(Path(rest[0]), json.load(sys.stdin))))
    elif what == "reranker":
        classifier(Path(first), Path(rest[0]), ["relevance"])
        print(json.dumps(score(Path(rest[0]), json.load(sys.stdin))))
    else:
        print(json.dumps(embed(Path(first), json.load(sys.stdin))))
