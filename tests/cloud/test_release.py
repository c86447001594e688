"""A better model takes over: the whole loop by the command a person runs, with users who rate throughout.

The tiny random model cannot answer anything, but it can learn one word. So the data ask for that word after
prompts that share nothing else, and everything from training to promotion has something real to show.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cloud.test_refresh import champion, ledger, serves_alone
from tests.support.laptop import Laptop

ANSWER = "Evergreen"
GROUPS, ROWS_PER_GROUP, PROMPT_WORDS = 130, 2, 12
SYLLABLES = ("ba", "ce", "di", "fo", "gu", "ha", "ke", "li", "mo", "nu", "pa", "re", "si", "to", "vu", "we")
# A machine that is busy with other tests may answer several times slower for a while. What a latency margin
# does is tested where time is made up (tests/unit/release); here it must not decide.
WIDE_LATENCY_RATIO = 50.0
# Users come when they are due, answered or not. Two cores that run other tests, training and two fleets may
# answer fewer than ten a second for minutes: users would wait in line until their clients give up.
REQUESTS_PER_SECOND = 4
ENDS_WITHIN_SECONDS = 1200


def pairs(seed: int) -> str:
    """Support pairs as JSON lines: prompts of made-up words, each from a user of its own, one answer."""
    chance = random.Random(seed)
    lines = []
    for number in range(GROUPS * ROWS_PER_GROUP):
        words = ("".join(chance.choices(SYLLABLES, k=3)) for _ in range(PROMPT_WORDS))
        row = {
            "id": f"word-{number:03d}",
            "user": f"user-{number:03d}",
            "group": f"group-{number // ROWS_PER_GROUP:03d}",
            "intent": "word",
            "prompt": f"{' '.join(words)}?",
            "answer": ANSWER,
        }
        lines.append(json.dumps(row) + "\n")
    return "".join(lines)


@contextmanager
def analysis_ignores_latency(laptop: Laptop) -> Iterator[None]:
    """Widens the latency margins of the deployed analysis for the length of the block."""
    functions = laptop.aws("lambda")
    (analysis,) = [
        one
        for one in functions.list_functions()["Functions"]
        if one.get("Handler") == "lambdas.release.analysis_handler.handler"
    ]
    before = analysis["Environment"]["Variables"]
    wide = {
        name: json.dumps(json.loads(before[name]) | {"maximum_latency_ratio": WIDE_LATENCY_RATIO})
        for name in ("GATE", "CANARY")
    }
    name = analysis["FunctionName"]
    functions.update_function_configuration(FunctionName=name, Environment={"Variables": before | wide})
    try:
        yield
    finally:
        functions.update_function_configuration(FunctionName=name, Environment={"Variables": before})


@pytest.mark.timeout(ENDS_WITHIN_SECONDS + 60)
def test_a_better_model_takes_over_and_no_user_notices(laptop: Laptop, tmp_path: Path) -> None:
    before = champion(laptop)
    data = tmp_path / "pairs.jsonl"
    data.write_text(pairs(seed=7))
    with analysis_ignores_latency(laptop):
        done = laptop.command(
            "refresh", "--data", str(data), "--rate", str(REQUESTS_PER_SECOND), timeout=ENDS_WITHIN_SECONDS
        )
    assert done.returncode == 0, done.stdout + done.stderr

    release = next(line.split(":")[0] for line in done.stdout.splitlines() if line.startswith("release-"))
    steps = [(row["step"], row["outcome"]) for row in ledger(laptop, f"RELEASE#{release}")]
    assert ("gate", "promote") in steps, done.stdout
    assert [outcome for step, outcome in steps if step == "verdict"] == ["promote", "promote"], done.stdout
    assert steps[-1] == ("release_lock", "promoted"), done.stdout
    assert ledger(laptop, f"LOCK#{laptop.outputs['endpoint_name']}") == []

    seen = json.loads((laptop.home / "logs" / "traffic.log").read_text())
    assert seen["failures"] == {}
    assert seen["sent"] == seen["answered"]
    assert set(seen["ratings"]) == {"champion", "challenger"}

    assert champion(laptop) != before
    assert serves_alone(laptop)
    answer = laptop.openai().chat.completions.create(
        model=laptop.model, messages=[{"role": "user", "content": "Hi"}], max_tokens=4, temperature=0
    )
    assert ANSWER in (answer.choices[0].message.content or "")
