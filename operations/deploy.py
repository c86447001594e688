"""Deploys one environment: the data stack, the model's artefact, then everything else.

    python -m operations deploy --env prod
    python -m operations deploy --env local --assembly cdk.out/local --model .evergreen/models/… --bootstrap

The same against AWS and the laptop cloud: account, region and endpoint come from the process's environment,
as for every AWS tool. Each step looks first whether its work is done, so a run that was killed is taken up
where it stopped. Other words are passed on to `cdk deploy`. Needs boto3, and Node.js on PATH.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from contracts.artefact import MANIFEST_NAME, ArtefactError, Manifest, verify
from operations.progress import CommandError, Step, Steps, fail
from operations.stacks import StackError, describe_stack, stack_output

REPOSITORY = Path(__file__).resolve().parent.parent
BOOTSTRAP_STACK = "CDKToolkit"
DEPLOY_SECONDS = 4 * 3600
"""Longer than a guarded update of an endpoint with its baking time."""


class Deployment:
    """Deploys the stacks of one environment.

    Args:
        env: Name of the settings file.
        assembly: Folder of the synthesized cloud assembly.
        steps: Where progress is told; each step keeps a log.
        options: Further words for `cdk deploy`.
    """

    def __init__(self, env: str, assembly: Path, steps: Steps, options: Sequence[str] = ()) -> None:
        self._env, self._assembly, self._steps, self._options = env, assembly, steps, list(options)
        config = Config(retries={"total_max_attempts": 3}, read_timeout=120)
        self._cloudformation = boto3.client("cloudformation", config=config)
        self._s3 = boto3.client("s3", config=config)

    def bootstrap(self) -> None:
        """`cdk bootstrap` for the credentials' account and region, where that has not been done."""
        with self._steps.step("cdk bootstrap") as step:
            found = describe_stack(self._cloudformation, BOOTSTRAP_STACK)
            if found and found["StackStatus"] in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
                step.note = "already there"
                return
            account = boto3.client("sts").get_caller_identity()["Account"]
            self._cdk(step, "bootstrap", f"aws://{account}/{self._cloudformation.meta.region_name}")

    def deploy(self, model: Path | None) -> None:
        """The data stack first, since it has the bucket for the model; then the model, then all stacks."""
        if model is None:
            with self._steps.step("cdk deploy --all") as step:
                self._deploy(step, "--all")
            return
        manifest = Manifest.model_validate_json((model / MANIFEST_NAME).read_bytes())
        with self._steps.step("cdk deploy data") as step:
            self._deploy(step, f"evergreen-{self._env}-data")
        with self._steps.step("upload model") as step:
            uri = self._upload(step, model, manifest)
        with self._steps.step("cdk deploy --all") as step:
            self._deploy(step, "--all", *self._champion(manifest, uri))

    def _deploy(self, step: Step, *words: str) -> None:
        self._cdk(
            step, "deploy", "--require-approval", "never", "--progress", "events", *words, *self._options
        )

    def _cdk(self, step: Step, *words: str) -> None:
        program = REPOSITORY / "node_modules" / ".bin" / "cdk"
        environment = os.environ | {"CDK_DISABLE_CLI_TELEMETRY": "true", "CI": "true"}
        step.run(
            [program, *words, "--app", self._assembly],
            cwd=REPOSITORY,
            env=environment,
            timeout=DEPLOY_SECONDS,
        )

    def _upload(self, step: Step, folder: Path, manifest: Manifest) -> str:
        """Puts the artefact under its digest; the manifest goes last, so its presence means all is there."""
        bucket = stack_output(self._cloudformation, self._env, "data", "ArtefactsBucketName")
        prefix = f"models/{manifest.name}/{manifest.digest}/"
        try:
            self._s3.head_object(Bucket=bucket, Key=prefix + MANIFEST_NAME)
            step.note = "already there"
        except ClientError:
            verify(folder, manifest.digest)
            for name in [*(entry.path for entry in manifest.files), MANIFEST_NAME]:
                self._s3.upload_file(str(folder / name), bucket, prefix + name)
            step.note = f"{sum(entry.bytes for entry in manifest.files) / 1e6:.0f} MB"
        return f"s3://{bucket}/{prefix}"

    def _champion(self, manifest: Manifest, uri: str) -> list[str]:
        """The champion's parameters on a first deploy; later the stack keeps those that releases set."""
        name = f"evergreen-{self._env}-serving"
        found = describe_stack(self._cloudformation, name)
        if found and not found["StackStatus"].startswith(("ROLLBACK", "DELETE", "REVIEW")):
            return []
        values = {
            "ChampionModelUri": uri,
            "ChampionModelDigest": manifest.digest,
            "ChampionModelVersion": f"{manifest.name}-{manifest.digest[:12]}",
        }
        return [word for key, value in values.items() for word in ("--parameters", f"{name}:{key}={value}")]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m operations deploy", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--env", required=True, help="name of the settings file")
    parser.add_argument("--assembly", type=Path, help="synthesized cloud assembly (default: cdk.out/<env>)")
    parser.add_argument("--model", type=Path, help="folder of the first champion, with its manifest.json")
    parser.add_argument("--bootstrap", action="store_true", help="run cdk bootstrap where it is missing")
    parser.add_argument("--timings", type=Path, help="add the seconds of each step to this JSON file")
    parser.add_argument("--logs", type=Path, default=REPOSITORY / ".evergreen" / "logs")
    options, words = parser.parse_known_args(arguments)
    steps = Steps.resumed(options.logs, options.timings)
    try:
        deployment = Deployment(
            options.env, options.assembly or REPOSITORY / "cdk.out" / options.env, steps, words
        )
        if options.bootstrap:
            deployment.bootstrap()
        deployment.deploy(options.model)
    except (CommandError, StackError, ArtefactError, BotoCoreError, ClientError, OSError) as problem:
        return fail(problem)
    finally:
        if options.timings:
            steps.save(options.timings)
    return 0


if __name__ == "__main__":
    sys.exit(main())
