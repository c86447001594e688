"""Deploys one environment: the data stack, the models' artefacts, then everything else.

    python -m operations deploy --env prod
    python -m operations deploy --env prod --exclusively evergreen-prod-gateway

The same against AWS and the laptop cloud. Each step looks first whether its work is done, so a run that was
killed is taken up where it stopped; two operators at once are told of each other. Words that are not options
here are passed on to `cdk deploy`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from contracts.artefact import MANIFEST_NAME, Manifest
from operations.artefacts import (
    UploadedModel,
    bucket_of,
    last_uploaded,
    regions_of,
    store,
    stored_manifest,
)
from operations.bootstrap import bootstrap
from operations.cdk import run_cdk, stacks, synthesize
from operations.diagnosis.container_log import follow
from operations.laptop import home
from operations.lock import locked
from operations.model_places import ModelPlace, place_of, places
from operations.progress import CommandError, Step, Steps
from operations.recovery import NEVER_CREATED, recover
from operations.serving_check import check_serving
from operations.stacks import StackError, describe_stack
from operations.target import Target, open_target, run

Release = tuple[ModelPlace, UploadedModel | None]
"""A model and the artefact it is to serve; None where it serves what the settings or its stack say."""
APPROVALS = ("never", "broadening", "any-change")


class Deployment:
    """Deploys the stacks of one environment.

    Args:
        target: The environment.
        assembly: Folder of the synthesized cloud assembly.
        steps: Where progress is told; each step keeps a log.
        approval: What `cdk deploy` asks about at the terminal: one of `APPROVALS`.
        options: Further words for `cdk deploy`.
    """

    def __init__(
        self,
        target: Target,
        assembly: Path,
        steps: Steps,
        approval: str = "never",
        options: Sequence[str] = (),
    ) -> None:
        self._target, self._assembly, self._steps = target, assembly, steps
        self._approval, self._options = approval, list(options)
        self._places = stacks(assembly)

    def recover(self) -> None:
        """Leaves no stack in a state that takes no deploy."""
        with self._steps.step("stacks") as step:
            recover(self._target, self._places, step)

    def deploy_data(self) -> None:
        """The stacks that hold the buckets for the model."""
        names = {place.name for place in self._places}
        wanted = [
            name
            for name in (self._target.stack("data"), self._target.stack("failover-data"))
            if name in names
        ]
        with self._steps.step("cdk deploy data") as step:
            self._deploy(step, *wanted)

    def deploy_all(self, models: Sequence[Release], *, replace_champion: bool = False) -> None:
        """Every stack.

        The own champion's parameters are given on a first deploy, or to replace it: later its releases set
        them. Further models have no other releases than these.
        """
        # Where the endpoint's creation fails its log goes with it: `why` reads what was kept.
        with self._steps.step("cdk deploy --all") as step, follow(self._target, self._steps.logs):
            parameters = self._parameters(models, replace_champion=replace_champion)
            words = [] if _names_stacks(self._options) else ["--all"]
            self._deploy(step, *words, *parameters, *self._options)
        with self._steps.step("check what serves") as step:
            step.note = check_serving(self._target)

    def _deploy(self, step: Step, *words: str) -> None:
        attached = self._approval != "never"
        options: list[str | Path] = ["deploy", "--app", self._assembly, "--require-approval", self._approval]
        run_cdk(self._target, step, [*options, "--progress", "events", *words], attached=attached)

    def _parameters(self, models: Sequence[Release], *, replace_champion: bool) -> list[str]:
        words: list[str] = []
        for place, model in models:
            if model is None:
                continue
            if place.is_own:
                words += self._champion(model, replace_champion=replace_champion)
            else:
                values = place.parameters(model.uris[self._target.region], model.digest, model.version)
                words += _words(self._target.stack(place.stack), values)
        return words

    def _champion(self, model: UploadedModel, *, replace_champion: bool) -> list[str]:
        """The champion's parameters where they are to be set; later the stacks keep what releases set."""
        words: list[str] = []
        for part, region in self._serving_stacks():
            name = self._target.stack(part)
            found = describe_stack(self._target.client("cloudformation", region), name)
            exists = found is not None and found["StackStatus"] not in NEVER_CREATED
            if exists and not replace_champion:
                continue
            values = {
                "ChampionModelUri": model.uris[region],
                "ChampionModelDigest": model.digest,
                "ChampionModelVersion": model.version,
            }
            words += _words(name, values)
        return words

    def _serving_stacks(self) -> list[tuple[str, str]]:
        second = self._target.settings.failover
        return [("serving", self._target.region), *([("failover", second.region)] if second else [])]


def _words(stack: str, parameters: Mapping[str, str]) -> list[str]:
    return [word for key, value in parameters.items() for word in ("--parameters", f"{stack}:{key}={value}")]


def _names_stacks(words: Sequence[str]) -> bool:
    """Whether words for `cdk deploy` name stacks themselves."""
    return any(word.startswith("evergreen-") for word in words)


