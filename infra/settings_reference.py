"""Writes docs/settings.md from the models: `python -m infra.settings_reference` prints it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import get_args

from pydantic import BaseModel

from infra.policy.endpoint_rules import ENDPOINT_RULES
from infra.policy.rules import RULES
from infra.settings import schema
from infra.settings.environment_settings import Settings
from infra.settings.exclusions import register
from infra.settings.images import image_table

_REPEATING = "models"
"""A section whose entries hold what other sections have: those models are not written again."""
_HEAD = """# Settings

One file per environment, `settings/<environment>.yaml`, holds everything a platform team edits; no file
inherits from another and no environment is a default. `cdk synth -c env=<environment>` reads it. A key,
type or combination that cannot work ends synth with the file, the line, what is allowed and an example.

This page is written from the models in `infra/settings/`:
`python -m infra.settings_reference > docs/settings.md`.
"""


def render() -> str:
    """The whole page as Markdown."""
    seen: dict[type[BaseModel], str] = {}
    sections = [list(_section([key.name], key, seen)) for key in schema.keys(Settings) if key.name != "name"]
    return (
        "\n".join(
            [_HEAD, *(line for section in sections for line in section), *_exclusions(), *_images()]
        ).rstrip()
        + "\n"
    )


def _section(path: list[str], key: schema.Key, seen: dict[type[BaseModel], str]) -> Iterator[str]:
    """Heading and table of one mapping, then those inside it; `seen` says where a model stands already."""
    for model in key.models or key.item_models:
        title = ".".join(path)
        if len(key.models) > 1:
            title += f" (kind: {_kind(model)})"
        elif not key.models:
            title += " (each)"
        if path[0] == _REPEATING and model in seen:
            continue
        seen.setdefault(model, title)
        yield f"{'##' if len(path) == 1 else '###'} {title}\n"
        yield f"{(model.__doc__ or '').strip().splitlines()[0]}\n"
        yield "| key | holds | default | meaning |"
        yield "|---|---|---|---|"
        inner = list(schema.keys(model))
        yield from (_row(entry) for entry in inner)
        yield ""
        for entry in inner:
            if entry.models or entry.item_models:
                yield from _section([*path, entry.name], entry, seen)


def _row(key: schema.Key) -> str:
    default = "required" if key.required else _default(key)
    cells = [f"`{key.name}`", key.allowed(), default, key.field.description or ""]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(key: schema.Key) -> str:
    value = key.field.default
    if value is None:
        return "left out"
    return "its defaults" if isinstance(value, BaseModel) else f"`{json.dumps(value)}`"


def _kind(model: type[BaseModel]) -> str:
    return str(get_args(model.model_fields["kind"].annotation)[0])


def _exclusions() -> Iterator[str]:
    yield "## What is refused\n"
    yield "Combinations that SageMaker, or a promise of ours, does not allow: they end synth.\n"
    yield "| rule | refused | why | instead |"
    yield "|---|---|---|---|"
    for one in register().values():
        yield f"| `{one.id}` | {one.refuses} | {one.why} | {one.change} |"
    yield ""
    yield "Synthesized templates are held to further rules; a reason beside the resource acknowledges one.\n"
    yield "| rule | asks | how |"
    yield "|---|---|---|"
    for rule in (*RULES, *ENDPOINT_RULES):
        yield f"| `Evergreen::{rule.id}` | {rule.asks} | {rule.fix} |"
    yield ""


def _images() -> Iterator[str]:
    table = image_table()
    yield "## Images\n"
    yield f"Rows of `infra/settings/images.yaml`, last checked {table.checked}.\n"
    yield "| image | engine | for | repository and tag | published in |"
    yield "|---|---|---|---|---|"
    for name, image in table.images.items():
        regions = table.regions(name)
        where = f"{len(regions)} regions" if regions is not None else "your own account"
        made = f"`{image.repository}:{image.tag}`"
        yield f"| `{name}` | {image.engine} | {image.accelerator} | {made} | {where} |"


if __name__ == "__main__":
    print(render(), end="")
