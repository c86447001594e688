"""`make bench-smoke`: what a first user feels, measured on the running laptop cloud.

Time to first token through the whole path (API Gateway, Lambda, SageMaker Runtime, handler) beside the same
request sent straight to the handler's process, the two in turn; the steps of the last cold `make up`; and a
warm one. Figures are medians with the span of the middle half; only the ratio travels between machines.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from bench.common import command_line

REPOSITORY = Path(__file__).resolve().parents[1]
PROMPT = "Name three trees that keep their leaves in winter."
MAX_TOKENS = 8


def time_to_first_token(
    client: httpx.Client, url: str, headers: dict[str, str], body: dict[str, Any]
) -> float:
    """Seconds from sending the request to the first piece of text."""
    started = time.perf_counter()
    first = None
    with client.stream("POST", url, headers=headers, json=body) as reply:
        reply.raise_for_status()
        for line in reply.iter_lines():
            if first is None and line.startswith("data: {") and _has_text(json.loads(line[6:])):
                first = time.perf_counter() - started
    if first is None:
        raise RuntimeError(f"no text came from {url}")
    return first


def _has_text(chunk: dict[str, Any]) -> bool:
    return any(choice["delta"].get("content") for choice in chunk["choices"])


def summary(seconds: Sequence[float]) -> str:
    """Median and middle half, in milliseconds."""
    low, middle, high = (1000 * q for q in statistics.quantiles(seconds, n=4))
    return f"{middle:7.1f} ms   (middle half {low:.1f} to {high:.1f})"


def compare(outputs: dict[str, Any], rounds: int) -> None:
    """Prints the time to first token both ways, taken in turn."""
    base = outputs["aws_endpoint_url"]
    api, key = outputs["api_url"], {"Authorization": f"Bearer {outputs['api_key']}"}
    (instance,) = httpx.get(f"{base}/_evergreen/instances", timeout=10).json()[:1]
    body: dict[str, Any] = {
        "model": httpx.get(f"{api}/models", headers=key, timeout=60).json()["data"][0]["id"],
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": MAX_TOKENS,
        "stream": True,
    }
    direct: list[float] = []
    whole: list[float] = []
    with httpx.Client(timeout=120) as client:
        for turn in range(rounds + 3):
            straight = time_to_first_token(client, f"{instance['url']}/invocations", {}, body)
            through = time_to_first_token(client, f"{api}/chat/completions", key, body)
            if turn >= 3:  # the first turns warm connections and functions
                direct.append(straight)
                whole.append(through)
    ratios = sorted(w / d for w, d in zip(whole, direct, strict=True))
    print(f"time to first token, {rounds} rounds in turn, prompt of {len(PROMPT.split())} words")
    print(f"  handler alone   {summary(direct)}")
    print(f"  whole path      {summary(whole)}")
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"  ratio           {middle:7.2f}      (middle half {low:.2f} to {high:.2f}), wanted: 1.3 at most")


def steps(home: Path) -> None:
    """Prints the seconds of the last cold `make up` and of a warm one made now."""
    cold = home / "timings-cold.json"
    if cold.exists():
        times = json.loads(cold.read_text())
        print(
            f"cold make up (steps side by side where they can be): sum of steps {sum(times.values()):.0f} s"
        )
        for name, seconds in times.items():
            print(f"  {name:<24}{seconds:7.1f} s")
    subprocess.run(["make", "down"], cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL, timeout=120)
    started = time.perf_counter()
    subprocess.run(["make", "up"], cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL, timeout=900)
    print(
        f"warm make up (stopped before, environments and model there): {time.perf_counter() - started:.0f} s"
    )


def main() -> int:
    """Measures and prints; needs a laptop cloud that is up."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", type=Path, default=REPOSITORY / ".evergreen")
    parser.add_argument("--rounds", type=int, default=30)
    given = parser.parse_args()
    outputs = given.home / "outputs.json"
    if not outputs.exists():
        print("evergreen: the laptop cloud is not up: run `make up` first.", file=sys.stderr)
        return 1
    print(command_line())
    steps(given.home)
    compare(json.loads(outputs.read_text()), given.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
