"""`make bench`, part "serving": the inference handler beside what one would use instead, on this machine.

Closed loop: `concurrency` clients start together, each asks for the same number of tokens, greedily. Systems
take turns within every round and the order shifts from round to round, so that a busy moment of the machine
hits them alike. Figures are medians over rounds. Ours are measured through HTTP with streaming, peers in
process.
Writes `bench/results/serving.json` and a table beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import httpx

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from tests.contract.process import MODEL, PYTHON, ServerProcess  # noqa: E402

RESULTS = REPOSITORY / "bench" / "results"
START_SECONDS = 600.0
ONE_AT_A_TIME_REQUESTS = 4
"""Its rate does not depend on how many wait, so more requests only cost time; its TTFT is then flattered."""
TOPICS = ["a lighthouse", "bread", "the moon", "a clever fox", "rain", "an old clock", "bees", "a violin"]


@dataclass(frozen=True)
class Sample:
    """One turn of one system: tokens per second of all clients, and times to first token in seconds."""

    system: str
    concurrency: int
    tokens_per_second: float
    first_token: list[float]


class System(Protocol):
    """Something that answers prompts."""

    name: str
    start_seconds: float

    def turn(self, concurrency: int, tokens: int) -> Sample:
        """Answer `concurrency` prompts at once."""

    def peak_megabytes(self) -> float:
        """Largest resident memory so far."""


class Handler:
    """Our server with one engine, asked through HTTP."""

    def __init__(self, engine: str, folder: Path, stack: ExitStack) -> None:
        self.name = f"evergreen {engine}"
        cores = str(len(os.sched_getaffinity(0)))
        started = time.perf_counter()
        self._server = stack.enter_context(
            ServerProcess(
                folder,
                EVERGREEN_ENGINE=engine,
                OMP_NUM_THREADS=cores,
                EVERGREEN_MAX_RUNNING_REQUESTS="128",
            )
        ).wait_ready()
        self.start_seconds = time.perf_counter() - started

    def turn(self, concurrency: int, tokens: int) -> Sample:
        """See `System`."""
        return asyncio.run(self._turn(concurrency, tokens))

    async def _turn(self, concurrency: int, tokens: int) -> Sample:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=self._server.url, timeout=600, limits=limits) as client:
            started = time.perf_counter()
            answers = await asyncio.gather(
                *(self._ask(client, number, tokens, started) for number in range(concurrency))
            )
            seconds = time.perf_counter() - started
        made = sum(count for _, count in answers)
        return Sample(self.name, concurrency, made / seconds, [first for first, _ in answers])

    async def _ask(
        self, client: httpx.AsyncClient, number: int, tokens: int, started: float
    ) -> tuple[float, int]:
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": question(number)}],
            "max_tokens": tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        first, made = 0.0, 0
        async with client.stream("POST", "/invocations", json=body) as reply:
            reply.raise_for_status()
            async for line in reply.aiter_lines():
                if line.startswith("data: {"):
                    first = first or time.perf_counter() - started
                    if '"usage":{' in line:
                        made = json.loads(line[6:])["usage"]["completion_tokens"]
        return first, made

    def peak_megabytes(self) -> float:
        """See `System`."""
        return peak_megabytes(self._server.process.pid)


class Peer:
    """A process of `bench.serving_peers`."""

    def __init__(self, name: str, folder: Path, prompts: list[list[int]]) -> None:
        self.name = name
        self._folder = folder
        self._prompts = prompts

    def __enter__(self) -> Peer:
        started = time.perf_counter()
        self._process = subprocess.Popen(
            [PYTHON, "-m", "bench.serving_peers", self.name, str(self._folder)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._read()
        self.start_seconds = time.perf_counter() - started
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait(60)

    def turn(self, concurrency: int, tokens: int) -> Sample:
        """See `System`."""
        asked = min(concurrency, ONE_AT_A_TIME_REQUESTS) if self.name == "one-at-a-time" else concurrency
        prompts = [self._prompts[number % len(self._prompts)] for number in range(asked)]
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"prompts": prompts, "tokens": tokens}) + "\n")
        self._process.stdin.flush()
        measured = self._read()
        rate = measured["tokens"] / measured["seconds"]
        return Sample(self.name, concurrency, rate, measured["first"])

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return dict(json.loads(line))
        raise RuntimeError(f"the peer '{self.name}' ended")

    def peak_megabytes(self) -> float:
        """See `System`."""
        return peak_megabytes(self._process.pid)


def question(number: int) -> str:
    """The fixed prompt of client `number`."""
    return f"Write a long story about {TOPICS[number % len(TOPICS)]}."


def tokenise(folder: Path) -> list[list[int]]:
    """The prompts in tokens, as the handler makes them."""
    script = (
        "import json,sys; from pathlib import Path; from contracts.chat import Message;"
        "from model_code.serving.text import ChatTokenizer; t = ChatTokenizer(Path(sys.argv[1]));"
        "print(json.dumps([t.encode(t.render([Message(role='user', content=q)])) for q in sys.argv[2:]]))"
    )
    questions = [question(number) for number in range(len(TOPICS))]
    command = [PYTHON, "-c", script, str(folder), *questions]
    done = subprocess.run(
        command, cwd=REPOSITORY, check=True, capture_output=True, text=True, timeout=START_SECONDS
    )
    return list(json.loads(done.stdout))


def peak_megabytes(pid: int) -> float:
    """VmHWM of a process and of its children: an engine may compute in a process of its own."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    own = next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)
    threads = Path(f"/proc/{pid}/task").iterdir()
    children = {int(child) for thread in threads for child in (thread / "children").read_text().split()}
    return own + sum(peak_megabytes(child) for child in children)


