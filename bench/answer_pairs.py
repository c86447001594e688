"""Answers the held-out pairs with a model artefact, greedily and in batches, into a predictions file.

    python -m bench.answer_pairs --model FOLDER --pairs heldout.jsonl --output base.jsonl

For measuring a fine-tune without an endpoint; `python -m evaluation compare` reads two such files. Needs the
serving environment.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from contracts.predictions import Prediction
from contracts.training import SupportPair

MAX_NEW_TOKENS = 96
BATCH_SIZE = 16


@torch.inference_mode()
def answer(model: torch.nn.Module, tokenizer: transformers.PreTrainedTokenizerBase, prompts: list[str]):
    """The greedy answers to a batch of prompts, each with its token count."""
    dialogues = [[{"role": "user", "content": prompt}] for prompt in prompts]
    inputs = tokenizer.apply_chat_template(
        dialogues, add_generation_prompt=True, return_tensors="pt", return_dict=True, padding=True
    )
    produced = model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
    answers = produced[:, inputs["input_ids"].shape[1] :]
    ended = answers == tokenizer.eos_token_id
    lengths = [int(row.int().argmax()) if row.any() else len(row) for row in ended]
    return [
        (tokenizer.decode(row[:length], skip_special_tokens=True).strip(), length)
        for row, length in zip(answers, lengths, strict=True)
    ]


def main() -> None:
    """Write one prediction per pair, in the order of the pairs."""
    parser = argparse.ArgumentParser(prog="python -m bench.answer_pairs", description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    transformers.logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(given.model, local_files_only=True, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(given.model, dtype=torch.float32, local_files_only=True)
    pairs = [SupportPair.model_validate_json(line) for line in given.pairs.open(encoding="utf-8")]
    started = time.monotonic()
    with given.output.open("w", encoding="utf-8") as output:
        for start in range(0, len(pairs), BATCH_SIZE):
            batch = pairs[start : start + BATCH_SIZE]
            answers = answer(model, tokenizer, [pair.prompt for pair in batch])
            for pair, (text, tokens) in zip(batch, answers, strict=True):
                prediction = Prediction(
                    id=pair.id,
                    prompt=pair.prompt,
                    references=[pair.answer],
                    prediction=text,
                    slice=pair.intent,
                    group=pair.user,
                    completion_tokens=tokens,
                )
                output.write(prediction.model_dump_json(exclude_none=True) + "\n")
            print(
                f"{start + len(batch)} of {len(pairs)} answered, {time.monotonic() - started:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
