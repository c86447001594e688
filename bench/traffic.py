"""`make traffic`: simulated users who ask, read and rate, against any deployment of the API.

Open loop: requests arrive when they are due (a Poisson process), whether or not earlier ones are answered,
and latency counts from the scheduled arrival. SIGTERM or Ctrl-C ends the load and lets requests under way
finish. A user knows the right answer and rates what came: the score is the
answer's token F1 against it, and a thumb goes up from a threshold on. So ratings follow from real answers.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import random
import signal
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from bench.common import command_line
from evaluation.metrics.qa import token_f1

REPOSITORY = Path(__file__).resolve().parents[1]
DEFAULT_DATA = REPOSITORY / "tests" / "fixtures" / "support" / "support_pairs.jsonl"
REQUEST_TIMEOUT_SECONDS = 60.0
MOST_UNDER_WAY = 2048


@dataclass(frozen=True)
class Load:
    """What the users do: `rate` requests per second for `seconds`, of which a share is rated."""

    rate: float = 2.0
    seconds: float = 60.0
    users: int = 400  # few, and the share of a sticky split that they make up is a lottery
    rated: float = 0.9
    thumb_threshold: float = 0.4
    max_tokens: int = 48
    seed: int = 1


@dataclass
class TrafficReport:
    """What came of it; times in seconds from the scheduled arrival."""

    sent: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    first_token: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    ratings: dict[str, list[float]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Counts, latency percentiles in milliseconds and the mean score by variant."""
        return {
            "sent": self.sent,
            "answered": len(self.whole),
            "failures": dict(self.failures),
            "time_to_first_token_ms": _percentiles(self.first_token),
            "duration_ms": _percentiles(self.whole),
            "ratings": {
                variant: {"n": len(scores), "mean_score": round(statistics.fmean(scores), 4)}
                for variant, scores in sorted(self.ratings.items())
            },
        }


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    if len(seconds) < 2:
        return {}
    cuts = statistics.quantiles(seconds, n=100)
    return {name: round(1000 * cuts[index], 1) for name, index in (("p50", 49), ("p95", 94), ("p99", 98))}


