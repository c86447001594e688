"""Load on an OpenAI server over HTTP, closed loop and open loop, and what each request felt.

The client reads sockets itself, and as seldom as it can: on a machine with few cores a comfortable one would
take a share of the server's time that no user's client takes. Knows nothing of which server answers.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

REQUEST_SECONDS = 300.0
_REST_BYTES = 1 << 20
_TEXT = re.compile(rb'"(?:content|text)":\s*"[^"]')
_FINISHED = re.compile(rb'"finish_reason":\s*"')
_USAGE = re.compile(rb'"completion_tokens":\s*(\d+)')
_TOPICS = ("a lighthouse", "bread", "the moon", "a clever fox", "rain", "an old clock", "bees", "a violin")
_FILLER = "The lamp turned slowly and the sea was calm that night. "
_FILLER_TOKENS = 12
_LONGEST_PROMPT, _LONGEST_ANSWER = 512, 96  # a trace of long-context users, cut to what small machines hold


@dataclass(frozen=True)
class ScheduledRequest:
    """One request: when it is due (seconds from the start), what it says and how long its answer is."""

    due: float
    text: str
    tokens: int


@dataclass(frozen=True)
class RequestTiming:
    """What one request felt, in seconds from when it was due; `failure` is empty when it was answered."""

    first: float
    last: float
    tokens: int
    failure: str = ""

    @property
    def per_token(self) -> float:
        """Seconds per token after the first."""
        return (self.last - self.first) / (self.tokens - 1) if self.tokens > 1 else 0.0


@dataclass(frozen=True)
class ServerTarget:
    """Where a server takes chat requests: base URL, path, and the model's name there."""

    url: str
    path: str
    model: str


def question(number: int) -> str:
    """The fixed prompt of client `number`."""
    return f"Write a long story about {_TOPICS[number % len(_TOPICS)]}."


def questions() -> list[str]:
    """All fixed prompts."""
    return [question(number) for number in range(len(_TOPICS))]


async def closed_loop(target: ServerTarget, clients: int, tokens: int) -> tuple[float, list[RequestTiming]]:
    """`clients` ask at once; returns the seconds until the last was answered, and the answers."""
    began = time.perf_counter()
    asks = [ScheduledRequest(0.0, question(number), tokens) for number in range(clients)]
    answers = await asyncio.gather(*(_ask(target, ask, began) for ask in asks))
    return time.perf_counter() - began, list(answers)


async def open_loop(
    target: ServerTarget, asks: Sequence[ScheduledRequest]
) -> tuple[float, list[RequestTiming]]:
    """Requests go out when they are due, whether or not earlier ones are answered."""
    began = time.perf_counter()

    async def one(ask: ScheduledRequest) -> RequestTiming:
        await asyncio.sleep(max(0.0, began + ask.due - time.perf_counter()))
        return await _ask(target, ask, began + ask.due)

    answers = await asyncio.gather(*(one(ask) for ask in asks))
    return time.perf_counter() - began, list(answers)


def poisson(rate: float, seconds: float, tokens: int, seed: int) -> list[ScheduledRequest]:
    """Arrivals at `rate` per second, independent of each other."""
    draw, due = random.Random(seed), 0.0  # noqa: S311 - load, not secrets
    asks: list[ScheduledRequest] = []
    while (due := due + draw.expovariate(rate)) < seconds:
        asks.append(ScheduledRequest(due, question(len(asks)), tokens))
    return asks


def trace(file: Path, tokens_per_second: float, seconds: float) -> list[ScheduledRequest]:
    """Arrivals and lengths of a recorded trace, its time stretched to a mean of `tokens_per_second`, prompts
    included: its requests are many times as long as the fixed ones, so their number would tell nothing.

    A line is `{"t": seconds, "prompt_tokens": n, "output_tokens": n}`; lengths are cut to what a small
    machine can hold. Raises ValueError for a trace that is too short.
    """
    budget, rows = tokens_per_second * seconds, []
    with file.open() as lines:
        for line in lines:
            row = json.loads(line)
            prompt = min(row["prompt_tokens"], _LONGEST_PROMPT)
            answer = max(1, min(row["output_tokens"], _LONGEST_ANSWER))
            rows.append((row["t"], prompt, answer))
            budget -= prompt + answer
            if budget <= 0:
                break
    if budget > 0 or len(rows) < 2 or not rows[-1][0] > rows[0][0]:
        raise ValueError(f"{file} holds {len(rows)} requests, too few for {seconds:g} s")
    began, ended = rows[0][0], rows[-1][0]
    return [
        ScheduledRequest((t - began) * seconds / (ended - began), _prompt(prompt, number), answer)
        for number, (t, prompt, answer) in enumerate(rows)
    ]


def _prompt(tokens: int, number: int) -> str:
    return f"{number}. " + _FILLER * max(1, tokens // _FILLER_TOKENS) + question(number)


async def _ask(target: ServerTarget, ask: ScheduledRequest, due: float) -> RequestTiming:
    try:
        async with asyncio.timeout(REQUEST_SECONDS):
            return await _exchange(target, ask, due)
    except (OSError, TimeoutError, ValueError) as error:
        passed = time.perf_counter() - due
        return RequestTiming(passed, passed, 0, f"{type(error).__name__}: {error}"[:200])


class _Stream(asyncio.Protocol):
    """Notes what came and when; it is read once the stream has ended, when nobody's time is lost."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.pieces: list[tuple[float, bytes]] = []
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """ScheduledRequest."""
        self._socket: socket.socket = transport.get_extra_info("socket")
        cast(asyncio.WriteTransport, transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        """Note a piece."""
        self.pieces.append((time.perf_counter(), data))
        if _TEXT.search(data):
            # Between the first token and the end no time is looked at, and a client on another machine would
            # take nothing from this one: the kernel gathers the rest and wakes us when the stream ends.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, _REST_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        """The server has closed the connection, as it was asked to."""
        if not self.over.done():
            self.over.set_result(None) if exc is None else self.over.set_exception(exc)


async def _exchange(target: ServerTarget, ask: ScheduledRequest, due: float) -> RequestTiming:
    parts = urlsplit(target.url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    request = _request(target, ask, f"{host}:{port}")
    loop = asyncio.get_running_loop()
    transport, stream = await loop.create_connection(lambda: _Stream(request), host, port)
    try:
        await stream.over
    finally:
        transport.close()
    whole = b"".join(data for _, data in stream.pieces)
    if b" 200 " not in whole.split(b"\r\n", 1)[0]:
        raise ValueError(whole[:400].decode(errors="replace"))
    # Some servers end without OpenAI's last event.
    if b"[DONE]" not in whole and not _FINISHED.search(whole):
        raise ValueError("the stream broke off: " + whole[-120:].decode(errors="replace"))
    last = stream.pieces[-1][0] - due
    first = next((at - due for at, data in stream.pieces if _TEXT.search(data)), last)
    told = _USAGE.findall(whole)
    return RequestTiming(first, last, int(told[-1]) if told else len(_TEXT.findall(whole)))


def _request(target: ServerTarget, ask: ScheduledRequest, host: str) -> bytes:
    content: dict[str, Any] = {
        "model": target.model,
        "messages": [{"role": "user", "content": ask.text}],
        "max_tokens": ask.tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    body = json.dumps(content).encode()
    head = (
        f"POST {target.path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
