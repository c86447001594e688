"""`python -m bench.metrics`: ROUGE of `evaluation.metrics.rouge` beside `rouge-score`, on answers of a support desk.

Both score the same pairs in turn within every round, so a busy moment of the machine affects both. Pairs are the
answers of tests/fixtures/support with a fifth of their words left out, singly ("answers") and six joined by lines
("summaries"). Seconds are processor time of one pass over the set with all four kinds of ROUGE; figures are the
median over rounds with the range. Import cost is the processor time of a fresh interpreter that imports the module,
over that of one that imports nothing. Installed size counts the files of the package and of what it requires.
Runs in the dev environment, which holds both. Prints Markdown and writes `bench/results/metrics.json` and `.md`.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

from rouge_score.rouge_scorer import RougeScorer

from bench.common import RESULTS, command_line, machine, spread
from evaluation.metrics.rouge import KINDS, rouge

REPOSITORY = Path(__file__).resolve().parents[1]
DATA = REPOSITORY / "tests" / "fixtures" / "support" / "support_pairs.jsonl"
OURS, PEER = "evaluation.metrics.rouge", "rouge_score.rouge_scorer"
ANSWERS, SUMMARY_LINES = 120, 6
LEFT_OUT = 0.2
"""Share of words that a prediction lacks."""

Pair = tuple[str, str]
"""Reference and prediction."""


def pairs() -> dict[str, list[Pair]]:
    """The sets by name; the same on every run."""
    generator = random.Random(1)  # noqa: S311 - data of a benchmark, not a secret
    rows = [json.loads(line) for line in DATA.read_text(encoding="utf-8").splitlines()]
    chosen = generator.sample([str(row["answer"]) for row in rows], ANSWERS)
    answers = [(text, _shortened(generator, text)) for text in chosen]
    summaries = [
        ("\n".join(reference for reference, _ in part), "\n".join(prediction for _, prediction in part))
        for part in (answers[at : at + SUMMARY_LINES] for at in range(0, ANSWERS, SUMMARY_LINES))
    ]
    return {"answers": answers, "summaries": summaries}


def _shortened(generator: random.Random, text: str) -> str:
    return " ".join(word for word in text.split() if generator.random() > LEFT_OUT)


def ours(items: Sequence[Pair]) -> list[float]:
    """F1 of every kind for every pair."""
    return [rouge(kind, reference, prediction).f1 for reference, prediction in items for kind in KINDS]


def peer(items: Sequence[Pair]) -> list[float]:
    """The same by `rouge-score`."""
    scorer = RougeScorer(list(KINDS))
    scores = (scorer.score(reference, prediction) for reference, prediction in items)
    return [float(one[kind].fmeasure) for one in scores for kind in KINDS]


def timed(work: Callable[[Sequence[Pair]], list[float]], items: Sequence[Pair]) -> float:
    """Processor seconds of one pass."""
    started = time.process_time()
    work(items)
    return time.process_time() - started


def import_seconds(statement: str) -> float:
    """Processor seconds of a fresh interpreter that runs one statement."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", statement], cwd=REPOSITORY, check=True, timeout=300)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def installed_megabytes(package: str) -> float:
    """Size of a package and of all that it requires, in megabytes; numpy is left out: evaluation has it."""
    names, seen = [package], {"numpy"}
    total = 0
    while names:
        name = names.pop()
        if name in seen:
            continue
        seen.add(name)
        found = distribution(name)
        total += sum(file.locate().stat().st_size for file in found.files or () if file.locate().is_file())
        required = [
            line for line in found.requires or () if "extra ==" not in line and "platform" not in line
        ]
        names += [match.group().lower() for line in required if (match := re.match(r"[A-Za-z0-9_.-]+", line))]
    return total / 1e6


def measure(rounds: int) -> dict[str, Any]:
    """All figures, in the shape that is written."""
    sets = pairs()
    for items in sets.values():
        if ours(items) != peer(items):
            raise RuntimeError("both must give the same figures before their times mean anything")
    seconds: dict[str, dict[str, list[float]]] = {name: {"ours": [], "peer": []} for name in sets}
    imports: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(rounds):
        for name, items in sets.items():
            seconds[name]["ours"].append(timed(ours, items))
            seconds[name]["peer"].append(timed(peer, items))
        nothing = import_seconds("pass")
        imports["ours"].append(import_seconds(f"import {OURS}") - nothing)
        imports["peer"].append(import_seconds(f"import {PEER}") - nothing)
    return {
        "command": command_line(),
        "machine": machine(),
        "versions": {name: version(name) for name in ("rouge-score", "nltk", "numpy")},
        "rounds": rounds,
        "pairs": {name: len(items) for name, items in sets.items()},
        "words_per_reference": {
            name: round(statistics.mean(len(reference.split()) for reference, _ in items), 1)
            for name, items in sets.items()
        },
        "seconds_per_pass": {
            name: {who: spread(values) for who, values in both.items()} for name, both in seconds.items()
        },
        "ratio_peer_to_ours": {
            name: spread(theirs / own for own, theirs in zip(both["ours"], both["peer"], strict=True))
            for name, both in seconds.items()
        },
        "import_seconds": {who: spread(values) for who, values in imports.items()},
        "installed_megabytes": {"peer": round(installed_megabytes("rouge-score"), 1)},
    }


def table(figures: dict[str, Any]) -> str:
    """Markdown of the figures."""

    def cell(values: dict[str, float], factor: float = 1000) -> str:
        low, middle, high = (f"{factor * values[name]:.3g}" for name in ("low", "median", "high"))
        return f"{middle} ({low}–{high})"

    lines = [
        f"`{figures['command']}`; {figures['machine']}; {figures['rounds']} rounds in turn, median (range).",
        "",
        "| set | pairs | words per reference | ours, ms | rouge-score, ms | rouge-score ÷ ours |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, count in figures["pairs"].items():
        both = figures["seconds_per_pass"][name]
        lines.append(
            f"| {name} | {count} | {figures['words_per_reference'][name]} | {cell(both['ours'])} "
            f"| {cell(both['peer'])} | {cell(figures['ratio_peer_to_ours'][name], 1)} |"
        )
    imports = figures["import_seconds"]
    lines += [
        "",
        f"Import over a bare interpreter: ours {cell(imports['ours'])} ms, rouge-score {cell(imports['peer'])} ms. "
        f"Installed size of rouge-score with what it requires, numpy apart: "
        f"{figures['installed_megabytes']['peer']} MB.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    figures = measure(options.rounds)
    text = table(figures)
    (RESULTS / "metrics.json").write_text(json.dumps(figures, indent=1) + "\n")
    (RESULTS / "metrics.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
