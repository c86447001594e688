"""`status` and `releases` of the deployed laptop cloud: the commands that an operator runs on AWS."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from typing import Any

import httpx

from tests.support.laptop import EMBEDDING, REPOSITORY, Laptop
from tests.support.waiting import until


def operate(laptop: Laptop, *words: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "operations", *words, "--env", "local", "--json"],
        cwd=REPOSITORY,
        env=laptop.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_status_tells_what_serves(laptop: Laptop) -> None:
    status = operate(laptop, "status")

    assert {stack["name"] for stack in status["stacks"]} >= {
        f"evergreen-local-{part}" for part in ("data", "serving", "gateway", "monitoring", "refresh")
    }
    endpoint, further = status["endpoints"]
    assert endpoint["name"] == laptop.outputs["endpoint_name"]
    assert further["name"] == f"evergreen-local-serving-{EMBEDDING}"
    assert endpoint["config_is_the_stacks"] is True
    assert endpoint["variants"][0]["name"] == "champion"
    assert status["keys"] >= 1
    assert status["unread"] == []
    assert status["set_token_prices"] is None
    assert status["token_cost"]["usd_per_instance_hour"] > 0


def test_a_callers_trace_is_found_from_the_api_to_the_container(laptop: Laptop) -> None:
    trace, parent = secrets.token_hex(16), secrets.token_hex(8)
    reply = httpx.post(
        f"{laptop.api_url}/chat/completions",
        headers=laptop.headers | {"traceparent": f"00-{trace}-{parent}-01"},
        json={"model": laptop.model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4},
        timeout=60,
    )
    assert reply.status_code == 200
    laptop.settled(reply.headers["x-request-id"])

    def found() -> Any:
        lines = operate(laptop, "trace", "--id", trace)
        return lines if any("queue_ms" in line for line in lines) else None

    lines = until(found, "the container's line is in its log")
    (request,) = [line for line in lines if line.get("event") == "request"]
    (container,) = [line for line in lines if "queue_ms" in line]
    assert {request["trace_id"], container["trace_id"]} == {trace}
    assert request["request_id"] == container["request_id"] == reply.headers["x-request-id"]
    # Between the two lies the call's own span, which is sent where settings say so.
    assert len({parent, request["span_id"], container["parent_span_id"], container["span_id"]}) == 4


def test_releases_tell_the_version_that_serves(laptop: Laptop) -> None:
    serves = operate(laptop, "status")["endpoints"][0]["variants"][0]["model_version"]

    assert operate(laptop, "releases", "list")["serves"] == serves
