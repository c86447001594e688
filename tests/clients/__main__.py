"""`make clients`: every client against the running laptop cloud, as a table of clients and features.

python -m tests.clients [client …]      # all where none is named; exits with 1 where a cell is ✗

The table is written to docs/clients.md. Where clients are named, the other rows are those of their last run.
"""

from __future__ import annotations

import json
import sys
import time

from local.home import REPOSITORY, Home
from tests.clients import table
from tests.clients.programs import PROGRAMS, Access, drive, last_seen

DOCUMENT = REPOSITORY / "docs" / "clients.md"


def main(words: list[str]) -> int:
    """Drive the named clients, or all; print and write the table; return the exit code."""
    if unknown := set(words) - PROGRAMS.keys():
        print(
            f"evergreen: no client {', '.join(sorted(unknown))} (of: {', '.join(PROGRAMS)})", file=sys.stderr
        )
        return 2
    home = Home.from_environment()
    if not home.outputs.exists():
        print(f"evergreen: no laptop cloud in {home.root}: run `make up` first", file=sys.stderr)
        return 2
    outputs = json.loads(home.outputs.read_text(encoding="utf-8"))
    access = Access.of(outputs["api_url"], outputs["api_key"])
    for name in words or PROGRAMS:
        began = time.monotonic()
        drive(home, name, access)
        problems = table.judged(name, last_seen(home, name)).problems
        said = f"✗ {', '.join(problems)}" if problems else "✓"
        print(f"{name:24} {time.monotonic() - began:6.1f} s  {said}", file=sys.stderr, flush=True)
    rows = [table.judged(name, last_seen(home, name)) for name in PROGRAMS]
    text = table.markdown(rows)
    print(text)
    DOCUMENT.write_text(table.document(text), encoding="utf-8")
    return 1 if any(row.problems for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