def measure(systems: Sequence[System], levels: Sequence[int], rounds: int, tokens: int) -> list[Sample]:
    """Every system at every level in every round; the order shifts by one each round."""
    samples = []
    for system in systems:
        system.turn(1, 4)  # first-use costs are the start's, not the round's
    for number in range(rounds):
        shift = number % len(systems)
        for level in levels:
            for system in [*systems[shift:], *systems[:shift]]:
                samples.append(system.turn(level, tokens))
                rate = samples[-1].tokens_per_second
                print(f"  round {number + 1}: {system.name:24} at {level:3} {rate:7.1f} token/s", flush=True)
    return samples


def table(samples: Sequence[Sample], systems: Sequence[System], levels: Sequence[int]) -> str:
    """Markdown: medians per system and level."""
    head = " | ".join(f"{level} clients, token/s (TTFT p50 / p95 ms)" for level in levels)
    lines = [f"| system | start s | peak MB | {head} |", "|---|---|---|" + "---|" * len(levels)]
    for system in systems:
        cells = []
        for level in levels:
            own = [
                sample for sample in samples if (sample.system, sample.concurrency) == (system.name, level)
            ]
            rate = statistics.median(sample.tokens_per_second for sample in own)
            first = sorted(1000 * value for sample in own for value in sample.first_token)
            late = first[min(len(first) - 1, int(0.95 * len(first)))]
            cells.append(f"{rate:.0f} ({statistics.median(first):.0f} / {late:.0f})")
        figures = f"{system.start_seconds:.1f} | {system.peak_megabytes():.0f}"
        lines.append(f"| {system.name} | {figures} | {' | '.join(cells)} |")
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """What the figures belong to."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "load_at_start": os.getloadavg()[0],
        "python": platform.python_version(),
        "kernel": platform.release(),
    }


def main() -> None:
    """Prepare the model, start every system, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of a prepared model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--levels", type=int, nargs="+", default=[1, 4, 16, 32])
    parser.add_argument("--engines", nargs="+", default=["openvino", "transformers"])
    parser.add_argument(
        "--slow-peers", action="store_true", help="also generate(), one at a time and batched"
    )
    options = parser.parse_args()
    description = machine()
    with ExitStack() as stack:
        prompts = tokenise(options.model)
        peers = ["openvino-raw", *(["one-at-a-time", "static-batch"] if options.slow_peers else [])]
        systems: list[System] = [Handler(engine, options.model, stack) for engine in options.engines]
        systems += [stack.enter_context(Peer(name, options.model, prompts)) for name in peers]
        samples = measure(systems, options.levels, options.rounds, options.tokens)
        text = table(samples, systems, options.levels)
    RESULTS.mkdir(parents=True, exist_ok=True)
    content = {"machine": description, "options": {**vars(options), "model": options.model.name}}
    content["samples"] = [asdict(sample) for sample in samples]
    (RESULTS / "serving.json").write_text(json.dumps(content, indent=1) + "\n")
    title = (
        f"{description['cpu']}, {description['cores']} cores, load {description['load_at_start']:.1f} "
        f"at start; medians of {options.rounds} interleaved rounds, {options.tokens} tokens per answer"
    )
    (RESULTS / "serving.md").write_text(f"{title}\n\n{text}\n")
    print(text)


if __name__ == "__main__":
    main()
