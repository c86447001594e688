"""Branch coverage by package, held against the floors in pyproject.toml; exits with 1 below one.

    python -m tests.support.coverage_floors      # after the lanes have left .coverage.* files

Counts only what the unit and template lanes run in their own process: what the laptop cloud runs in processes
of its own is on top of that and is not counted.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def measured(report: dict[str, dict[str, dict[str, dict[str, int]]]]) -> dict[str, float]:
    """Percent of lines and branches run, by top-level package, from `coverage json`'s report."""
    seen, total = defaultdict[str, int](int), defaultdict[str, int](int)
    for file, entry in report["files"].items():
        package, summary = file.partition("/")[0], entry["summary"]
        seen[package] += summary["covered_lines"] + summary.get("covered_branches", 0)
        total[package] += summary["num_statements"] + summary.get("num_branches", 0)
    return {package: 100 * seen[package] / total[package] for package in sorted(total) if total[package]}


def misses(found: dict[str, float], floors: dict[str, float]) -> list[str]:
    """The packages below their floor, and those that have none or were not measured."""
    unknown = [f"{package} has no floor in pyproject.toml" for package in found if package not in floors]
    absent = [f"{package} was not measured" for package in floors if package not in found]
    below = [
        f"{package}: {found[package]:.1f} % is below its floor of {floor} %"
        for package, floor in floors.items()
        if package in found and found[package] < floor
    ]
    return unknown + absent + below


def main() -> int:
    """Combine what the lanes left, print the table, compare."""
    floors = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["evergreen"]["coverage-floors"]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "coverage.json"
        for words in (["combine", "--keep", "--quiet"], ["json", "--quiet", "-o", str(target)]):
            subprocess.run([sys.executable, "-m", "coverage", *words], cwd=ROOT, check=True, timeout=300)
        found = measured(json.loads(target.read_text()))
    print("branch coverage   measured   floor")
    for package, share in found.items():
        print(f"  {package:15} {share:6.1f} %   {floors.get(package, 0):4} %")
    problems = misses(found, floors)
    for problem in problems:
        print(f"evergreen: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
