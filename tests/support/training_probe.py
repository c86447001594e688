"""Measures what only torch can tell and prints it as JSON. Run by the serving environment.

python -m tests.support.training_probe BASE_FOLDER
"""

from __future__ import annotations

import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from contracts.training import SupportPair
from model_code.training.hyperparameters import Hyperparameters
from model_code.training.job import TrainingError
from model_code.training.loop import answer_loss
from model_code.training.lora import adapter_state, attach, merge
from model_code.training.precision import working_dtype
from model_code.training.tokenization import IGNORED, batches, collate, encode, encode_all

QUESTIONS = ["Hi?", "Where is my walnut desk now?", "A somewhat longer question about a rug, please?"]


def pairs() -> list[SupportPair]:
    """Three pairs of different lengths."""
    return [
        SupportPair(
            id=str(n), user="u", group=str(n), intent="", prompt=question, answer=f"Answer {question}"
        )
        for n, question in enumerate(QUESTIONS)
    ]


def main() -> None:
    """Print one JSON object of findings."""
    torch.manual_seed(0)
    folder = sys.argv[1]
    text = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    examples = [encode(pair, text) for pair in pairs()]
    batch = collate(examples, text.pad_token_id)
    found: dict[str, object] = {
        "prompt": text.decode(examples[1].ids[: examples[1].answer_start]),
        "learned": [text.decode(row[row != IGNORED]) for row in batch.labels],
        "real_tokens": batch.tokens,
        "example_tokens": sum(len(example.ids) for example in examples),
    }
    with torch.inference_mode():
        together = float(answer_loss(model, batch)[0])
        alone = sum(float(answer_loss(model, collate([example], 1))[0]) for example in examples)
    found["batched_loss"], found["single_loss"] = together, alone

    order = [batches(examples * 20, 4, 1, seed) for seed in ("0:0", "0:0", "0:1")]
    shapes = [[tuple(one.input_ids.shape) for one in run] for run in order]
    found["same_seed_same_order"] = all(
        torch.equal(a.input_ids, b.input_ids) for a, b in zip(order[0], order[1], strict=True)
    )
    found["other_epoch_other_order"] = shapes[0] != shapes[2]
    found["rows_in_an_epoch"] = sum(shape[0] for shape in shapes[0])
    found["too_long"] = encode_all(pairs(), text, len(examples[0].ids))[1]

    settings = Hyperparameters(parameter_budget=20_000, adapted_layers=1)
    adapted, plan = attach(model, settings)
    found["trainable"] = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    found["planned"] = plan.parameters
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    with torch.inference_mode():
        with_adapters = float(answer_loss(adapted, batch)[0])
        state = adapter_state(adapted)
        base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        merged = merge(base, settings, state)
        found["merged_loss"], found["adapted_loss"] = float(answer_loss(merged, batch)[0]), with_adapters
        half = merge(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16), settings, state)
    found["merged_dtype_of_half"] = str(half.dtype)
    found["dtypes"] = [str(working_dtype(name)) for name in ("float32", "bfloat16", "auto")]

    text.chat_template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    try:
        encode(pairs()[0], text)
    except TrainingError as error:
        found["template_refusal"] = str(error)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
