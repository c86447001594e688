"""Load on a deployed environment for a while, and what callers got: `python -m operations.proof.load`.

A closed loop of a few callers: it shows that answers keep coming while the endpoint changes. What an endpoint
can bear is the benchmark's question.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from operations.chat import KEY_VARIABLE, api_url
from operations.chat_client import stream
from operations.progress import CommandError
from operations.target import open_target, run

PROMPT = "In one sentence: why is the sky blue?"
MAX_TOKENS = 32
_REASONS_KEPT = 5


@dataclass
class LoadResult:
    """Answers and failures; times in milliseconds."""

    answers: int = 0
    failures: int = 0
    reasons: list[str] = field(default_factory=list)
    first_token_ms: list[float] = field(default_factory=list)
    total_ms: list[float] = field(default_factory=list)

    def as_dict(self) -> dict[str, object]:
        """Counts and percentiles."""
        return {
            "answers": self.answers,
            "failures": self.failures,
            "reasons": self.reasons,
            "first_token_ms_p50": percentile(self.first_token_ms, 0.5),
            "first_token_ms_p95": percentile(self.first_token_ms, 0.95),
            "total_ms_p50": percentile(self.total_ms, 0.5),
            "total_ms_p95": percentile(self.total_ms, 0.95),
        }


def percentile(values: Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile; None without values."""
    if not values:
        return None
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)


def load(
    ask: Callable[[], Iterator[str]],
    callers: int,
    over: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
) -> LoadResult:
    """Asks again and again with so many callers until `over`; each finishes its answer."""
    result, lock = LoadResult(), threading.Lock()

    def call() -> None:
        while not over():
            started, first = clock(), None
            try:
                for piece in ask():
                    if piece and first is None:
                        first = clock()
                if first is None:
                    raise CommandError("the answer was empty")
            except (CommandError, OSError, ValueError) as problem:
                with lock:
                    result.failures += 1
                    if len(result.reasons) < _REASONS_KEPT:
                        result.reasons.append(str(problem))
                continue
            with lock:
                result.answers += 1
                result.first_token_ms.append(1000 * (first - started))
                result.total_ms.append(1000 * (clock() - started))

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; prints one line of JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m operations.proof.load", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--env", required=True)
    parser.add_argument("--callers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--until", type=Path, help="go on until this file is there")
    options = parser.parse_args(arguments)

    def work() -> int:
        url, key = api_url(open_target(options.env)), os.environ[KEY_VARIABLE]
        deadline = time.monotonic() + options.seconds

        def over() -> bool:
            return bool(options.until.exists()) if options.until else time.monotonic() >= deadline

        result = load(lambda: stream(url, key, PROMPT, max_tokens=MAX_TOKENS), options.callers, over)
        print(json.dumps(result.as_dict()))
        return 0

    return run(work)


if __name__ == "__main__":
    raise SystemExit(main())
