"""Brings a model into an environment's account: checked, described by a manifest, uploaded.

    python -m operations model --env prod --from ~/models/llama-3.1-8b-instruct
    python -m operations model --env prod --from s3://team-models/llama/ --write
    python -m operations model --env prod --name all-minilm-l6-v2 --from ~/models/minilm

Takes a folder, a hub's snapshot folder, an S3 prefix or a SageMaker archive. An upload that was killed goes
on where it stopped. Makes the data stack, which has the bucket, where it is missing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.artefact import MANIFEST_NAME, Manifest, describe
from infra.settings import Settings
from infra.settings.catalogue import part_of
from infra.settings.loader import FOLDER
from operations import model_checks
from operations.adapters import adapter_note, check_folders
from operations.artefacts import UploadedModel, store
from operations.cdk import stacks, synthesize
from operations.deploy import Deployment
from operations.laptop import REPOSITORY, home
from operations.lock import locked
from operations.model_places import ModelPlace, place_of
from operations.model_source import fetch, lay_out
from operations.progress import CommandError, Step, Steps
from operations.recovery import recover
from operations.settings_lines import shown, write_lines
from operations.stacks import StackError
from operations.target import Target, open_target, run
from operations.weights import Weights, WeightsError, read_weights


@dataclass(frozen=True)
class Prepared:
    """A folder that is ready to be uploaded, with what its check found."""

    folder: Path
    manifest: Manifest
    licence: str
    size_gb: float


def prepare(target: Target, source: str, steps: Steps, *, place: ModelPlace, licence: str | None) -> Prepared:
    """Checks a model and lays it out as an artefact with its manifest. Raises CommandError."""
    settings = place.settings
    work = home() / "models"
    with steps.step("model files") as step:
        origin = fetch(source, target, work / "downloads", step)
        layout = lay_out(origin, work / "staged" / f"{target.name}-{part_of(place.name)}")
        for file, reason in layout.left_out.items():
            step.say(f"left out {file}: {reason}")
        step.note = str(origin)
    folder = layout.folder
    with steps.step("licence") as step:
        shown_licence = step.note = model_checks.licence_of(folder, licence)
    if place.adapter:
        return _adapter(folder, place, shown_licence, steps)
    weights = _check(folder, place, steps)
    check_folders(folder, settings)
    if _needs_hook(settings):
        with steps.step("hook") as step:
            _install_hook(folder, step)
    with steps.step("manifest") as step:
        manifest = _described(folder, place, step)
    size = sum(entry.bytes for entry in manifest.files)
    with steps.step("size") as step:
        step.note = model_checks.check_fit(weights, size, settings)
    return Prepared(folder, manifest, shown_licence, model_checks.size_gb(size))


def _adapter(folder: Path, place: ModelPlace, licence: str, steps: Steps) -> Prepared:
    """A LoRA adapter, which its base has to fit; whether it does shows where it is loaded."""
    with steps.step("adapter") as step:
        step.note = adapter_note(folder)
    with steps.step("manifest") as step:
        manifest = _described(folder, place, step)
    size = sum(entry.bytes for entry in manifest.files)
    return Prepared(folder, manifest, licence, model_checks.size_gb(size))


def _described(folder: Path, place: ModelPlace, step: Step) -> Manifest:
    manifest = describe(folder, place.name)
    (folder / MANIFEST_NAME).write_bytes(manifest.canonical())
    step.note = f"{len(manifest.files)} files, digest {manifest.digest[:12]}…"
    return manifest


def _check(folder: Path, place: ModelPlace, steps: Steps) -> Weights:
    settings = place.settings
    with steps.step("weights") as step:
        try:
            weights = read_weights(folder)
        except WeightsError as error:
            raise CommandError(f"The weights cannot be used: {error}. Download the model again.") from None
        step.note = f"{weights.files} safetensors files"
    config = model_checks.read_config(folder)
    with steps.step("chat template" if place.is_chat else "tokenizer") as step:
        found = model_checks.inspect(folder, chat=place.is_chat)
        step.note = f"a short question is {found['tokens']} tokens"
    with steps.step("architecture") as step:
        step.note = model_checks.check_architecture(config, settings, bool(found["transformers_knows"]))
    with steps.step("context") as step:
        step.note = model_checks.check_context(config, settings)
    return weights


def _needs_hook(settings: Settings) -> bool:
    return bool(getattr(settings.endpoint.engine, "hook", False))


def _install_hook(folder: Path, step: Step) -> None:
    """The hook in front of vLLM, put in by the code that owns it; its manifest is written anew later."""
    step.run([sys.executable, "-m", "model_code.vllm_hook.install", folder], cwd=REPOSITORY)
    step.note = "in front of vLLM"


def upload(target: Target, prepared: Prepared, steps: Steps, place: ModelPlace) -> UploadedModel:
    """Makes the bucket's stack where it is missing, and uploads."""
    with locked(target, "model"):
        with steps.step("cdk synth") as step:
            assembly = synthesize(target.name, step)
        deployment = Deployment(target, assembly, steps)
        with steps.step("stacks") as step:
            data = (target.stack("data"), target.stack("failover-data"))
            recover(target, [place for place in stacks(assembly) if place.name in data], step)
        deployment.deploy_data()
        with steps.step("upload model") as step:
            return store(target, prepared.folder, prepared.manifest, step, place)


def settings_lines(target: Target, model: UploadedModel, size_gb: float) -> dict[str, dict[str, Any]]:
    """What the settings file says of this model: a deployment from the file alone then serves it."""
    lines: dict[str, dict[str, Any]] = {
        "model": {"version": model.version, "source": model.uris[target.region], "size_gb": size_gb}
    }
    if target.settings.failover is not None:
        lines["failover"] = {"source": model.uris[target.settings.failover.region]}
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    return run(lambda: _model(options))


def _model(options: argparse.Namespace) -> int:
    target = open_target(options.env)
    steps = Steps(options.logs)
    print(f"Model for {target.name}: account {target.account}, {' and '.join(target.regions)}")
    place = place_of(target, options.name)
    if options.write and not place.is_own:
        raise CommandError("WRITE=1 writes section `model` only: leave it out, the upload is remembered.")
    prepared = prepare(target, options.source, steps, place=place, licence=options.licence)
    if options.check_only:
        print("\nNothing was uploaded: this was a check.")
        return 0
    try:
        model = upload(target, prepared, steps, place)
    except StackError as error:
        raise CommandError(f"{error}: run `make bootstrap ENV={target.name}` and try again.") from None
    lines = settings_lines(target, model, prepared.size_gb)
    path = FOLDER / f"{target.name}.yaml"
    print(f"\nLicence: {prepared.licence}. Whoever serves the model accepts it.")
    if not place.is_own:
        print(f"The next deploy serves it as {place.name}, version {model.version}.")
    elif options.write:
        write_lines(path, lines)
        print(f"Written into settings/{path.name}:\n\n{shown(lines)}")
    else:
        print(f"For settings/{path.name} (`WRITE=1` writes it):\n\n{shown(lines)}")
    print(f"\nNext: make deploy ENV={target.name}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m operations model", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--env", required=True, help="name of the settings file")
    parser.add_argument(
        "--from", required=True, dest="source", help="folder, archive or s3:// URI of the model"
    )
    parser.add_argument("--name", help="which of the settings' models; default: the environment's own")
    parser.add_argument("--licence", help="name of the licence, where the model's files do not tell it")
    parser.add_argument("--write", action="store_true", help="write the lines into the settings file")
    parser.add_argument("--check-only", action="store_true", help="check the model and upload nothing")
    parser.add_argument("--logs", type=Path, default=home() / "logs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
