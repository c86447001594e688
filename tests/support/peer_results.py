"""Keeps what servers made of the contract's suite: `make peers` writes tests/contract/peer_results.json.

    python -m tests.support.peer_results <report of pytest's --junitxml> …

Per server: how many cases of each test passed, how many differ for which declared reason or are not asked,
and which failed. A server that no report names keeps what stands in the file.
"""

from __future__ import annotations

import collections
import datetime
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tests.support.peers import PEERS

RESULTS = Path(__file__).parents[1] / "contract" / "peer_results.json"


def results() -> dict[str, Any]:
    """What is recorded, by server."""
    return dict(json.loads(RESULTS.read_text())) if RESULTS.exists() else {}


def read(reports: Iterable[Path]) -> dict[str, Any]:
    """The same from reports of pytest; of a test that stands in several, the last counts."""
    found: dict[str, dict[str, Any]] = {}
    cases = {
        case.get("name", ""): case for path in reports for case in ElementTree.parse(path).iter("testcase")
    }
    for name, case in cases.items():
        if not (server := _server(name)):
            continue
        row = found.setdefault(
            server,
            {key: collections.Counter() for key in ("passed", "differs", "not_asked")} | {"failed": []},
        )
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            row["failed"].append(name)
        elif skipped is None:
            row["passed"][name.partition("[")[0]] += 1
        else:
            kind = "differs" if skipped.get("type") == "pytest.xfail" else "not_asked"
            row[kind][skipped.get("message", "")] += 1
    return found


def _server(name: str) -> str | None:
    """The server in a test's brackets; its name may be a part of another one's."""
    return max((one for one in PEERS if one in name.partition("[")[2]), key=len, default=None)


def main(paths: list[str]) -> int:
    """Write the file; returns the exit code, 1 where a test failed that no difference is declared for."""
    today = str(datetime.datetime.now(datetime.UTC).date())
    new = {server: {"recorded": today, **row} for server, row in read(map(Path, paths)).items()}
    RESULTS.write_text(json.dumps(results() | new, indent=1, sort_keys=True) + "\n")
    for server, row in new.items():
        counts = {kind: sum(row[kind].values()) for kind in ("passed", "differs", "not_asked")}
        print(server, counts, "failed:", *row["failed"] or ["none"])
    return 1 if any(row["failed"] for row in new.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
