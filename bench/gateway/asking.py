"""Asking a door or a model over kept-alive connections, and taking the time. Standard library only."""

from __future__ import annotations

import concurrent.futures
import http.client
import json
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field

PROMPT = "Name three trees that keep their leaves in winter."
TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Target:
    """Where to ask: the chat route's address, and the key if one is needed."""

    url: str
    model: str
    key: str = ""
    more_headers: tuple[tuple[str, str], ...] = ()

    @property
    def headers(self) -> dict[str, str]:
        """Of each request."""
        key = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        return {"Content-Type": "application/json", **key, **dict(self.more_headers)}

    def body(self, *, stream: bool) -> bytes:
        """The one question."""
        messages = [{"role": "user", "content": PROMPT}]
        asked = {"model": self.model, "messages": messages, "max_tokens": 16}
        return json.dumps(asked | ({"stream": True} if stream else {})).encode()


@dataclass
class Asker:
    """One connection to a target."""

    target: Target
    _connection: http.client.HTTPConnection = field(init=False)
    _path: str = field(init=False)

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.target.url)
        self._connection = http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT_SECONDS)
        self._path = parts.path

    def first_token(self) -> float:
        """Seconds until the first piece of text of a streamed answer. Raises RuntimeError for a refusal."""
        body, headers = self.target.body(stream=True), self.target.headers
        started = time.perf_counter()
        self._connection.request("POST", self._path, body, headers)
        reply = self._connection.getresponse()
        first: float | None = None
        while line := reply.readline():
            if first is None and line.startswith(b"data: {") and _has_text(line):
                first = time.perf_counter() - started
        if reply.status != 200 or first is None:
            raise RuntimeError(f"{self.target.url} answered {reply.status} without text")
        return first

    def whole(self) -> float:
        """Seconds of one whole answer. Raises RuntimeError for a refusal."""
        body, headers = self.target.body(stream=False), self.target.headers
        started = time.perf_counter()
        self._connection.request("POST", self._path, body, headers)
        reply = self._connection.getresponse()
        answer = reply.read()
        took = time.perf_counter() - started
        if reply.status != 200:
            raise RuntimeError(f"{self.target.url} answered {reply.status}: {answer[:300]!r}")
        return took

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()


def _has_text(line: bytes) -> bool:
    return any(choice["delta"].get("content") for choice in json.loads(line[6:])["choices"])


def sequential(targets: Mapping[str, Target], runs: int, requests: int) -> dict[str, list[list[float]]]:
    """Milliseconds of whole answers by system, run and request: one at a time, the systems in turn.

    So gateways publish their overhead; the figure is the median over runs of their medians.
    """
    askers = {name: Asker(target) for name, target in targets.items()}
    seen: dict[str, list[list[float]]] = {name: [] for name in askers}
    for turn in range(runs + 1):
        took: dict[str, list[float]] = {name: [] for name in askers}
        for number in range(requests):
            names = list(askers) if number % 2 else list(reversed(askers))
            for name in names:
                took[name].append(1000 * askers[name].whole())
        if turn:  # the first warms all up
            for name, milliseconds in took.items():
                seen[name].append(milliseconds)
    for asker in askers.values():
        asker.close()
    return seen


def closed_loop(target: Target, requests: int, clients: int) -> float:
    """Seconds that `clients` take for this many whole answers, each asking again when it has one."""

    def ask(count: int) -> None:
        asker = Asker(target)
        for _ in range(count):
            asker.whole()
        asker.close()

    shares = [requests // clients + (number < requests % clients) for number in range(clients)]
    started = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        for done in [pool.submit(ask, share) for share in shares]:
            done.result()
    return time.perf_counter() - started
