"""Measures what the openvino engine's eight bits cost a model, and leaves the figures beside the artefact.

    python -m model_code.serving.quality --model <artefact folder> --text prose.txt [--pairs pairs.jsonl]

Both sides get the same tokens: transformers in float32, and the engine's own graph on the CPU as the engine
runs it. The task is to tell each question's answer from three answers of other kinds by their likelihood.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import platform
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from contracts.artefact import ArtefactError, Manifest, verify
from contracts.interval import Interval
from contracts.quantisation import (
    QUANTISATION_FILE,
    MeasuredText,
    PerplexityLoss,
    QuantisationReport,
    TaskLoss,
)
from contracts.training import SupportPair
from model_code.serving.engines.openvino_graph import UnsupportedModelError, convert

WINDOW_TOKENS = 512
TASK_ITEMS = 24
TASK_CHOICES = 4
_Z95 = 1.959963984540054  # the normal distribution's 97.5 % point
_SCHEME = "weights in 8 bits with scale and zero point per row (INT8_ASYM); activations as the CPU prefers"

Logprobs = NDArray[np.float64]
Model = Callable[[Sequence[int]], NDArray[np.float32]]
"""A text's tokens to logits [tokens, vocabulary]."""


class QualityError(Exception):
    """The measurement cannot be made; the message says which input to mend."""


def float32_model(folder: Path) -> Model:
    """The artefact's weights in float32, computed by transformers."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()

    def logits(tokens: Sequence[int]) -> NDArray[np.float32]:
        with torch.inference_mode():
            numbers: NDArray[np.float32] = model(torch.tensor([tokens])).logits[0].numpy()
        return numbers

    return logits


def int8_model(folder: Path) -> Model:
    """The same weights as the openvino engine computes them. Raises UnsupportedModelError."""
    import openvino as ov

    with tempfile.TemporaryDirectory(prefix="evergreen-quality-") as scratch:
        convert(folder, Path(scratch))
        compiled = ov.Core().compile_model(Path(scratch) / "openvino_model.xml", "CPU")
    request = compiled.create_infer_request()

    def logits(tokens: Sequence[int]) -> NDArray[np.float32]:
        count = len(tokens)
        inputs: dict[str, Any] = {
            "input_ids": np.array([tokens], np.int64),
            "attention_mask": np.ones((1, count), np.int64),
            "position_ids": np.arange(count)[None],
            "beam_idx": np.zeros(1, np.int32),
        }
        request.reset_state()  # what it keeps of the text before
        numbers: NDArray[np.float32] = request.infer(inputs)["logits"][0].copy()
        return numbers

    return logits


def token_logprobs(model: Model, tokens: Sequence[int]) -> Logprobs:
    """The natural logarithm of each token's probability after the ones before it; the first has none."""
    rows = model(tokens)[:-1].astype(np.float64)
    peaks = rows.max(axis=1, keepdims=True)
    totals = np.log(np.exp(rows - peaks).sum(axis=1)) + peaks[:, 0]
    found: Logprobs = rows[np.arange(len(rows)), list(tokens[1:])] - totals
    return found


def text_logprobs(model: Model, tokens: Sequence[int], window: int = WINDOW_TOKENS) -> Logprobs:
    """A long text's, window by window."""
    windows = [tokens[start : start + window] for start in range(0, len(tokens), window)]
    return np.concatenate([token_logprobs(model, part) for part in windows if len(part) > 1])


def perplexity_loss(exact: Logprobs, coded: Logprobs) -> PerplexityLoss:
    """From the logarithms that both models give the same tokens. The interval is the normal one of the mean
    difference per token: what a text says about the ratio does not depend on how hard the text is."""
    differences = exact - coded
    mean = float(differences.mean())
    half = _Z95 * float(differences.std(ddof=1)) / math.sqrt(len(differences))
    return PerplexityLoss(
        float32=math.exp(-float(exact.mean())),
        int8=math.exp(-float(coded.mean())),
        ratio=math.exp(mean),
        ratio_interval=Interval(
            low=math.exp(mean - half),
            high=math.exp(mean + half),
            level=0.95,
            method="normal, paired by token",
        ),
    )


