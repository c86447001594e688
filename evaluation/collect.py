"""Asking an OpenAI-compatible API the questions of an evaluation set, to get a predictions file.

Kept apart from everything pure: this module opens connections and measures time. Bounded in every direction:
so many requests at once, a deadline per request, a few retries where the server asks to come back.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import ValidationError

from contracts.chat import ChatChunk, ChatRequest, StreamOptions
from contracts.messages import Message
from contracts.predictions import Prediction

_RETRIED = frozenset({429, 503})
_LONGEST_PAUSE_SECONDS = 30.0
_MAX_LINE_BYTES = 1_000_000


@dataclass(frozen=True)
class ApiTarget:
    """Where and how to ask. `api_url` ends in `/v1`; `timeout` is for one whole request, in seconds;
    without `max_tokens` the endpoint's own limit holds."""

    api_url: str
    api_key: str
    model: str
    system_prompt: str | None = None
    max_tokens: int | None = None
    temperature: float = 0.0
    timeout: float = 120.0
    concurrency: int = 4
    retries: int = 2

    def __post_init__(self) -> None:
        parts = urlsplit(self.api_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"the API's address must be an http or https URL, not '{self.api_url}'")


class _ApiError(Exception):
    """The server answered with an error; `pause` is how long it asked to wait, None where it did not."""

    def __init__(self, message: str, pause: float | None) -> None:
        super().__init__(message)
        self.pause = pause


def collect(target: ApiTarget, items: Sequence[Prediction], done: Callable[[Prediction], None]) -> None:
    """Ask every item's prompt; `done` gets each finished item, in the order they finish, on this thread.

    A request that fails becomes an item with `error`; only programming mistakes raise.
    """
    with ThreadPoolExecutor(max_workers=target.concurrency) as pool:
        futures = [pool.submit(ask, target, item) for item in items]
        try:
            for future in as_completed(futures):
                done(future.result())
        finally:
            for future in futures:
                future.cancel()


def ask(target: ApiTarget, item: Prediction) -> Prediction:
    """One item with its answer, times and token count, or with the reason why there is none."""
    for attempt in range(target.retries + 1):
        try:
            return item.model_copy(update=_answer(target, item.prompt))
        except _ApiError as refusal:
            if refusal.pause is None or attempt == target.retries:
                return _failed(item, str(refusal))
            time.sleep(min(refusal.pause, _LONGEST_PAUSE_SECONDS))
        except TimeoutError:
            return _failed(item, f"no answer within {target.timeout:g} s")
        except (OSError, http.client.HTTPException) as error:
            return _failed(item, f"connection failed: {error or type(error).__name__}")
        except (ValidationError, ValueError) as error:
            return _failed(item, f"the reply is not a chat stream: {str(error).splitlines()[0]}")
    raise AssertionError("the last attempt returns")


def _failed(item: Prediction, reason: str) -> Prediction:
    return item.model_copy(update={"prediction": "", "error": reason})


def _answer(target: ApiTarget, prompt: str) -> dict[str, object]:
    started = time.perf_counter()
    deadline = started + target.timeout
    connection = _connect(target)
    try:
        connection.request("POST", *_request(target, prompt))
        response = connection.getresponse()
        if response.status != 200:
            pause = _pause(response) if response.status in _RETRIED else None
            detail = response.read(2_000).decode(errors="replace").strip()
            raise _ApiError(f"HTTP {response.status}: {detail[:300]}", pause)
        text, first, tokens, reason = [], None, None, None
        for chunk in _chunks(response, deadline):
            content = chunk.choices[0].delta.content if chunk.choices else None
            if content:
                first = first or time.perf_counter()
                text.append(content)
            if chunk.choices:
                reason = chunk.choices[0].finish_reason or reason
            if chunk.usage is not None:
                tokens = chunk.usage.completion_tokens
        ended = time.perf_counter()
    finally:
        connection.close()
    return {
        "prediction": "".join(text),
        "ttft_ms": None if first is None else 1000 * (first - started),
        "duration_ms": 1000 * (ended - started),
        "completion_tokens": tokens,
        "finish_reason": reason,
    }


def _connect(target: ApiTarget) -> http.client.HTTPConnection:
    parts = urlsplit(target.api_url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=target.timeout)


def _request(target: ApiTarget, prompt: str) -> tuple[str, bytes, dict[str, str]]:
    """Path, body and headers."""
    system = [Message(role="system", content=target.system_prompt)] if target.system_prompt else []
    request = ChatRequest(
        model=target.model,
        messages=[*system, Message(role="user", content=prompt)],
        max_tokens=target.max_tokens,
        temperature=target.temperature,
        stream=True,
        stream_options=StreamOptions(include_usage=True),
    )
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {target.api_key}"}
    path = urlsplit(target.api_url).path.rstrip("/") + "/chat/completions"
    return path, request.model_dump_json(exclude_none=True).encode(), headers


def _chunks(response: http.client.HTTPResponse, deadline: float) -> Iterator[ChatChunk]:
    """The stream's chunks. Raises TimeoutError past the deadline, ValueError where `[DONE]` is missing."""
    while line := response.readline(_MAX_LINE_BYTES):
        if time.perf_counter() > deadline:
            raise TimeoutError
        if not line.startswith(b"data:"):
            continue
        data = line.removeprefix(b"data:").strip()
        if data == b"[DONE]":
            return
        body = json.loads(data)
        if "error" in body:
            raise _ApiError(f"error on the stream: {body['error'].get('message', body['error'])}", None)
        yield ChatChunk.model_validate(body)
    raise ValueError("it ended without [DONE]")


def _pause(response: http.client.HTTPResponse) -> float:
    try:
        return max(0.0, float(response.headers.get("Retry-After", "1")))
    except ValueError:
        return 1.0
