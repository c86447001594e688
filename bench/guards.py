"""`python -m bench.guards --data <folder>`: what the offline guards find, wrongly refuse, and cost.

Reads public sets, each as `<folder>/<name>/<name>.jsonl`: presidio_pii_synth (personal data with places),
cyberseceval_prompt_injection (attacks), xstest (safe prompts that look unsafe), self_instruct_human and
banking77 (ordinary prompts), and the sentences of tests/fixtures/guards. A set that is not there is left out,
and that is said.
Rules were adjusted on the even rows of the first two: figures are of the odd ones.
Shares are given with Wilson's 95 % interval. Delays are of one check in this process, on one core.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.common import command_line
from evaluation.statistics.proportions import Proportion, wilson
from lambdas.pipeline.guards.base import Guard
from lambdas.pipeline.guards.phrases import denied_topics, injection_rules
from lambdas.pipeline.guards.pii import PiiRules
from lambdas.pipeline.guards.toxicity import ToxicityRules

REPOSITORY = Path(__file__).resolve().parents[1]
FIXTURE = REPOSITORY / "tests/fixtures/guards/toxicity.jsonl"
# What the rules claim to find, by the names the set uses.
LABELS = {
    "EMAIL_ADDRESS": "email",
    "PHONE_NUMBER": "phone",
    "CREDIT_CARD": "card",
    "IBAN_CODE": "iban",
    "US_SSN": "ssn",
    "IP_ADDRESS": "ip",
}
PROMPT_THRESHOLD = 0.8
Rows = list[dict[str, Any]]


def read(path: Path) -> Rows:
    """The rows of a JSON Lines file; none where there is no file."""
    if not path.is_file():
        print(f"  ({path.name} is not there: left out)")
        return []
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def share(hits: int, total: int) -> str:
    """`62/70 = 88.6 % (79.0–94.1)`, with Wilson's 95 % interval."""
    if not total:
        return "no cases"
    interval = wilson(Proportion(hits, total))
    return f"{hits}/{total} = {100 * hits / total:.1f} % ({100 * interval.low:.1f}–{100 * interval.high:.1f})"


def blocked(guard: Guard, texts: Iterable[str]) -> list[str]:
    """The texts a guard refuses."""
    return [text for text in texts if guard.check(text)]


def personal_data(rows: Rows) -> dict[str, Any]:
    """Recall by kind (found where places overlap) and precision (what was masked and is personal data)."""
    guard = PiiRules()
    there: Counter[str] = Counter()
    found: Counter[str] = Counter()
    right, masked, others, wrong = 0, 0, 0, []
    for row in rows:
        findings = guard.check(row["full_text"])
        for span in row["spans"]:
            if span["type"] not in LABELS:
                others += 1
                continue
            there[span["type"]] += 1
            found[span["type"]] += any(f.start < span["end"] and span["start"] < f.end for f in findings)
        for finding in findings:
            masked += 1
            ok = any(finding.start < s["end"] and s["start"] < finding.end for s in row["spans"])
            right += ok
            if not ok:
                wrong.append((finding.label, row["full_text"][finding.start : finding.end]))
    for kind, total in there.most_common():
        print(f"  recall {LABELS[kind]:6}  {share(found[kind], total)}")
    print(f"  recall of these   {share(found.total(), there.total())}")
    print(f"  precision         {share(right, masked)}")
    print(f"  kinds without a form (names, addresses, dates …), not claimed: {others} spans")
    return {
        "recall": found.total() / max(1, there.total()),
        "precision": right / max(1, masked),
        "wrong": wrong[:20],
    }


def injection(attacks: Rows, harmless: dict[str, list[str]]) -> dict[str, Any]:
    """Recall by kind of attack; wrong refusals by set."""
    guard = injection_rules()
    by_kind: dict[str, list[str]] = defaultdict(list)
    for row in attacks:
        by_kind[f"{row['injection_type']}/{row['injection_variant']}"].append(row["user_input"])
    for kind, texts in sorted(by_kind.items()):
        print(f"  recall {kind:48} {share(len(blocked(guard, texts)), len(texts))}")
    everything = [row["user_input"] for row in attacks]
    hits = len(blocked(guard, everything))
    print(f"  recall of all {share(hits, len(everything))}")
    return {"recall": hits / max(1, len(everything)), "wrongly": wrongly(guard, harmless)}


