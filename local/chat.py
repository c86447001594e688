"""`make chat`: streams one answer from the deployed API to the terminal. Standard library only."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator

from local.home import Home
from operations.progress import CommandError

TIMEOUT_SECONDS = 120


def read_outputs(home: Home) -> dict[str, str]:
    """The outputs of the last `make up`. Raises CommandError when there was none."""
    if not home.outputs.exists():
        raise CommandError("the laptop cloud is not up: run `make up` first.")
    outputs: dict[str, str] = json.loads(home.outputs.read_text())
    return outputs


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


def _open(url: str, api_key: str, body: bytes | None = None):  # type: ignore[no-untyped-def]
    request = urllib.request.Request(  # noqa: S310 - the address is our own output
        url, body, {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}
    )
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)  # noqa: S310
    except urllib.error.HTTPError as refused:
        text = refused.read().decode(errors="replace")
        raise CommandError(f"the API answered {refused.code}: {text}") from refused
    except (urllib.error.URLError, TimeoutError) as silent:
        raise CommandError(f"nothing answers at {url}: run `make up` first ({silent}).") from silent


def main(home: Home, prompt: str) -> int:
    """Prints one streamed answer; returns the exit code."""
    outputs = read_outputs(home)
    for piece in stream(outputs["api_url"], outputs["api_key"], prompt):
        sys.stdout.write(piece)
        sys.stdout.flush()
    print()
    return 0
