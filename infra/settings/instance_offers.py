"""Which instance types SageMaker has, for which use and in which regions: `instance_offers.yaml`.

The table is data with a date, written by this script: sizes come from the API's own enumerations in botocore,
regions from cfn-lint's data, which comes from AWS's price list. A family without regions is not checked. The
price list has gaps for jobs: for them a family counts where SageMaker offers it for any use.

    python -m infra.settings.instance_offers
"""

from __future__ import annotations

import datetime
import difflib
import gzip
import json
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from typing import Any, Literal

import yaml

from infra.settings.instance_types import family

Use = Literal["hosting", "processing", "training"]
TABLE = Path(__file__).with_name("instance_offers.yaml")
_SHAPES: dict[Use, str] = {
    "hosting": "ProductionVariantInstanceType",
    "processing": "ProcessingInstanceType",
    "training": "TrainingInstanceType",
}
_PRICED = ("hosting", "processing", "transform", "cluster")
_NO_REGIONS = {"all", "description"}
_HEAD = """\
# Written by `python -m infra.settings.instance_offers`, not by hand: instance types by use and family, and
# the regions that offer at least one size of the family for that use.
"""


@cache
def _table() -> dict[str, dict[str, dict[str, list[str]]]]:
    table: dict[str, dict[str, dict[str, list[str]]]] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return table


@cache
def known_types(use: Use) -> frozenset[str]:
    """Every instance type that SageMaker's API takes for this use."""
    return frozenset(f"ml.{name}.{size}" for name, sizes in _table()["sizes"][use].items() for size in sizes)


def regions(use: Use, instance_type: str) -> list[str] | None:
    """Regions that offer the type's family for this use; None where the table does not say."""
    return _table()["regions"]["hosting" if use == "hosting" else "jobs"].get(family(instance_type))


@cache
def known_regions() -> frozenset[str]:
    """Every region in which SageMaker offers anything."""
    return frozenset(
        region for families in _table()["regions"].values() for where in families.values() for region in where
    )


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that a mistyped one was probably meant to be."""
    near = difflib.get_close_matches(word, sorted(known), n=3, cutoff=0.7)
    # Of words that are as near the one with the same letters comes first: two were swapped.
    return next(iter(sorted(near, key=lambda found: sorted(found) != sorted(word))), None)


def families(types: Mapping[str, Any]) -> dict[str, list[str]]:
    """Regions by family, from cfn-lint's types by region."""
    found: dict[str, set[str]] = {}
    for region, allowed in types.items():
        for name in allowed["enum"] if region not in _NO_REGIONS else ():
            found.setdefault(family(name), set()).add(region)
    return {name: sorted(places) for name, places in sorted(found.items())}


def sizes(types: Iterable[str]) -> dict[str, list[str]]:
    """Sizes by family, in the API's order."""
    found: dict[str, list[str]] = {}
    for name in types:
        found.setdefault(family(name), []).append(name.split(".")[2])
    return dict(sorted(found.items()))


def everywhere(*tables: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Regions by family over all the tables."""
    names = sorted({name for table in tables for name in table})
    return {name: sorted({place for table in tables for place in table.get(name, [])}) for name in names}


def _priced(use: str) -> dict[str, list[str]]:
    source = ("data", "schemas", "extensions", f"aws_sagemaker_{use}", "instancetype_enum.json")
    return families(json.loads(resources.files("cfnlint").joinpath(*source).read_text(encoding="utf-8")))


def _enumerations() -> dict[str, list[str]]:
    """The API's instance types by use."""
    folder = resources.files("botocore").joinpath("data", "sagemaker", "2017-07-24")
    shapes = json.loads(gzip.decompress(folder.joinpath("service-2.json.gz").read_bytes()))["shapes"]
    return {use: shapes[shape]["enum"] for use, shape in _SHAPES.items()}


def _rows(families: Mapping[str, list[str]]) -> str:
    return "".join(f"    {name}: [{', '.join(values)}]\n" for name, values in families.items())


def main() -> int:
    """Write the file; returns the exit code."""
    try:
        priced = {use: _priced(use) for use in _PRICED}
        enumerations = _enumerations()
    except ModuleNotFoundError as error:
        print(f"{error.name} is missing: run this in the development environment", file=sys.stderr)
        return 1
    head = {name: metadata.version(name) for name in ("botocore", "cfn-lint")}
    head["checked"] = str(datetime.datetime.now(datetime.UTC).date())
    text = _HEAD + yaml.safe_dump(head, sort_keys=False) + "sizes:\n"
    for use, names in enumerations.items():
        text += f"  {use}:\n{_rows(sizes(names))}"
    where = {"hosting": priced["hosting"], "jobs": everywhere(*priced.values())}
    text += "regions:\n" + "".join(f"  {use}:\n{_rows(found)}" for use, found in where.items())
    TABLE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
