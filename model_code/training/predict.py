"""Answers a held-out set with a model artefact: the processing job that evaluation reads.

Greedy and batched, with the prompt exactly as the server would feed it. Items are batched by length in an
order that depends on the items alone, so that two models answer the same batches and their times compare.
Knows nothing of metrics or verdicts.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

# Idle threads sleep instead of spinning: on a laptop the endpoint serves on the same cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from pydantic import ValidationError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from contracts.artefact import ArtefactError, verify
from contracts.predictions import Prediction
from contracts.training import SupportPair
from model_code.training.precision import working_dtype

BATCH_SIZE = 32
MAX_ITEMS = 5000


class PredictError(Exception):
    """The job cannot go on; the message says which input to mend."""


def read_items(path: Path, limit: int) -> list[SupportPair]:
    """The held-out pairs. Above `limit` items, those with the smallest hash of their id stay: the same for
    every model and every run. Raises PredictError naming file and line."""
    items = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            items.append(SupportPair.model_validate_json(line))
        except ValidationError as error:
            reason = error.errors(include_url=False, include_input=False)[0]["msg"]
            raise PredictError(f"{path.name}:{number}: {reason}") from error
    if not items:
        raise PredictError(f"{path.name} holds no items: prepare the data with a larger held-out fraction")
    chosen = sorted(items, key=lambda item: hashlib.sha256(item.id.encode()).digest())[:limit]
    return sorted(chosen, key=lambda item: (len(item.prompt), item.id))


def load(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A verified artefact's model, on the GPU where there is one, and its tokenizer, padding on the left."""
    verify(folder, None)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=working_dtype("auto"))
    return model.to(device).eval(), tokenizer  # type: ignore[arg-type]  # transformers wraps `to` unbound


def end_tokens(model: PreTrainedModel) -> list[int]:
    """The tokens that end an answer, as `generate` reads them; none where the model names none."""
    given = model.generation_config.eos_token_id
    return given if isinstance(given, list) else [] if given is None else [given]


def answer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[SupportPair],
    max_new_tokens: int,
) -> Iterator[Prediction]:
    """One prediction per item, batch by batch. An item's duration is its batch's, in milliseconds: what a
    client sees of a server that answers them together. One without an end token was cut."""
    ends = end_tokens(model)
    for start in range(0, len(items), BATCH_SIZE):
        batch = items[start : start + BATCH_SIZE]
        prompts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": item.prompt}], tokenize=False, add_generation_prompt=True
            )
            for item in batch
        ]
        encoded = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
        encoded = encoded.to(model.device)
        began = time.perf_counter()
        with torch.inference_mode():
            written = model.generate(  # type: ignore[operator]  # from GenerationMixin, which this type does not name
                **encoded,
                do_sample=False,
                max_new_tokens=max_new_tokens,
                pad_token_id=tokenizer.pad_token_id,
            )
        duration = 1000 * (time.perf_counter() - began)
        answers = written[:, encoded["input_ids"].shape[1] :]
        ended = torch.isin(answers, torch.tensor(ends).to(answers)).any(dim=1).tolist()
        for item, ids, stopped in zip(batch, answers, ended, strict=True):
            text = tokenizer.decode(ids, skip_special_tokens=True)
            assert isinstance(text, str)  # of one sequence
            yield Prediction(
                id=item.id,
                prompt=item.prompt,
                references=[item.answer],
                prediction=text.strip(),
                slice=item.intent,
                group=item.group,
                duration_ms=duration,
                completion_tokens=int((ids != tokenizer.pad_token_id).sum()),
                finish_reason="stop" if stopped else "length",
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the predictions file; 0, or 1 with one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m model_code.training.predict", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of a model artefact")
    parser.add_argument("--data", type=Path, required=True, help="heldout.jsonl")
    parser.add_argument("--output", type=Path, required=True, help="predictions.jsonl to write")
    parser.add_argument(
        "--max-new-tokens", type=int, required=True, help="longest answer, as the endpoint's callers get it"
    )
    parser.add_argument("--limit", type=int, default=MAX_ITEMS, help="answer at most so many items")
    given = parser.parse_args(arguments)
    try:
        items = read_items(given.data, given.limit)
        model, tokenizer = load(given.model)
    except (PredictError, ArtefactError, OSError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    given.output.parent.mkdir(parents=True, exist_ok=True)
    partial = given.output.with_suffix(".partial")
    with partial.open("w") as stream:
        for done, prediction in enumerate(answer(model, tokenizer, items, given.max_new_tokens), start=1):
            stream.write(prediction.model_dump_json() + "\n")
            if done % BATCH_SIZE == 0 or done == len(items):
                print(json.dumps({"answered": done, "of": len(items)}), flush=True)
    partial.replace(given.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
