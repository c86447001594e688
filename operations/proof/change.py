"""A change of the container that SageMaker has to roll out, made in a copy of the assembly.

The copy's serving template gives each container one more variable, or another image. So models, configuration
and endpoint change as they do for a new image, and nothing else does.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from operations.progress import CommandError

VARIABLE = "EVERGREEN_PROOF"
_MODEL = "AWS::SageMaker::Model"


def changed_assembly(assembly: Path, stack: str, value: str, image: str | None = None) -> Path:
    """A copy beside the assembly whose containers have the variable, and the image if one is given.

    Raises CommandError where the stack has no model.
    """
    copy = assembly.with_name(f"{assembly.name}-changed")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(assembly, copy, symlinks=True)
    template = copy / _template_of(copy, stack)
    before = template.read_text(encoding="utf-8")
    body: dict[str, Any] = json.loads(before)
    models = [one for one in body["Resources"].values() if one["Type"] == _MODEL]
    if not models:
        raise CommandError(f"{stack} has no model: there is no container to change.")
    for model in models:
        container = model["Properties"]["PrimaryContainer"]
        container.setdefault("Environment", {})[VARIABLE] = value
        if image:
            container["Image"] = image
    after = json.dumps(body, indent=1)
    template.write_text(after, encoding="utf-8")
    _readdress(copy, template.name, after)
    return copy


def _template_of(assembly: Path, stack: str) -> str:
    artifacts = json.loads((assembly / "manifest.json").read_text(encoding="utf-8"))["artifacts"]
    for key, artifact in artifacts.items():
        properties = artifact.get("properties", {})
        if artifact["type"] == "aws:cloudformation:stack" and properties.get("stackName", key) == stack:
            return str(properties["templateFile"])
    raise CommandError(f"the assembly has no stack {stack}.")


def _readdress(assembly: Path, template: str, text: str) -> None:
    """Gives the template's asset the key of its new content: an object that exists is not uploaded again."""
    new = hashlib.sha256(text.encode()).hexdigest()
    for assets in assembly.glob("*.assets.json"):
        files = json.loads(assets.read_text(encoding="utf-8")).get("files", {})
        old = next((key for key, entry in files.items() if entry["source"].get("path") == template), None)
        if old is None:
            continue
        for file in (assets, assembly / "manifest.json"):
            file.write_text(file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
