"""`make bench`, part "serving": the inference handler beside what one would use instead, on this machine.

Closed loop: 1 … 128 clients ask at once, greedily, for answers of one length. Systems take turns within every
round and the order shifts from round to round, so that a busy moment of the machine hits them alike; ratios
are taken within a round. Open loop: requests arrive at random (Poisson) and as in a recorded trace, and
latency counts from the scheduled arrival. Servers, ours among them, are asked over
HTTP, libraries in process.
Writes `bench/results/serving.json`, `.md` and `.svg`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from bench import serving_report as report  # noqa: E402
from bench.common import RESULTS, command_line, cpu_model  # noqa: E402
from bench.serving_load import ScheduledRequest, poisson, questions, trace  # noqa: E402
from bench.serving_plot import draw  # noqa: E402
from bench.serving_systems import (  # noqa: E402
    HandlerServer,
    HttpSystem,
    Library,
    System,
    TransformersServe,
    machine_limits,
    tokenise,
)

TRACE = REPOSITORY.parent / "shared" / "data" / "azure_llm_2023_conv" / "azure_llm_2023_conv.jsonl"
FAST, REFERENCE = "evergreen openvino", "evergreen transformers"
RAW_FAST, RAW_REFERENCE = "raw OpenVINO", "raw generate_batch"
STATIC, SINGLE, SERVE = "generate() static batch", "generate() one at a time", "transformers serve"
VLLM, VLLM_HOOKED, LLAMA = "vLLM", "vLLM with our hook", "llama.cpp"
PEERS = {"vllm": VLLM, "vllm-hooked": VLLM_HOOKED, "llama.cpp": LLAMA}
SLOW_LEVELS = 32
"""Systems that compute a token in tens of milliseconds would need the whole bench's time above."""
RATIOS = [
    (FAST, RAW_FAST),
    (REFERENCE, RAW_REFERENCE),
    (FAST, STATIC),
    (FAST, SINGLE),
    (FAST, SERVE),
    (FAST, VLLM),
    (FAST, LLAMA),
    (VLLM_HOOKED, VLLM),
]
_VERSIONS = ("openvino", "openvino-genai", "torch", "transformers", "uvicorn")
_SLOW_EVERY = 3  # rounds


def start(options: argparse.Namespace, stack: ExitStack) -> list[System]:
    """Every system that was asked for, ready."""
    folder: Path = options.model
    systems: list[System] = []
    prompts = tokenise(folder, questions())
    for name in options.systems:
        print(f"  starting {name}", flush=True)
        if name in (FAST, REFERENCE):
            systems.append(stack.enter_context(HandlerServer(name, name.split()[1], folder)))
        elif name == SERVE:
            systems.append(stack.enter_context(TransformersServe(folder)))
        elif name == VLLM_HOOKED:
            systems.append(stack.enter_context(HandlerServer(name, "vllm", folder)))
        elif name in (VLLM, LLAMA):
            engine = "vllm-plain" if name == VLLM else "llama.cpp"
            systems.append(stack.enter_context(HandlerServer(name, engine, folder, "/v1/chat/completions")))
        else:
            systems.append(stack.enter_context(Library(name, folder, prompts)))
    return systems


def closed(systems: Sequence[System], options: argparse.Namespace, deadline: float) -> list[report.Sample]:
    """Rounds of turns, as many as were asked for and as fit the time; the order shifts by one each round."""
    samples: list[report.Sample] = []
    for system in systems:
        system.turn(1, 4)  # first-use costs are the start's, not the round's
    only_slow = all(is_slow(system.name) for system in systems)
    seconds = {True: 0.0, False: 0.0}  # of a round with everybody, and of one without the slow
    for number in range(options.rounds):
        began = time.monotonic()
        everybody = only_slow or number % _SLOW_EVERY == 0
        if began + seconds[everybody] > deadline:
            print(f"  no time for round {number + 1} of {options.rounds}", flush=True)
            break
        shift = number % len(systems)
        for level in options.levels:
            for system in [*systems[shift:], *systems[:shift]]:
                if is_slow(system.name) and (level > SLOW_LEVELS or not everybody):
                    continue
                turn = system.turn(level, options.tokens)
                samples.append(report.Sample(system.name, level, number, turn))
                print(
                    f"  round {number + 1}: {system.name:26} at {level:3} {turn.rate:7.1f} token/s",
                    flush=True,
                )
        seconds[everybody] = time.monotonic() - began
    return samples


def is_slow(name: str) -> bool:
    """Whether a system computes in torch without batching kernels made for this machine."""
    return name in (REFERENCE, RAW_REFERENCE, STATIC, SINGLE, SERVE)


