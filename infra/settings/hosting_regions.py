"""Which family of machines SageMaker hosts endpoints on in which region: `hosting_regions.yaml`.

The table is data with a date, written by this script from cfn-lint's, which comes from AWS's price list. A
family that is not listed is not checked. Reads that file only.

    python -m infra.settings.hosting_regions
"""

from __future__ import annotations

import datetime
import json
import sys
from functools import cache
from importlib import metadata, resources
from pathlib import Path

import yaml

from infra.settings.instance_types import family

TABLE = Path(__file__).with_name("hosting_regions.yaml")
_SOURCE = ("data", "schemas", "extensions", "aws_sagemaker_hosting", "instancetype_enum.json")
_NO_REGIONS = {"all", "description"}
_HEAD = """\
# Written by `python -m infra.settings.hosting_regions`, not by hand: families of machines by the regions in
# which SageMaker hosts endpoints on at least one size of them.
"""


@cache
def hosting_regions() -> dict[str, list[str]]:
    """Regions by family."""
    table: dict[str, list[str]] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))["families"]
    return table


def families(types: dict[str, dict[str, list[str]]]) -> dict[str, list[str]]:
    """Regions by family, from cfn-lint's types by region."""
    found: dict[str, set[str]] = {}
    for region, allowed in types.items():
        for name in allowed["enum"] if region not in _NO_REGIONS else ():
            found.setdefault(family(name), set()).add(region)
    return {name: sorted(regions) for name, regions in sorted(found.items())}


def main() -> int:
    """Write the file; returns the exit code."""
    try:
        source = resources.files("cfnlint").joinpath(*_SOURCE).read_text(encoding="utf-8")
    except ModuleNotFoundError:
        print("cfn-lint is missing: run this in the development environment", file=sys.stderr)
        return 1
    head = {"cfn_lint": metadata.version("cfn-lint"), "checked": datetime.datetime.now(datetime.UTC).date()}
    rows = "".join(
        f"  {name}: [{', '.join(where)}]\n" for name, where in families(json.loads(source)).items()
    )
    TABLE.write_text(_HEAD + yaml.safe_dump(head, sort_keys=False) + "families:\n" + rows, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
