"""Our OpenVINO graph beside optimum-intel's export of the same model, and GenAI's adapters within one batch.

    python bench/openvino_export.py --model <artefact folder> --optimum <path of optimum-cli>

Runs in the serving environment; optimum-intel pins another transformers, so it has an environment of its own:
`pip install torch==2.13.0 && pip install "optimum-intel[openvino]"`. Both graphs run in the same GenAI.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino_genai as genai
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from model_code.serving.engines.openvino_graph import convert

_TEXT = (
    "The library opens at nine. Whoever brings a book back late pays a small fee, which the desk takes in "
    "cash or by card. Children borrow for free, and the reading room upstairs is quiet until noon. "
)
_PROMPT_TOKENS = 64
_NEW_TOKENS = 128


def logits(folder: Path, tokens: Sequence[int]) -> NDArray[np.float32]:
    """What a graph gives for a text: [tokens, vocabulary]."""
    compiled = ov.Core().compile_model(folder / "openvino_model.xml", "CPU")
    found: NDArray[np.float32] = compiled.create_infer_request().infer(
        {
            "input_ids": np.array([tokens], np.int64),
            "attention_mask": np.ones((1, len(tokens)), np.int64),
            "position_ids": np.arange(len(tokens))[None],
            "beam_idx": np.zeros(1, np.int32),
        }
    )["logits"][0]
    return found


def pipeline(folder: Path, **extra: Any) -> genai.ContinuousBatchingPipeline:
    """GenAI's continuous batching over a graph, as the worker opens it."""
    scheduler = genai.SchedulerConfig()
    scheduler.num_kv_blocks, scheduler.max_num_seqs = 64, 4
    return genai.ContinuousBatchingPipeline(folder, scheduler, "CPU", extra)


def tokens_per_second(folder: Path, prompt: Sequence[int], rounds: int) -> float:
    """Median speed of one greedy answer, prompt included."""
    opened = pipeline(folder)
    config = genai.GenerationConfig()
    config.max_new_tokens, config.ignore_eos = _NEW_TOKENS, True
    speeds = []
    for number in range(rounds + 1):  # the first one warms up
        began = time.perf_counter()
        handle = opened.add_request(number, ov.Tensor(np.array([prompt], np.int64)), config)
        while opened.has_non_finished_requests():
            opened.step()
        handle.read_all()
        speeds.append(_NEW_TOKENS / (time.perf_counter() - began))
    return statistics.median(speeds[1:])


def compare(model: Path, graph: Path, seconds: float, rounds: int) -> dict[str, float]:
    """One graph's measures against the model in float32."""
    tokens = AutoTokenizer.from_pretrained(model)(_TEXT)["input_ids"][:_PROMPT_TOKENS]
    exact = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    with torch.inference_mode():
        expected = exact(torch.tensor([tokens])).logits[0].numpy()
    found = logits(graph, tokens)
    return {
        "export_seconds": round(seconds, 1),
        "weights_megabytes": round((graph / "openvino_model.bin").stat().st_size / 1e6, 1),
        "mean_logit_error": round(float(np.abs(found - expected).mean()), 4),
        "largest_logit_error": round(float(np.abs(found - expected).max()), 3),
        "same_likeliest_token": round(float((found.argmax(1) == expected.argmax(1)).mean()), 4),
        "tokens_per_second": round(tokens_per_second(graph, tokens, rounds), 1),
    }


def adapters_in_one_batch(model: Path, graph: Path) -> str:
    """What GenAI says to two requests of one batch, one of them with an adapter."""
    width = json.loads((model / "config.json").read_text())["hidden_size"]
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "adapter_model.safetensors"
        save_file(
            {
                name.format("A"): np.ones((4, width), np.float32),
                name.format("B"): np.ones((width, 4), np.float32),
            },
            path,
        )
        adapter = genai.Adapter(path)
        opened = pipeline(graph, adapters=genai.AdapterConfig(adapter))
        plain, adapted = genai.GenerationConfig(), genai.GenerationConfig()
        plain.max_new_tokens = adapted.max_new_tokens = 4
        plain.adapters, adapted.adapters = genai.AdapterConfig(), genai.AdapterConfig(adapter)
        prompts = [ov.Tensor(np.array([[1, 2, 3]], np.int64))] * 2
        try:
            opened.generate(prompts, [plain, adapted], None)
        except RuntimeError as error:
            return str(error).strip().splitlines()[-1]
    return "both are computed"


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--optimum", type=Path, required=True, help="optimum-cli of its own environment")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        ours, theirs = Path(scratch) / "ours", Path(scratch) / "optimum"
        began = time.perf_counter()
        convert(given.model, ours)
        own_seconds = time.perf_counter() - began
        for file in ("config.json", "generation_config.json"):
            shutil.copyfile(given.model / file, ours / file)
        began = time.perf_counter()
        command = [given.optimum, "export", "openvino", "--model", given.model, theirs]
        options = ["--task", "text-generation-with-past", "--weight-format", "int8"]
        subprocess.run([*command, *options], check=True, capture_output=True)
        seconds = time.perf_counter() - began
        report = {
            "ours": compare(given.model, ours, own_seconds, given.rounds),
            "optimum-intel": compare(given.model, theirs, seconds, given.rounds),
            "adapters_in_one_batch": adapters_in_one_batch(given.model, ours),
        }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
