"""Models that an operator adds to the deployed API: an alias of its own model, and one behind another URL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import httpx

from tests.cloud.test_callers import chat
from tests.support import fake_provider
from tests.support.fake_provider import HELLO, stream
from tests.support.laptop import REPOSITORY, Laptop
from tests.support.waiting import until


def operate(laptop: Laptop, *words: str, given: str | None = None) -> str:
    """What the operator's command prints."""
    environment = os.environ | {
        "AWS_ACCESS_KEY_ID": laptop.outputs["account"],
        "AWS_SECRET_ACCESS_KEY": "laptop",
        "AWS_DEFAULT_REGION": laptop.outputs["region"],
        "AWS_ENDPOINT_URL": laptop.outputs["aws_endpoint_url"],
    }
    return subprocess.run(
        [sys.executable, "-m", "operations", "models", *words, "--env", "local"],
        cwd=REPOSITORY, env=environment, input=given, capture_output=True, text=True, timeout=120, check=True,
    ).stdout  # fmt: skip


def listed(laptop: Laptop) -> dict[str, dict[str, Any]]:
    reply = httpx.get(f"{laptop.api_url}/models", headers=laptop.headers, timeout=60).raise_for_status()
    return {card["id"]: card for card in reply.json()["data"]}


def test_models_come_and_go_without_a_deployment(laptop: Laptop) -> None:
    with fake_provider.running() as provider:
        provider.replies = [stream(*HELLO)]
        target = {"kind": "openai", "base_url": provider.url, "model": "far-1"}
        own = json.loads(operate(laptop, "show", "--name", laptop.model))
        try:
            operate(laptop, "put", "--file", "-", given=json.dumps(own | {"aliases": ["gpt-4o"]}))
            operate(laptop, "put", "--file", "-", given=json.dumps({"name": "far", "target": target}))
            until(lambda: {"gpt-4o", "far"} <= set(listed(laptop)), "the models are listed")
            assert listed(laptop)["gpt-4o"]["alias_of"] == laptop.model
            until(lambda: chat(laptop, "Hi", model="far").status_code == 200, "the hosted model answers")
            answer = chat(laptop, "Hi", model="far").json()
            assert (answer["model"], answer["choices"][0]["message"]["content"]) == ("far", "Hello")
            answer = chat(laptop, "Hi", model="gpt-4o").json()
            assert answer["model"] == laptop.model
        finally:
            for name in ("far", laptop.model):
                operate(laptop, "remove", "--name", name)
        until(lambda: chat(laptop, "Hi", model="far").status_code == 404, "the hosted model is gone")
    until(lambda: "gpt-4o" not in listed(laptop), "the alias is gone")
