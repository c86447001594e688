"""Writes image_registries.yaml: who publishes an image in which region, from the SageMaker SDK's data.

The SDK is data here and is never imported: `make image-data` gives the folder of its environment, which
requirements/sagemaker-sdk.txt pins.

    python -m infra.settings.image_registries <environment>/lib/python3*/site-packages

Rows of images.yaml stay by hand: a tag is a decision.
"""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path
from typing import Any

import yaml

from infra.settings.images import REGISTRIES, image_table

_FOLDER = Path("sagemaker") / "core" / "image_uri_config"
# Our registry: the SDK's file and scope in it. The Neuron file lags behind the tags in images.yaml.
_SOURCES = {
    "vllm": ("vllm-server", ""),
    "neuron": ("huggingface-vllm-neuronx", "inference"),
    "training": ("huggingface", "training"),
}
_HEAD = """\
# Written by `python -m infra.settings.image_registries`, not by hand: who publishes images in which region.
"""


class SdkError(Exception):
    """The folder does not hold what this script reads; the text says what is missing."""


def registries(site_packages: Path) -> dict[str, dict[str, str]]:
    """Accounts by region of the newest version in each of our registries. Raises SdkError."""
    return {
        name: _newest(site_packages / _FOLDER / f"{file}.json", scope)
        for name, (file, scope) in _SOURCES.items()
    }


def _newest(path: Path, scope: str) -> dict[str, str]:
    if not path.is_file():
        raise SdkError(f"{path} is missing: install sagemaker-core with --no-deps and give its site-packages")
    found = json.loads(path.read_text(encoding="utf-8"))
    versions = (found[scope] if scope else found)["versions"]
    *_, last = versions.values()
    accounts = _accounts(last)
    if not accounts:
        raise SdkError(f"{path} names no registries for its newest version")
    return dict(sorted(accounts.items()))


def _accounts(version: dict[str, Any]) -> dict[str, str]:
    """A version's registries; some files have them one level down, by framework."""
    if "registries" in version:
        return dict(version["registries"])
    inner = [entry for entry in version.values() if isinstance(entry, dict) and "registries" in entry]
    return dict(inner[-1]["registries"]) if inner else {}


def main(words: list[str]) -> int:
    """Write the file; returns the exit code."""
    if len(words) != 1:
        print("usage: python -m infra.settings.image_registries <site-packages>", file=sys.stderr)
        return 2
    site_packages = Path(words[0])
    try:
        found = registries(site_packages)
    except SdkError as error:
        print(error, file=sys.stderr)
        return 1
    (dist,) = site_packages.glob("sagemaker_core-*.dist-info")
    version = dist.name.removesuffix(".dist-info").partition("-")[2]
    content = {
        "sagemaker_core": version,
        "checked": datetime.datetime.now(datetime.UTC).date(),
        "registries": found,
    }
    REGISTRIES.write_text(_HEAD + yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    unused = sorted(
        {image.registry for image in image_table().images.values() if not image.private} - set(found)
    )
    for name in unused:
        print(f"images.yaml names the registry '{name}', which has no source here", file=sys.stderr)
    return 1 if unused else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
