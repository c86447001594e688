"""Whether an environment can serve a model: licence, architecture, size, context, chat template.

Each check gives a short note for the terminal, or raises CommandError with what to change. Reads the laid-out
folder and the settings; changes nothing.
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from infra.settings import Settings, instance_types
from infra.settings.base import RuleError
from infra.settings.cross_section_rules import check_size
from infra.settings.endpoint import ServerlessEndpoint
from infra.settings.images import image_table
from infra.settings.vllm_architectures import architectures
from operations.cdk import python
from operations.laptop import REPOSITORY
from operations.progress import CommandError
from operations.weights import Weights

_LICENCE_FILES = re.compile(r"(licen[cs]e|copying|use_policy|notice)([._-].*)?", re.IGNORECASE)
_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---\s*\n", re.DOTALL)
_CHECK_SECONDS = 300
_CPU_SHARE = 1.3
"""Memory on a CPU for each byte of weights: activations, cache and the process itself."""
# GB of memory for each CPU, by the first letter of a family. Source: the EC2 instance type pages.
_GB_PER_CPU = {"c": 2, "m": 4, "r": 8}
_CPUS = {"medium": 1, "large": 2, "xlarge": 4}


@dataclass(frozen=True)
class Facts:
    """What a check of a model's folder found, for the lines that go into the settings."""

    licence: str
    size_gb: float


def licence_of(folder: Path, declared: str | None) -> str:
    """The model's licence as its card or files name it, else as the operator declares it.

    Raises CommandError where nothing tells under which conditions the model may be used.
    """
    name = declared or _card_licence(folder)
    files = sorted(path.name for path in folder.iterdir() if _LICENCE_FILES.fullmatch(path.name))
    if not name and not files:
        raise CommandError(
            "The model says nowhere under which licence it may be used: read it "
            "where you got the model, and add "
            "LICENCE=<its name>."
        )
    places = [*(["declared by you"] if declared else ["README.md"] if name else []), *files]
    return f"{name or 'see the file'} ({', '.join(places)})"


def read_config(folder: Path) -> dict[str, Any]:
    """The model's config.json."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CommandError(f"config.json of the model cannot be read: {error}.") from None
    if not isinstance(config, dict):
        raise CommandError("config.json of the model holds no mapping.")
    return config


def check_architecture(config: dict[str, Any], settings: Settings, transformers_knows: bool) -> str:
    """A note on the model's architecture. Raises CommandError where the engine does not serve it."""
    names = [str(name) for name in config.get("architectures") or []]
    if not names:
        raise CommandError("config.json names no `architectures`: bring the model as its publisher has it.")
    engine = settings.endpoint.engine
    shown = " or ".join(names)
    if engine.kind == "transformers":
        if not transformers_knows:
            raise CommandError(
                f"{shown} is not an architecture of the transformers in the serving "
                "image: take a model that is."
            )
        return shown
    if engine.kind != "vllm":
        return f"{shown}, not checked: no list is recorded for the engine {engine.kind}"
    version, known = architectures(image_table().images[engine.image].engine_version)
    if not set(names) & set(known):
        raise CommandError(
            f"vLLM {version} in the image {engine.image} does not serve {shown}: take "
            "an image with a version that "
            "does (`endpoint.engine.image`), or another model."
        )
    return f"{shown}, served by vLLM {version}"


def check_context(config: dict[str, Any], settings: Settings) -> str:
    """A note on the context. Raises CommandError where the settings ask for more than the model has."""
    text = config.get("text_config")
    inner: dict[str, Any] = text if isinstance(text, dict) else config
    longest = inner.get("max_position_embeddings")
    wanted = settings.endpoint.engine.max_context_tokens
    if isinstance(longest, int) and not inner.get("rope_scaling") and wanted > longest:
        raise CommandError(
            f"The model reads {longest} tokens, and settings/{settings.name}.yaml asks for {wanted}: set "
            f"`endpoint.engine.max_context_tokens: {longest}` or less."
        )
    return f"{wanted} of {longest} tokens" if isinstance(longest, int) else f"{wanted} tokens"