def first_models(target: Target) -> list[Release]:
    """Every model with an artefact of its own, and what `first_model` says of it."""
    return [(place, first_model(target, place)) for place in places(target)]


def first_model(target: Target, place: ModelPlace | None = None) -> UploadedModel | None:
    """The artefact of a model for a first deploy; None where the settings' source stands in the templates.

    Raises CommandError where there is neither, or the uploaded one is not complete in the bucket.
    """
    place = place or place_of(target, None)
    model, name = last_uploaded(target, place), "" if place.is_own else f" NAME={place.name}"
    command = f"`make model ENV={target.name}{name} FROM=<folder>`"
    if model is None:
        found = describe_stack(target.client("cloudformation"), target.stack(place.stack))
        serves = found is not None and found["StackStatus"] not in NEVER_CREATED
        if place.source is None and not (serves and _is_set(found or {}, place)):
            what = "model" if place.is_own else f"artefact of {place.name}"
            raise CommandError(f"{target.name} has no {what} yet: run {command} first.")
        return None
    for region in regions_of(target, place):
        problem = _problem(target, region, model)
        if problem:
            raise CommandError(f"{problem}: run {command} again.")
    return model


def _is_set(stack: Mapping[str, Any], place: ModelPlace) -> bool:
    """Whether a deployed stack has the parameters of a model: an adapter may be new to it."""
    if place.adapter is None:
        return True
    given = {entry["ParameterKey"] for entry in stack.get("Parameters", [])}
    return set(place.parameters("", "", "")) <= given


def _problem(target: Target, region: str, model: UploadedModel) -> str | None:
    """What keeps an uploaded artefact from being served in a region; None where nothing does."""
    uri = model.uris.get(region)
    if uri is None:
        return f"The artefact was not uploaded to {region}"
    try:
        bucket = bucket_of(target, region)
    except StackError:
        return f"The bucket of {uri} is not of this environment any more, whose data stack is gone"
    if not uri.startswith(f"s3://{bucket}/"):
        return f"{uri} is not in the environment's bucket {bucket}, the only one that its roles may read"
    manifest = stored_manifest(target.client("s3", region), uri)
    return None if manifest and manifest.digest == model.digest else f"The artefact at {uri} is not complete"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options, words = _parser().parse_known_args(arguments)
    return run(lambda: _deploy(options, words))


def _deploy(options: argparse.Namespace, words: Sequence[str]) -> int:
    target = open_target(options.env)
    steps = Steps.resumed(options.logs, options.timings)
    approval = options.require_approval or _approval(target)
    try:
        if options.bootstrap:
            bootstrap(target, steps, renew=False)
        with locked(target, "deploy"):
            assembly = options.assembly or _synthesized(target, steps)
            deployment = Deployment(target, assembly, steps, approval, words)
            deployment.recover()
            if options.model:
                deployment.deploy_data()
                for name, folder in options.model:
                    _upload(target, place_of(target, name), folder, steps)
            deployment.deploy_all(first_models(target), replace_champion=options.replace_champion)
    finally:
        if options.timings:
            steps.save(options.timings)
    if not options.quiet:
        print(f'\nNext: make key ENV={target.name} ARGS="create --tenant demo"')
    return 0


def _synthesized(target: Target, steps: Steps) -> Path:
    with steps.step("cdk synth") as step:
        return synthesize(target.name, step)


def _upload(target: Target, place: ModelPlace, folder: Path, steps: Steps) -> None:
    manifest = Manifest.model_validate_json((folder / MANIFEST_NAME).read_bytes())
    with steps.step("upload model" if place.is_own else f"upload {place.name}") as step:
        store(target, folder, manifest, step, place)


def _named_folder(text: str) -> tuple[str | None, Path]:
    name, separator, folder = text.rpartition("=")
    return (name if separator else None), Path(folder)


def _approval(target: Target) -> str:
    """Ask about broader rights where somebody is there to answer."""
    somebody = sys.stdin.isatty() and sys.stdout.isatty() and not target.environment.get("CI")
    return "broadening" if somebody and not target.is_laptop else "never"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m operations deploy", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--env", required=True, help="name of the settings file")
    parser.add_argument("--assembly", type=Path, help="synthesized cloud assembly; left out, it is made")
    parser.add_argument(
        "--model",
        type=_named_folder,
        action="append",
        default=[],
        help="folder of the first champion, with its manifest.json; `NAME=FOLDER` for a further model",
    )
    parser.add_argument(
        "--replace-champion",
        action="store_true",
        help="serve the artefact that `model` uploaded last in place of the present champion",
    )
    parser.add_argument(
        "--require-approval",
        choices=APPROVALS,
        help="ask before such changes; default: broadening at a terminal, never in automation",
    )
    parser.add_argument("--bootstrap", action="store_true", help="run cdk bootstrap where it is missing")
    parser.add_argument("--quiet", action="store_true", help="do not name the next command")
    parser.add_argument("--timings", type=Path, help="add the seconds of each step to this JSON file")
    parser.add_argument("--logs", type=Path, default=home() / "logs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
