"""`make validate`: every validator over everything, held against the acknowledgements.

python -m tests.validation [tool …]      # all of them where none is named; exits with 1 on anything open
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tests.validation import findings
from tests.validation.templates import PLANTED, every_template
from tests.validation.tools import TOOLS, WITHOUT_TEMPLATES, ToolError


def main(words: list[str]) -> int:
    """Run the named tools, or all; print what is open; return the exit code."""
    names = words or list(TOOLS)
    if unknown := set(names) - TOOLS.keys():
        print(
            f"evergreen: no validator {', '.join(sorted(unknown))} (one of: {', '.join(TOOLS)})",
            file=sys.stderr,
        )
        return 2
    with tempfile.TemporaryDirectory() as folder:
        templates = every_template(Path(folder))
        print(f"{len(templates) - 1} templates", flush=True)
        found: list[findings.Finding] = []
        problems: list[str] = []
        for name in names:
            began = time.monotonic()
            try:
                seen = list(TOOLS[name](templates))
            except ToolError as error:
                problems.append(str(error))
                continue
            if name not in WITHOUT_TEMPLATES and not any(each.template.startswith(PLANTED) for each in seen):
                problems.append(f"{name} finds nothing in a template with a fault for it: it does not work")
            seen = [each for each in seen if not each.template.startswith(PLANTED)]
            print(f"{name:14} {time.monotonic() - began:6.1f} s {len(seen):5} findings", flush=True)
            found += seen
    judgement = findings.judge(found, findings.load(), set(names))
    problems += [str(finding) for finding in judgement.open]
    problems += [
        f"no finding needs this row of {findings.ACKNOWLEDGEMENTS.name}: {row}" for row in judgement.unused
    ]
    print("\n".join(problems) or "Every finding is acknowledged.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
