"""`make bench`, part "gateway": what the inference function adds to a call, and what it takes.

Everything compared is measured in one run, in turn, so that a busy moment of the machine hits all alike: the
time to first token through the deployed API beside the same call to the stub itself; the delay of each guard;
a cold start beside importing LiteLLM's proxy; whole answers, asked for one at a time, and processor time per
answer beside LiteLLM's proxy and Portkey's gateway, with the same stub behind all.

A peer's processor time is that of its process, HTTP server included. Ours is told twice: of the two
functions, which is what runs on AWS behind API Gateway, and with the whole emulator, which is the HTTP server
here and all of the cloud besides. Writes `bench/results/gateway.json` and a table beside it. Without
`--litellm` and `--portkey` there is no peer.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.common import command_line
from bench.gateway import cold, guards, litellm, peer_portkey
from bench.gateway.asking import Asker, Target, closed_loop, sequential
from bench.gateway.door import REPOSITORY, Door, open_door
from bench.gateway.processes import cpu_seconds, descendants, free_port, running
from bench.gateway.stub import MODEL
from local.home import Home

RESULTS = REPOSITORY / "bench" / "results"
WARM_UP = 20
Counted = dict[str, Callable[[], list[int]]]
"""Sets of processes by name."""
VENVS = Path(os.environ.get("EVERGREEN_VENVS", REPOSITORY / ".evergreen" / "venvs"))
WANTED = {
    "overhead p50": "≤ 5 ms",
    "overhead p99": "≤ 10 ms",
    "processor time per answer, functions": "≤ 2.2 ms",
    "cold start": "≤ 200 ms",
    "cold start / LiteLLM": "< 0.5",
    "bundle": "≤ 25 MB",
}


def overhead(door: Target, direct: Target, peer: Target | None, rounds: int) -> dict[str, list[float]]:
    """Milliseconds to first token by system, asked in turn over one connection each."""
    askers = {"direct": Asker(direct), "door": Asker(door)} | ({"litellm": Asker(peer)} if peer else {})
    seen: dict[str, list[float]] = {name: [] for name in askers}
    for turn in range(rounds + WARM_UP):
        for name, asker in askers.items():
            took = asker.first_token()
            if turn >= WARM_UP:
                seen[name].append(1000 * took)
    for asker in askers.values():
        asker.close()
    return seen


def efficiency(
    target: Target, counted: Mapping[str, Callable[[], list[int]]], requests: int, clients: int
) -> dict[str, float]:
    """Answers per second by the clock; milliseconds of processor time per answer, by set of processes."""
    closed_loop(target, clients * 4, clients)
    before = {name: cpu_seconds(pids()) for name, pids in counted.items()}
    seconds = closed_loop(target, requests, clients)
    used = {name: cpu_seconds(pids()) - before[name] for name, pids in counted.items()}
    return {"per_second": requests / seconds} | {
        name: 1000 * taken / requests for name, taken in used.items()
    }


def measure(options: argparse.Namespace, stack: ExitStack) -> dict[str, Any]:
    """Every figure."""
    scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evergreen-bench-")))
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    bundle = cold.build(python, platform.machine(), scratch / "host", host=True)
    shipped = cold.build("python3.14", "arm64", scratch / "shipped", host=False)
    peer_python = litellm.environment() if options.litellm else None
    found: dict[str, Any] = {
        "bundle_mb": cold.zipped_megabytes(shipped),
        "guards": guards.delays(options.rounds),
    }
    found["cold_ms"] = cold.starts(bundle, VENVS / "lambda" / "bin" / "python", peer_python, options.starts)

    url = f"http://127.0.0.1:{(port := free_port())}"
    words = [sys.executable, "-m", "bench.gateway.stub", str(port)]
    stack.enter_context(running(words, scratch / "stub.log", {"PYTHONPATH": str(REPOSITORY)}, url, 30))
    door: Door = stack.enter_context(open_door(url))
    peers: dict[str, tuple[Target, int]] = {}
    if peer_python:
        peers["LiteLLM's proxy"] = stack.enter_context(litellm.proxy(peer_python, url, scratch))
    if options.portkey:
        peers["Portkey's gateway"] = stack.enter_context(
            peer_portkey.proxy(Home.from_environment(), url, scratch)
        )
    direct = Target(f"{url}/v1/chat/completions", MODEL)
    litellms = peers.get("LiteLLM's proxy", (None, 0))[0]
    found["first_token_ms"] = overhead(door.target, direct, litellms, options.rounds)
    asked = {"direct": direct, "Evergreen": door.target} | {name: peer for name, (peer, _) in peers.items()}
    found["sequential_ms"] = sequential(asked, options.turns, options.requests)
    systems: dict[str, tuple[Target, Counted]] = {
        "Evergreen": (
            door.target,
            {"functions": door.functions, "functions and emulator": lambda: [door.cloud, *door.functions()]},
        )
    }
    for name, (peer, pid) in peers.items():
        systems[name] = peer, {name: functools.partial(descendants, pid)}
    rates: dict[str, list[dict[str, float]]] = {name: [] for name in systems}
    for _ in range(options.turns):
        for name, (target, counted) in systems.items():
            rates[name].append(efficiency(target, counted, options.requests, options.clients))
    found["rates"] = rates
    return found


def rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    """What is measured and its figure, by the names of WANTED where something is wanted of it."""
    times, starts = found["first_token_ms"], found["cold_ms"]
    direct = statistics.median(times["direct"])

    def added(name: str, share: float) -> str:
        ordered = sorted(times[name])
        return f"{ordered[min(len(ordered) - 1, int(share * len(ordered)))] - direct:.1f} ms"

    table = [("overhead p50", added("door", 0.5)), ("overhead p99", added("door", 0.99))]
    if "litellm" in times:
        table.append(
            ("overhead of LiteLLM's proxy p50, p99", f"{added('litellm', 0.5)}, {added('litellm', 0.99)}")
        )
    for name, delay in found["guards"].items():
        figures = f"{delay['first_ms']:.2f} ms, {delay['whole_ms']:.2f} ms"
        table.append((f"guard {name}: to the first piece, to the end", figures))
    start = statistics.median(starts["inference"])
    table.append(("cold start", f"{start:.0f} ms"))
    if "litellm" in starts:
        theirs = statistics.median(starts["litellm"])
        table.append(("cold start / LiteLLM", f"{start / theirs:.2f} (LiteLLM: {theirs:.0f} ms)"))
    table.append(("bundle", f"{found['bundle_mb']:.1f} MB"))
    medians = {
        name: [statistics.median(run) for run in runs] for name, runs in found["sequential_ms"].items()
    }
    alone = statistics.median(medians.pop("direct"))
    for name, runs in medians.items():
        added_ms, low, high = statistics.median(runs) - alone, min(runs) - alone, max(runs) - alone
        table.append((f"added to a whole answer, {name}", f"{added_ms:.1f} ms ({low:.1f} to {high:.1f})"))
    for name, turns in found["rates"].items():
        clock = statistics.median(turn["per_second"] for turn in turns)
        table.append((f"answers per second by the clock, {name}", f"{clock:.0f}"))
        for counted in turns[0].keys() - {"per_second"}:
            used = statistics.median(turn[counted] for turn in turns)
            row = f"processor time per answer, {counted}"
            table.append((row, f"{used:.1f} ms ({1000 / used:.0f} answers per second and core)"))
    return table


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.gateway", description=__doc__.splitlines()[0])
    parser.add_argument("--litellm", action="store_true", help="measure LiteLLM's proxy beside it")
    parser.add_argument("--portkey", action="store_true", help="measure Portkey's gateway beside it")
    parser.add_argument("--rounds", type=int, default=300, help="calls each for the time to first token")
    parser.add_argument("--starts", type=int, default=7, help="cold starts each")
    parser.add_argument(
        "--turns", type=int, default=3, help="turns of each system for the rate, and runs of whole answers"
    )
    parser.add_argument("--requests", type=int, default=300, help="answers of one turn or run")
    parser.add_argument("--clients", type=int, default=4)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with ExitStack() as stack:
        found = measure(options, stack)
    lines = ["| measured | figure | wanted |", "|---|---|---|"]
    lines += [f"| {name} | {figure} | {WANTED.get(name, '')} |" for name, figure in rows(found)]
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    title = f"`{command_line()}`: {machine}, load {load:.1f} at the start"
    RESULTS.mkdir(parents=True, exist_ok=True)
    content = {"machine": title, "options": vars(options), **found}
    (RESULTS / "gateway.json").write_text(json.dumps(content, indent=1) + "\n")
    text = "\n".join(lines)
    (RESULTS / "gateway.md").write_text(f"{title}; {options.rounds} rounds in turn\n\n{text}\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
