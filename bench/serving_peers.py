"""Peers of the inference handler in a process of their own: what one would use instead, without HTTP.

Speaks JSON lines: reads `{"prompts": [[token, …], …], "tokens": n}`, answers with seconds, tokens and times
to first token. Runs in the serving environment: `python -m bench.serving_peers KIND MODEL_FOLDER`.

- `one-at-a-time`: `generate()` for one request after the other, as SageMaker's stock handler does;
- `static-batch`: `generate()` once for all requests, padded; nobody gets a token before the whole batch ends;
- `openvino-raw`: OpenVINO GenAI's pipeline driven in a bare loop: the ceiling of our `openvino` engine.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

Prompts = list[list[int]]
Measured = dict[str, object]
Run = Callable[[Prompts, int], Measured]


def generate_peer(folder: Path, *, batched: bool) -> Run:
    """transformers' `generate()`; streams are not to be had from a batch, so first token means first step."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.generation.streamers import BaseStreamer

    from model_code.serving.engines.precision import fastest_dtype

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=fastest_dtype(torch.device("cpu")))

    class FirstStep(BaseStreamer):
        """Notes when the first new token comes; the prompt itself is put first."""

        def __init__(self) -> None:
            self.times: list[float] = []

        def put(self, value: torch.Tensor) -> None:
            """Called with the prompt, then with each token."""
            self.times.append(time.perf_counter())

        def end(self) -> None:
            """Nothing to do."""

    def run(prompts: Prompts, tokens: int) -> Measured:
        started, first, made = time.perf_counter(), [], 0
        for prompt in prompts:
            streamer = FirstStep()
            out = model.generate(
                torch.tensor([prompt]),
                max_new_tokens=tokens,
                do_sample=False,
                streamer=streamer,
                pad_token_id=0,
            )
            made += out.shape[1] - len(prompt)
            first.append(streamer.times[1] - started)
        return {"seconds": time.perf_counter() - started, "tokens": made, "first": first}

    def run_batched(prompts: Prompts, tokens: int) -> Measured:
        started = time.perf_counter()
        width = max(len(prompt) for prompt in prompts)
        ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        out = model.generate(ids, attention_mask=mask, max_new_tokens=tokens, do_sample=False, pad_token_id=0)
        seconds = time.perf_counter() - started
        made = int((out[:, width:] != 0).sum())
        return {"seconds": seconds, "tokens": made, "first": [seconds] * len(prompts)}

    return run_batched if batched else run


def openvino_peer(folder: Path) -> Run:
    """The raw pipeline over the same converted model."""
    import numpy as np
    import openvino as ov
    import openvino_genai as genai

    from model_code.serving.engines.openvino_graph import convert

    scheduler = genai.SchedulerConfig()
    scheduler.max_num_seqs, scheduler.max_num_batched_tokens, scheduler.num_kv_blocks = 128, 512, 2048
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
        first: dict[int, float] = {}
        made = 0
        while pipeline.has_non_finished_requests():
            pipeline.step()
            for number, handle in enumerate(handles):
                while handle.can_read():
                    first.setdefault(number, time.perf_counter() - started)
                    made += sum(len(output.generated_ids) for output in handle.read().values())
        return {"seconds": time.perf_counter() - started, "tokens": made, "first": list(first.values())}

    return run


def main() -> None:
    """Load, say so, then answer one line per line."""
    kind, folder = sys.argv[1], Path(sys.argv[2])
    peers: dict[str, Callable[[], Run]] = {
        "one-at-a-time": lambda: generate_peer(folder, batched=False),
        "static-batch": lambda: generate_peer(folder, batched=True),
        "openvino-raw": lambda: openvino_peer(folder),
    }
    run = peers[kind]()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(run(order["prompts"], order["tokens"])), flush=True)


if __name__ == "__main__":
    main()