def open_loops(
    systems: Sequence[System], samples: Sequence[report.Sample], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Poisson arrivals and the trace, at a share of what the first server managed in the closed loop."""
    servers = [system for system in systems if isinstance(system, HttpSystem) and not is_slow(system.name)]
    if not servers or options.open_seconds <= 0:
        return []
    rates = [sample.turn.rate for sample in samples if sample.system == servers[0].name]
    rate = options.open_load * max(rates) / options.tokens
    arrivals: dict[str, list[ScheduledRequest]] = {
        "Poisson": poisson(rate, options.open_seconds, options.tokens, seed=1)
    }
    if options.trace.is_file():
        each = statistics.mean(map(len, tokenise(options.model, questions()))) + options.tokens
        arrivals[f"trace {options.trace.stem}"] = trace(options.trace, rate * each, options.open_seconds)
    objective = report.Objective(options.slo_ttft_ms, options.slo_tpot_ms)
    rows = []
    for name, asks in arrivals.items():
        for system in servers:
            turn = system.open_turn(asks)
            rows.append(
                {
                    "arrivals": name,
                    "system": system.name,
                    "requests_per_second": round(len(asks) / options.open_seconds, 3),
                    "tokens_per_second": round(turn.rate, 2),
                    **report.latencies(turn.answers, objective, turn.seconds),
                }
            )
            print(f"  {name}: {system.name} answered {len(asks)} requests", flush=True)
    return rows


def machine() -> dict[str, Any]:
    """What the figures belong to."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory, 1),
        "load_at_start": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "versions": {name: importlib.metadata.version(name) for name in _VERSIONS},
    }


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of a prepared model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--minutes", type=float, default=14.0, help="no round begins that would not end in time"
    )
    parser.add_argument("--tokens", type=int, default=48, help="length of each answer")
    parser.add_argument("--levels", type=int, nargs="+", default=[1, 4, 16, 32, 64, 128])
    parser.add_argument(
        "--systems",
        nargs="+",
        choices=[FAST, RAW_FAST, REFERENCE, RAW_REFERENCE, STATIC, SINGLE, SERVE],
        default=[FAST, RAW_FAST, REFERENCE, RAW_REFERENCE, STATIC, SINGLE, SERVE],
        help="what runs beside each other, by the names in the table",
    )
    parser.add_argument("--peers", nargs="*", default=[], choices=list(PEERS), help="opt-in servers on top")
    parser.add_argument(
        "--hook-overhead", action="store_true", help="only vLLM with and without our hook, in turns"
    )
    parser.add_argument("--open-seconds", type=float, default=30.0, help="length of each open loop; 0: none")
    parser.add_argument("--open-load", type=float, default=0.6, help="share of the closed loop's best rate")
    parser.add_argument(
        "--trace", type=Path, default=TRACE, help="JSON lines of t, prompt_tokens, output_tokens"
    )
    parser.add_argument("--slo-ttft-ms", type=float, default=1000.0)
    parser.add_argument("--slo-tpot-ms", type=float, default=100.0)
    parser.add_argument("--name", default="serving", help="of the files under bench/results")
    options = parser.parse_args()
    if options.hook_overhead:
        options.systems, options.peers, options.open_seconds = [VLLM_HOOKED, VLLM], [], 0.0
        options.name = "hook" if options.name == "serving" else options.name
    options.systems += [PEERS[peer] for peer in options.peers]
    return options


def main() -> None:
    """Measure the machine, start every system, measure those, write."""
    options = parse()
    deadline = time.monotonic() + 60 * options.minutes - 2 * options.open_seconds
    description = machine()
    limits = machine_limits()
    print(f"  machine: {limits}", flush=True)
    with ExitStack() as stack:
        systems = start(options, stack)
        samples = closed(systems, options, deadline)
        opened = open_loops(systems, samples, options)
        starts = {
            system.name: {
                "start_s": round(system.start_seconds, 2),
                "peak_mb": round(system.peak_megabytes(), 1),
            }
            for system in systems
        }
    write(options, description, limits, samples, opened, starts)


def write(
    options: argparse.Namespace,
    description: dict[str, Any],
    limits: dict[str, float],
    samples: list[report.Sample],
    opened: list[dict[str, Any]],
    starts: dict[str, dict[str, float]],
) -> None:
    """JSON, table and picture."""
    rows = report.closed_figures(samples, report.Objective(options.slo_ttft_ms, options.slo_tpot_ms))
    parameters = report.model_size(options.model)["parameters"]
    report.shares(rows, limits, parameters, weight_bytes(limits, parameters))
    compared = [row for ours, peer in RATIOS for row in report.ratios(samples, ours, peer)]
    rounds = max(row["rounds"] for row in rows)
    note = (
        f"{description['cpu']}, {description['cores']} cores, load {description['load_at_start']:.1f} "
        f"at start · {options.model.name} · medians of up to {rounds} interleaved rounds, "
        f"{options.tokens} tokens per answer"
    )
    content: dict[str, Any] = {
        "command": command_line(),
        "machine": description | {"limits": limits},
        "options": {
            key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()
        },
        "systems": starts,
        "closed_loop": rows,
        "ratios": compared,
        "open_loop": opened,
        "turns": [
            {"system": s.system, "clients": s.clients, "round": s.round, "seconds": round(s.turn.seconds, 4)}
            for s in samples
        ],
        "objective": asdict(report.Objective(options.slo_ttft_ms, options.slo_tpot_ms)),
    }
    content["options"]["model"] = options.model.name
    content["options"]["trace"] = options.trace.name
    limit = ", ".join(f"{name.removeprefix('gemm_')} {value:g}" for name, value in limits.items())
    parts = [f"`{command_line()}`", note, report.closed_table(rows, starts), report.ratio_table(compared)]
    parts += [report.share_table(rows), f"Machine: {limit} (GB/s read; 10⁹ operations/s)."]
    if opened:
        parts.append(report.open_table(opened))
    text = "\n\n".join(part for part in parts if part)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{options.name}.json").write_text(json.dumps(content, indent=1) + "\n")
    (RESULTS / f"{options.name}.md").write_text(text + "\n")
    (RESULTS / f"{options.name}.svg").write_text(draw(rows, "Text generation on this machine", note))
    print(text)


def weight_bytes(limits: dict[str, float], parameters: int) -> dict[str, int]:
    """Bytes of weights that one client's token reads: int8 in OpenVINO, else what torch prefers."""
    prefers_bfloat16 = limits["gemm_bfloat16"] > limits["gemm_float32"]
    torch_bytes = parameters * (2 if prefers_bfloat16 else 4)
    small = dict.fromkeys((FAST, RAW_FAST), parameters)
    return small | dict.fromkeys((REFERENCE, RAW_REFERENCE, STATIC, SINGLE), torch_bytes)


if __name__ == "__main__":
    main()