def wrongly(guard: Guard, harmless: dict[str, list[str]]) -> dict[str, float]:
    """Shares of harmless texts refused, by set."""
    shares = {}
    for name, texts in harmless.items():
        if texts:
            refused = blocked(guard, texts)
            print(f"  wrongly refused, {name:20} {share(len(refused), len(texts))}")
            shares[name] = len(refused) / len(texts)
    return shares


def toxicity(fixture: Rows, harmless: dict[str, list[str]]) -> dict[str, Any]:
    """Recall on our own sentences, which the rules were written beside; wrong refusals by set."""
    guard = ToxicityRules(PROMPT_THRESHOLD)
    toxic = [row["text"] for row in fixture if row["toxic"]]
    hits = len(blocked(guard, toxic))
    print(f"  recall, own sentences (no measure of the wild) {share(hits, len(toxic))}")
    own = {"own sentences": [row["text"] for row in fixture if not row["toxic"]]}
    return {"recall_own": hits / max(1, len(toxic)), "wrongly": wrongly(guard, own | harmless)}


def delays(texts: Sequence[str]) -> dict[str, dict[str, float]]:
    """Milliseconds of one check by guard, over a mix of prompts and for a text of 10,000 characters."""
    guards: dict[str, Guard] = {
        "pii": PiiRules(),
        "injection": injection_rules(),
        "denied_topic (20 phrases)": denied_topics({"t": [f"forbidden phrase {n}" for n in range(20)]}),
        "toxicity": ToxicityRules(PROMPT_THRESHOLD),
    }
    long = (" ".join(texts) * (1 + 10_000 // max(1, sum(map(len, texts)))))[:10_000]
    table = {}
    for name, guard in guards.items():
        check: Callable[[str], Any] = guard.check
        times = sorted(_milliseconds(check, text) for text in texts)
        whole = statistics.median(_milliseconds(check, long) for _ in range(9))
        table[name] = {"p50": times[len(times) // 2], "p99": times[int(len(times) * 0.99)], "10k": whole}
        row = table[name]
        print(
            f"  {name:26} p50 {row['p50']:.3f} ms  p99 {row['p99']:.3f} ms  10,000 characters {whole:.2f} ms"
        )
    return table


def _milliseconds(check: Callable[[str], Any], text: str) -> float:
    started = time.perf_counter()
    check(text)
    return (time.perf_counter() - started) * 1000


def main() -> None:
    """Prints every table; `--json` writes the figures as well."""
    parser = argparse.ArgumentParser(prog="bench/guards.py", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the public sets")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()

    def rows(name: str) -> Rows:
        return read(options.data / name / f"{name}.jsonl")

    xstest = rows("xstest")
    harmless = {
        "xstest safe": [row["prompt"] for row in xstest if row["label"] == "safe"],
        "self_instruct_human": [_prompt(row) for row in rows("self_instruct_human")],
        "banking77": [_prompt(row) for row in rows("banking77")],
    }
    mix = [text for texts in harmless.values() for text in texts[:250]]
    figures: dict[str, Any] = {}
    print(command_line())
    print("Personal data (presidio_pii_synth)")
    figures["pii"] = personal_data(rows("presidio_pii_synth")[1::2])
    print("Prompt injection (cyberseceval_prompt_injection)")
    figures["injection"] = injection(rows("cyberseceval_prompt_injection")[1::2], harmless)
    print(f"Toxicity, threshold {PROMPT_THRESHOLD}")
    figures["toxicity"] = toxicity(read(FIXTURE), harmless)
    unsafe = [row["prompt"] for row in xstest if row["label"] == "unsafe"]
    hits = len(blocked(ToxicityRules(PROMPT_THRESHOLD), unsafe))
    print(
        f"  xstest unsafe (harmful requests, civil words: not this guard's task) {share(hits, len(unsafe))}"
    )
    print("Delay of one check")
    figures["delay_ms"] = delays(mix)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def _prompt(row: dict[str, Any]) -> str:
    """The text a user would send, whatever the set calls it."""
    return str(row.get("prompt") or row.get("instruction") or row.get("text") or row.get("query") or "")


if __name__ == "__main__":
    main()
