"""Gateways alike: the same stub behind each, each with its HTTP server, and no cloud to emulate.

    python -m bench.gateway.peers [--litellm] [--portkey] [--runs 5] [--requests 200]

Whole answers, asked for one at a time, the systems in turn: what each adds to the stub's own, median over
runs of their medians. And processor time per answer, of all of a system's processes. Ours are the HTTP server
of the laptop cloud, the authorizer and the inference function (`bench/gateway/front.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from bench.common import REPOSITORY, command_line, machine, spread
from bench.gateway import litellm, peer_portkey
from bench.gateway.asking import Target, closed_loop, sequential
from bench.gateway.function import bundles
from bench.gateway.processes import cpu_clock, descendants, free_port, running
from bench.gateway.stub import MODEL
from local.home import Home

VENVS = Path(os.environ.get("EVERGREEN_VENVS", REPOSITORY / ".evergreen" / "venvs"))
START_SECONDS = 60.0


def systems(
    options: argparse.Namespace, url: str, folder: Path, stack: ExitStack
) -> dict[str, tuple[Target, int]]:
    """Each system's address and the process that it began with."""
    ours = f"http://127.0.0.1:{(port := free_port())}"
    words = [sys.executable, "-m", "bench.gateway.front", str(port), url, json.dumps(bundles(folder))]
    python = str(VENVS / "lambda" / "bin" / "python")
    variables = {"PYTHONPATH": str(REPOSITORY), "EVERGREEN_BENCH_PYTHON": python}
    started = running(words, folder / "front.log", variables, ours, START_SECONDS)
    target = Target(f"{ours}/v1/chat/completions", MODEL, "eg-" + "0" * 43)
    found = {"Evergreen": (target, stack.enter_context(started).pid)}
    if options.litellm:
        found["LiteLLM's proxy"] = stack.enter_context(litellm.proxy(litellm.environment(), url, folder))
    if options.portkey:
        found["Portkey's gateway"] = stack.enter_context(
            peer_portkey.proxy(Home.from_environment(), url, folder)
        )
    return found


def cpu_ms(target: Target, pid: int, requests: int) -> float:
    """Processor time per answer, in milliseconds, of a process and all below it."""
    closed_loop(target, 20, 1)
    pids = descendants(pid)
    before = sum(cpu_clock(one) for one in pids)
    closed_loop(target, requests, 1)
    return 1000 * (sum(cpu_clock(one) for one in pids) - before) / requests


def main() -> int:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(prog="python -m bench.gateway.peers", description=__doc__)
    parser.add_argument("--litellm", action="store_true", help="measure LiteLLM's proxy")
    parser.add_argument("--portkey", action="store_true", help="measure Portkey's gateway")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--requests", type=int, default=200, help="answers of one system in one run")
    options = parser.parse_args()
    title = f"`{command_line()}`: {machine()}, Python {platform.python_version()}"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evergreen-bench-")))
        url = f"http://127.0.0.1:{(port := free_port())}"
        words = [sys.executable, "-m", "bench.gateway.stub", str(port)]
        stack.enter_context(running(words, folder / "stub.log", {"PYTHONPATH": str(REPOSITORY)}, url, 30))
        live = systems(options, url, folder, stack)
        direct = {"direct": Target(f"{url}/v1/chat/completions", MODEL)}
        seen = sequential(
            direct | {name: target for name, (target, _) in live.items()}, options.runs, options.requests
        )
        used: dict[str, list[float]] = {name: [] for name in live}
        for _ in range(options.runs):
            for name, (target, pid) in live.items():
                used[name].append(cpu_ms(target, pid, options.requests))
    alone = statistics.median(statistics.median(run) for run in seen["direct"])
    print(f"{title}\n\n| system | added to a whole answer, ms: p50; p99 | processor time per answer, ms |")
    print("|---|---|---|")
    for name, figures in used.items():
        p50 = spread(statistics.median(run) - alone for run in seen[name])
        p99 = spread(statistics.quantiles(run, n=100)[98] - alone for run in seen[name])
        cpu = spread(figures)
        cells = [
            f"{each['median']:.2f} ({each['low']:.2f} to {each['high']:.2f})" for each in (p50, p99, cpu)
        ]
        print(f"| {name} | {cells[0]}; {cells[1]} | {cells[2]} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
