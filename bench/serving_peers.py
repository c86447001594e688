"""Peers of the inference handler in a process of their own: what one would use instead, without HTTP.

Speaks JSON lines: reads `{"prompts": [[token, …], …], "tokens": n}`, answers with the seconds of the turn
and, for each answer, seconds to its first and last token and its number of tokens. Runs in the serving
environment: `python -m bench.serving_peers NAME MODEL_FOLDER`; names are the keys of `PEERS`.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Prompts = list[list[int]]
Measured = dict[str, object]
Run = Callable[[Prompts, int], Measured]
SLOTS = 128
STEP_TOKENS = 512
PAGE_TOKENS, PAGES = 32, 1024


def _model(folder: Path, **options: Any) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    from model_code.serving.engines.precision import fastest_dtype

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    dtype = fastest_dtype(torch.device("cpu"))
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True, **options)


def one_at_a_time(folder: Path) -> Run:
    """`generate()` for one request after the other, as SageMaker's stock handler does."""
    import torch
    from transformers.generation.streamers import BaseStreamer

    model = _model(folder)

    class TokenTimes(BaseStreamer):  # type: ignore[misc] # the bench is checked where transformers is not
        """Notes when tokens come; the prompt itself is put first."""

        def __init__(self) -> None:
            self.times: list[float] = []

        def put(self, value: torch.Tensor) -> None:
            """Called with the prompt, then with each token."""
            self.times.append(time.perf_counter())

        def end(self) -> None:
            """Nothing to do."""

    def run(prompts: Prompts, tokens: int) -> Measured:
        started, answers = time.perf_counter(), []
        for prompt in prompts:
            token_times = TokenTimes()
            out = model.generate(
                torch.tensor([prompt]),
                max_new_tokens=tokens,
                do_sample=False,
                streamer=token_times,
                pad_token_id=0,
            )
            made = out.shape[1] - len(prompt)
            answers.append([token_times.times[1] - started, token_times.times[-1] - started, made])
        return {"seconds": time.perf_counter() - started, "answers": answers}

    return run


def static_batch(folder: Path) -> Run:
    """`generate()` once for all requests, padded; nobody gets a token before the whole batch ends."""
    import torch

    model = _model(folder)

    def run(prompts: Prompts, tokens: int) -> Measured:
        started = time.perf_counter()
        width = max(len(prompt) for prompt in prompts)
        ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        out = model.generate(ids, attention_mask=mask, max_new_tokens=tokens, do_sample=False, pad_token_id=0)
        seconds = time.perf_counter() - started
        made = (out[:, width:] != 0).sum(dim=1).tolist()
        return {"seconds": seconds, "answers": [[seconds, seconds, count] for count in made]}

    return run


def generate_batch(folder: Path) -> Run:
    """transformers' own continuous batching without a server: the ceiling of our `transformers` engine."""
    from transformers import ContinuousBatchingConfig, GenerationConfig

    model = _model(folder, attn_implementation="sdpa")
    eos = GenerationConfig.from_pretrained(folder).eos_token_id
    batching = ContinuousBatchingConfig(
        page_size=PAGE_TOKENS,
        num_blocks=PAGES,
        max_batch_tokens=STEP_TOKENS,
        max_requests_per_batch=SLOTS,
        auto_switch_to_flash=False,
        use_cuda_graph=False,
        use_async_batching=False,
    )

    def run(prompts: Prompts, tokens: int) -> Measured:
        started = time.perf_counter()
        outputs = model.generate_batch(
            prompts,
            generation_config=GenerationConfig(do_sample=False, eos_token_id=eos, max_new_tokens=tokens),
            continuous_batching_config=batching,
            record_timestamps=True,
            persistent_manager=True,
            warmup=False,
        )
        seconds = time.perf_counter() - started
        answers = [
            [output.timestamps[0] - started, output.timestamps[-1] - started, len(output.generated_tokens)]
            for output in outputs.values()
        ]
        return {"seconds": seconds, "answers": answers}

    return run


def openvino_raw(folder: Path) -> Run:
    """OpenVINO GenAI's pipeline over the same model in a bare loop: the ceiling of our `openvino` engine."""
    import numpy as np
    import openvino as ov
    import openvino_genai as genai

    from model_code.serving.engines.openvino_graph import convert

    scheduler = genai.SchedulerConfig()
    scheduler.max_num_seqs, scheduler.max_num_batched_tokens, scheduler.num_kv_blocks = (
        SLOTS,
        STEP_TOKENS,
        2048,
    )
    scheduler.dynamic_split_fuse, scheduler.enable_prefix_caching = True, True
    with tempfile.TemporaryDirectory() as scratch:
        convert(folder, Path(scratch))
        for name in ("config.json", "generation_config.json"):
            (Path(scratch) / name).write_bytes((folder / name).read_bytes())
        pipeline = genai.ContinuousBatchingPipeline(
            scratch, scheduler, "CPU", {"INFERENCE_NUM_THREADS": len(os.sched_getaffinity(0))}
        )
    eos = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]

    def run(prompts: Prompts, tokens: int) -> Measured:
        config = genai.GenerationConfig()
        config.max_new_tokens, config.stop_token_ids = tokens, {eos}
        started = time.perf_counter()
        handles = [
            pipeline.add_request(number, ov.Tensor(np.array([prompt], dtype=np.int64)), config)
            for number, prompt in enumerate(prompts)
        ]
        answers = [[0.0, 0.0, 0] for _ in handles]
        while pipeline.has_non_finished_requests():
            pipeline.step()
            for answer, handle in zip(answers, handles, strict=True):
                while handle.can_read():
                    now = time.perf_counter() - started
                    answer[0] = answer[0] or now
                    answer[1] = now
                    answer[2] += sum(len(output.generated_ids) for output in handle.read().values())
        return {"seconds": time.perf_counter() - started, "answers": answers}

    return run


PEERS: dict[str, Callable[[Path], Run]] = {
    "raw OpenVINO": openvino_raw,
    "raw generate_batch": generate_batch,
    "generate() static batch": static_batch,
    "generate() one at a time": one_at_a_time,
}


def main() -> None:
    """Load, say so, then answer one line per line."""
    run = PEERS[sys.argv[1]](Path(sys.argv[2]))
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(run(order["prompts"], order["tokens"])), flush=True)


if __name__ == "__main__":
    main()