def check_fit(weights: Weights, artefact_bytes: int, settings: Settings) -> str:
    """A note on the size. Raises CommandError where the machines have not the memory, or not the time."""
    gigabytes = weights.size_bytes / 1e9
    try:
        check_size(size_gb(artefact_bytes), settings.endpoint)
    except RuleError as error:
        raise CommandError(
            f"{error} In settings/{settings.name}.yaml, change `{'.'.join(error.path)}`: {error.change}."
        ) from None
    if isinstance(settings.endpoint, ServerlessEndpoint):
        return f"{gigabytes:.2f} GB of weights in {settings.endpoint.memory_mb} MB"
    notes = []
    for name in settings.endpoint.instances.types:
        found = instance_types.devices(name)
        if found:
            notes.append(f"{found.count} × {found.memory_gb} GB of {name}")
            continue
        memory = host_memory_gb(name)
        if memory is not None and gigabytes * _CPU_SHARE > memory:
            raise CommandError(
                f"{gigabytes:.1f} GB of weights need {gigabytes * _CPU_SHARE:.1f} GB "
                f"of memory, and {name} has "
                f"{memory:g}: change `endpoint.instances.type` in "
                f"settings/{settings.name}.yaml to a larger one."
            )
        notes.append(f"{memory:g} GB of {name}" if memory else f"{name}, whose memory is not known here")
    return f"{gigabytes:.2f} GB of weights ({', '.join(weights.types)}) in {', '.join(notes)}"


def size_gb(artefact_bytes: int) -> float:
    """Size of an artefact as settings have it; never 0."""
    return max(0.01, round(artefact_bytes / 1e9, 2))


def host_memory_gb(instance_type: str) -> float | None:
    """Memory of a machine without accelerators, from its family and size; None where they do not tell."""
    _, family, size = instance_type.split(".")
    per_cpu = _GB_PER_CPU.get(family[0]) if family[1:2].isdigit() else None
    cpus = _CPUS.get(size)
    if cpus is None and size.endswith("xlarge") and size.removesuffix("xlarge").isdigit():
        cpus = 4 * int(size.removesuffix("xlarge"))
    return per_cpu * cpus if per_cpu and cpus else None


def inspect(folder: Path, *, chat: bool = True) -> dict[str, Any]:
    """What the container's own code reads from the folder: see `model_code.artefact_check`.

    Of a model that is for no `chat` the tokenizer suffices.

    Raises CommandError where the chat template or the tokenizer cannot be used.
    """
    words = [str(python("serving")), "-m", "model_code.artefact_check", str(folder)]
    words += [] if chat else ["--encoder"]
    done = subprocess.run(
        words, cwd=REPOSITORY, capture_output=True, text=True, timeout=_CHECK_SECONDS, check=False
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise CommandError(f"The model's folder cannot be read: {last}.")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    if found["problem"]:
        if not chat:
            raise CommandError(f"The tokenizer cannot be used: {str(found['problem']).rstrip('.')}.")
        raise CommandError(
            f"The chat template does not work: {str(found['problem']).rstrip('.')}; "
            "bring the instruct variant of the "
            "model with its tokenizer.json and tokenizer_config.json."
        )
    return found


def _card_licence(folder: Path) -> str | None:
    """`license` of the model card's front matter; `license_name` where that says more."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    match = _FRONT_MATTER.match(card.read_text(encoding="utf-8", errors="replace"))
    try:
        values = yaml.safe_load(match.group(1)) if match else None
    except yaml.YAMLError:
        return None
    if not isinstance(values, dict):
        return None
    named = values.get("license_name") if values.get("license") == "other" else values.get("license")
    return str(named or values.get("license") or "") or None
