"""What a chat may cost: requests to AWS, connections, threads and passes over its data, counted, not timed.

Each bound is what a chat takes now; `python -m bench.gateway.function` tells what that is in processor time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bench.gateway.cold import VARIABLES
from contracts import chat as chat_contract
from lambdas.aws import client as aws
from lambdas.runtime.http_connection import HttpConnection
from tests.support.front_door import AUTHORIZER, Door, chat

ROOT = Path(__file__).resolve().parents[3]
LIMITED = {**AUTHORIZER, "key_id": "0123456789ab", "tokens_per_day": "100000", "requests_per_second": "100.0"}
NOT_FOR_CHATS = {"asyncio", "botocore", "boto3", "concurrent", "cryptography", "http", "jwt", "ssl"}
"""What no chat needs, and a cold start would wait for."""
MOST_MODULES = 120
"""Of ours: each takes half a millisecond of it."""


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each costly thing has been done."""
    seen: Counter[str] = Counter()

    def count(owner: Any, name: str, label: Any) -> None:
        original = getattr(owner, name)

        def counting(*args: Any, **options: Any) -> Any:
            seen[label(args) if callable(label) else label] += 1
            return original(*args, **options)

        monkeypatch.setattr(owner, name, counting)

    def operation(args: tuple[Any, ...]) -> str:
        headers: Mapping[str, str] = args[3]
        return headers.get("x-amz-target", "InvokeEndpoint").rpartition(".")[2]

    count(aws.Client, "send", operation)
    count(HttpConnection, "connect", "connection")
    count(HttpConnection, "send", "packet")
    count(threading.Thread, "start", "thread")
    count(chat_contract, "current_form", "validation")
    return seen


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("caller", "before_the_answer"),
    [(AUTHORIZER, {"InvokeEndpoint": 1}), (LIMITED, {"UpdateItem": 1, "InvokeEndpoint": 1})],
    ids=["any key", "key with limits"],
)
def test_a_chat_makes_these_requests_and_no_more(
    door: Door, counted: Counter[str], caller: dict[str, Any], before_the_answer: dict[str, int], stream: bool
) -> None:
    for _ in range(2):
        door.ask(chat(stream=stream), **caller)  # connections are opened and the split is read
    ours = {"connection", "thread", "packet", "validation"}
    counted.clear()
    reply = door.start(chat(stream=stream), **caller)
    body = iter(reply.body)
    next(body)
    assert {name: n for name, n in counted.items() if name not in ours} == before_the_answer
    assert counted["validation"] == 1
    list(body)
    reply.after()
    afterwards = Counter({"UpdateItem": 1, "PutItem": 1})
    requests = Counter(before_the_answer) + afterwards
    assert {name: n for name, n in counted.items() if name not in ours} == dict(requests)
    assert counted["connection"] == counted["thread"] == 0
    assert counted["packet"] == requests.total()


def test_a_cold_start_imports_nothing_that_no_chat_needs() -> None:
    code = "import sys, lambdas.runtime.streaming, lambdas.inference.handler; print(*sys.modules)"
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True, timeout=300, check=True
    )
    modules = done.stdout.split()
    assert NOT_FOR_CHATS & set(modules) == set()
    assert "lambdas.pipeline.moderation" in modules  # so the list is that of the function
    assert sum(module.startswith(("lambdas.", "contracts.")) for module in modules) <= MOST_MODULES


def test_the_rules_of_moderation_wait_for_the_first_request_for_one() -> None:
    code = (
        "import re; seen = []; compiled = re.compile\n"
        "re.compile = lambda pattern, *rest: seen.append(str(pattern)) or compiled(pattern, *rest)\n"
        "import lambdas.inference.handler; print(sum('developer mode' in each for each in seen))"
    )
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True, timeout=300, check=True
    )
    assert done.stdout.split() == ["0"]
