"""`make evaluate`: the champion in force against the model it all began with, in one report.

Runs in the `cloud` environment; answers and scores come from the serving environment's own commands. The
held-out items are the last release's, or else prepared from the support pairs.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from contracts.artefact import MANIFEST_NAME, Manifest
from local.bringup import ENVIRONMENT, client, outputs_of, stack
from local.home import REPOSITORY, Home
from local.refresh import DATA
from operations.progress import CommandError, Step, Steps, fail

ITEMS = 120


def champion_folder(home: Home) -> Path:
    """The champion's artefact, fetched by its digest once. Raises CommandError when nothing is deployed."""
    found = stack(home, f"evergreen-{ENVIRONMENT}-serving")
    if found is None:
        raise CommandError("nothing is deployed: run `make up` first.")
    values = {p["ParameterKey"]: p["ParameterValue"] for p in found["Parameters"]}
    folder: Path = home.root / "models" / "champions" / values["ChampionModelDigest"]
    if (folder / MANIFEST_NAME).exists():
        return folder
    bucket, _, prefix = values["ChampionModelUri"].removeprefix("s3://").partition("/")
    s3 = client(home, "s3")
    body = s3.get_object(Bucket=bucket, Key=prefix + MANIFEST_NAME)["Body"].read()
    for entry in Manifest.model_validate_json(body).files:
        target = folder / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        s3.download_file(bucket, prefix + entry.path, str(target))
    (folder / MANIFEST_NAME).write_bytes(body)
    return folder


def held_out(home: Home, step: Step, work: Path, data: Path) -> Path:
    """The held-out items of a fresh preparation of the support pairs: the loop's own split, since the split
    depends on the data alone."""
    step.run(
        [home.python("serving"), "-m", "model_code.training.prepare", "--input", data, "--output", work],
        cwd=REPOSITORY,
    )
    return work / "heldout.jsonl"


def predict(home: Home, step: Step, model: Path, items: Path, output: Path) -> Path:
    """One model's answers to the held-out items, as long as the deployed loop lets them be."""
    longest = outputs_of(home, "refresh")["AnswerTokens"]
    step.run(
        [home.python("serving"), "-m", "model_code.training.predict", "--model", model, "--data", items,
         "--output", output, "--limit", str(ITEMS), "--max-new-tokens", longest],
        cwd=REPOSITORY,
        timeout=3600,
    )  # fmt: skip
    return output


def evaluate(home: Home, data: Path) -> int:
    """Prints the report's path; 0 when it was written."""
    steps = Steps(home.logs)
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    work = home.root / "reports" / f"evaluate-{stamp}"
    with steps.step("base model") as step:
        said = step.run(
            [home.python("serving"), "-m", "local.model", "--home", home.root], cwd=REPOSITORY, capture=True
        )
        base = Path(json.loads(said.strip().splitlines()[-1])["folder"])
    with steps.step("champion"):
        champion = champion_folder(home)
    with steps.step("held-out items") as step:
        items = held_out(home, step, work, data)
    with steps.step("answers of the base") as step:
        baseline = predict(home, step, base, items, work / "base.jsonl")
    with steps.step("answers of the champion") as step:
        candidate = predict(home, step, champion, items, work / "champion.jsonl")
    with steps.step("report") as step:
        step.run(
            [home.python("serving"), "-m", "evaluation", "compare", baseline, candidate, "--semantic",
             "--title", "The champion and the model it began with", "--out", work],
            cwd=REPOSITORY,
        )  # fmt: skip
    print(f"\nReport: {work / 'report.html'}")
    return 0


def main(words: list[str] | None = None) -> int:
    """Parses the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="local.evaluate")
    parser.add_argument("--data", type=Path, default=DATA, help="support pairs, jsonl")
    given = parser.parse_args(words)
    try:
        return evaluate(Home.from_environment(), given.data)
    except CommandError as problem:
        return fail(problem)


if __name__ == "__main__":
    sys.exit(main())