class Users:
    """Drives one deployment. `stop` ends the load early and lets requests under way finish."""

    def __init__(self, api_url: str, api_key: str, items: Sequence[dict[str, str]], load: Load) -> None:
        self.outcome = TrafficReport()
        self.stop = asyncio.Event()
        self._load = load
        # As many as can come while one waits: with fewer, a pause of the server would silence the users.
        self._most = min(MOST_UNDER_WAY, math.ceil(load.rate * REQUEST_TIMEOUT_SECONDS) + 1)
        self._items = items
        self._random = random.Random(load.seed)  # noqa: S311 - a simulation, not a secret
        self._client = httpx.AsyncClient(
            base_url=api_url,
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=REQUEST_TIMEOUT_SECONDS,
            limits=httpx.Limits(max_connections=self._most),
        )
        self._model = ""

    async def run(self) -> TrafficReport:
        """Sends the whole load and waits for what is under way."""
        async with self._client:
            listing = (await self._client.get("models")).raise_for_status().json()
            self._model = listing["data"][0]["id"]
            for ending in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(ending, self.stop.set)
            started, due, running = time.monotonic(), 0.0, set[asyncio.Task[None]]()
            while due < self._load.seconds and not self.stop.is_set():
                pause = started + due - time.monotonic()
                if pause > 0:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self.stop.wait(), pause)
                self.outcome.sent += 1
                if len(running) >= self._most:
                    self.outcome.failures["not sent: too many under way"] += 1
                else:
                    task = asyncio.create_task(self._one(started + due, self._choose(), self._user()))
                    running.add(task)
                    task.add_done_callback(running.discard)
                due += self._random.expovariate(self._load.rate)
            if running:
                await asyncio.wait(running)
        return self.outcome

    def _choose(self) -> dict[str, str]:
        return self._random.choice(self._items)

    def _user(self) -> str:
        return f"user-{self._random.randrange(self._load.users):03d}"

    async def _one(self, scheduled: float, item: dict[str, str], user: str) -> None:
        try:
            answer, request_id, variant = await self._ask(scheduled, item["prompt"], user)
            if self._random.random() < self._load.rated:
                await self._rate(request_id, variant, token_f1(item["answer"], answer))
        except httpx.HTTPStatusError as refused:
            self.outcome.failures[f"status {refused.response.status_code}"] += 1
        except (httpx.HTTPError, ValueError) as broken:
            self.outcome.failures[type(broken).__name__] += 1

    async def _ask(self, scheduled: float, prompt: str, user: str) -> tuple[str, str, str]:
        """The answer's text, its request id and the variant that gave it. Raises ValueError on an error
        event or a stream that ends without `[DONE]`."""
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": self._load.max_tokens,
            "temperature": 0,
            "stream": True,
            "user": user,
        }
        pieces: list[str] = []
        first: float | None = None
        done = False
        async with self._client.stream("POST", "chat/completions", json=body) as reply:
            reply.raise_for_status()
            async for line in reply.aiter_lines():
                if line == "data: [DONE]":
                    done = True
                elif line.startswith("data: "):
                    event = json.loads(line[6:])
                    if "error" in event:
                        raise ValueError(event["error"]["message"])
                    text = "".join(choice["delta"].get("content") or "" for choice in event["choices"])
                    if text and first is None:
                        first = time.monotonic() - scheduled
                    pieces.append(text)
        if not done:
            raise ValueError("the stream ended early")
        self.outcome.whole.append(time.monotonic() - scheduled)
        if first is not None:
            self.outcome.first_token.append(first)
        return "".join(pieces), reply.headers["x-request-id"], reply.headers["x-evergreen-variant"]

    async def _rate(self, request_id: str, variant: str, score: float) -> None:
        thumbs = "up" if score >= self._load.thumb_threshold else "down"
        body = {"request_id": request_id, "thumbs": thumbs, "score": round(score, 4)}
        # The record is written after the answer has been sent: a quick rating may come too early
        for pause in (0.2, 0.5, 1.0, 2.0):
            await asyncio.sleep(pause)
            reply = await self._client.post("feedback", json=body)
            if reply.status_code != 404:
                break
        reply.raise_for_status()
        self.outcome.ratings.setdefault(variant, []).append(score)


def read_items(path: Path) -> list[dict[str, str]]:
    """Rows with `prompt` and `answer`. Raises ValueError naming file and line."""
    items = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            row = json.loads(line)
            items.append({"prompt": str(row["prompt"]), "answer": str(row["answer"])})
        except (ValueError, KeyError, TypeError) as wrong:
            raise ValueError(
                f"{path}:{number}: every line needs a prompt and an answer ({wrong!r})"
            ) from wrong
    if not items:
        raise ValueError(f"{path} holds no rows")
    return items


def main() -> int:
    """Drives the load and prints the outcome as JSON; 1 when a request failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--outputs", type=Path, default=REPOSITORY / ".evergreen" / "outputs.json")
    parser.add_argument("--api-url", help="with --api-key: any deployment (default: the laptop's outputs)")
    parser.add_argument("--api-key")
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA)
    parser.add_argument("--rate", type=float, default=Load.rate, help="requests per second")
    parser.add_argument("--seconds", type=float, default=Load.seconds)
    parser.add_argument("--users", type=int, default=Load.users)
    parser.add_argument("--seed", type=int, default=Load.seed)
    given = parser.parse_args()
    try:
        items = read_items(given.data)
        if given.api_url:
            target = {"api_url": given.api_url, "api_key": given.api_key or ""}
        else:
            target = json.loads(given.outputs.read_text())
    except FileNotFoundError as missing:
        print(f"evergreen: {missing.filename} is missing: run `make up` first.", file=sys.stderr)
        return 1
    except ValueError as wrong:
        print(f"evergreen: {wrong}", file=sys.stderr)
        return 1
    load = Load(rate=given.rate, seconds=given.seconds, users=given.users, seed=given.seed)
    outcome = asyncio.run(Users(target["api_url"], target["api_key"], items, load).run())
    print(json.dumps({"command": command_line(), **outcome.as_json()}, indent=2))
    return 1 if outcome.failures else 0


if __name__ == "__main__":
    sys.exit(main())