def choices(pairs: Sequence[SupportPair]) -> list[tuple[str, list[str]]]:
    """Questions with four answers each, the right one first, the others of other intents; always the same."""
    ordered = sorted(pairs, key=lambda pair: hashlib.sha256(pair.id.encode()).digest())
    items = []
    for index, pair in enumerate(ordered[:TASK_ITEMS]):
        others: dict[str, str] = {}
        for other in [*ordered[index + 1 :], *ordered[:index]]:
            if other.intent != pair.intent and len(others) < TASK_CHOICES - 1:
                others.setdefault(other.intent, other.answer)
        if len(others) == TASK_CHOICES - 1:
            items.append((pair.prompt, [pair.answer, *others.values()]))
    if not items:
        raise QualityError(f"the pairs have answers of fewer than {TASK_CHOICES} intents")
    return items


def decisions(model: Model, tokenizer: Any, items: Sequence[tuple[str, list[str]]]) -> list[int]:
    """Which answer the model finds likeliest, by the mean logarithm per token."""
    found = []
    for question, answers in items:
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
        )
        start = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
        scores = []
        for answer in answers:
            tokens = tokenizer(prompt + answer, add_special_tokens=False)["input_ids"]
            scores.append(float(token_logprobs(model, tokens)[start - 1 :].mean()))
        found.append(int(np.argmax(scores)))
    return found


def task_loss(name: str, exact: Sequence[int], coded: Sequence[int]) -> TaskLoss:
    """From what both models chose; the right answer is the first."""
    alike = [left == right for left, right in zip(exact, coded, strict=True)]
    return TaskLoss(
        name=name,
        items=len(exact),
        float32=exact.count(0) / len(exact),
        int8=coded.count(0) / len(coded),
        agreement=sum(alike) / len(alike),
    )


def measure(folder: Path, text: Path, pairs: Path | None, command: str) -> QuantisationReport:
    """The report of one artefact. Raises QualityError, ArtefactError, UnsupportedModelError, OSError."""
    from transformers import AutoTokenizer

    manifest: Manifest = verify(folder, None)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    content = text.read_text(encoding="utf-8")
    tokens = tokenizer(content, add_special_tokens=False, verbose=False)["input_ids"]
    if len(tokens) < 2 * WINDOW_TOKENS:
        raise QualityError(
            f"{text.name} holds {len(tokens)} tokens; at least {2 * WINDOW_TOKENS} say something"
        )
    items = choices(_read_pairs(pairs)) if pairs is not None else None
    chosen, logprobs = [], []
    for load in (float32_model, int8_model):  # one at a time: neither memory nor cores are shared
        model = load(folder)
        logprobs.append(text_logprobs(model, tokens))
        if items is not None:
            chosen.append(decisions(model, tokenizer, items))
        del model
    task = task_loss(f"choose the answer among {TASK_CHOICES} ({pairs.name})", *chosen) if pairs else None
    return QuantisationReport(
        artefact=manifest.digest,
        scheme=_SCHEME,
        text=MeasuredText(
            name=text.name, sha256=hashlib.sha256(content.encode()).hexdigest(), tokens=len(logprobs[0])
        ),
        perplexity=perplexity_loss(logprobs[0], logprobs[1]),
        task=task,
        command=command,
        machine=f"{platform.machine()}, {platform.system()}",
        versions={name: version(name) for name in ("openvino", "torch", "transformers")},
    )


def _read_pairs(path: Path) -> list[SupportPair]:
    try:
        return [SupportPair.model_validate_json(line) for line in path.read_bytes().splitlines()]
    except ValidationError as error:
        raise QualityError(f"{path.name} is no file of pairs: {error.errors()[0]['msg']}") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the report into the artefact's folder and prints it; 1 with one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m model_code.serving.quality", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of a model artefact")
    parser.add_argument("--text", type=Path, required=True, help="plain text, some thousand words")
    parser.add_argument("--pairs", type=Path, help="questions and answers (contracts.training.SupportPair)")
    words = list(sys.argv[1:] if arguments is None else arguments)
    given = parser.parse_args(words)
    try:
        report = measure(given.model, given.text, given.pairs, shlex.join([parser.prog, *words]))
    except (QualityError, ArtefactError, UnsupportedModelError, OSError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    written = report.model_dump_json(indent=2) + "\n"
    (given.model / QUANTISATION_FILE).write_text(written, encoding="utf-8")
    print(json.dumps(report.model_dump()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
