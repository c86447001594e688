"""Asks a deployed API one question and streams the answer. Standard library only.

The one part of `operations` that the laptop cloud imports too, for `make chat` and its first answer.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPResponse

from operations.progress import CommandError

TIMEOUT_SECONDS = 120


def stream(api_url: str, api_key: str, prompt: str, *, max_tokens: int = 256) -> Iterator[str]:
    """Yields the answer's pieces as they arrive. Raises CommandError with the API's own message."""
    body = {
        "model": model_name(api_url, api_key),
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
        "stream": True,
    }
    with _open(f"{api_url}/chat/completions", api_key, json.dumps(body).encode()) as reply:
        for line in reply:
            text = line.decode().strip()
            if not text.startswith("data: ") or text == "data: [DONE]":
                continue
            event = json.loads(text[len("data: ") :])
            if "error" in event:
                raise CommandError(event["error"]["message"])
            for choice in event["choices"]:
                yield choice["delta"].get("content") or ""


def model_name(api_url: str, api_key: str) -> str:
    """The first model that `GET /v1/models` lists."""
    with _open(f"{api_url}/models", api_key) as reply:
        return str(json.load(reply)["data"][0]["id"])


def _open(url: str, api_key: str, body: bytes | None = None) -> HTTPResponse:
    request = urllib.request.Request(  # noqa: S310 - the address is a stack's own output
        url, body, {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}
    )
    try:
        reply: HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)  # noqa: S310
    except urllib.error.HTTPError as refused:
        text = refused.read().decode(errors="replace")
        raise CommandError(f"the API answered {refused.code}: {text}") from refused
    except (urllib.error.URLError, TimeoutError) as silent:
        raise CommandError(f"nothing answers at {url}: is it deployed? ({silent})") from silent
    return reply
