"""Lists releases, compares any two versions, and goes back to any earlier one.

    python -m operations releases list    --env prod
    python -m operations releases compare --env prod FIRST SECOND     # versions, releases or package numbers
    python -m operations releases back    --env prod VERSION          # a release's id is taken too

`back` is a guarded update under the endpoint's lock: alarms roll it back, a running release forbids it, and
at the end the endpoint is looked at. It is on record in the release ledger like any release.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from botocore.exceptions import ClientError
from pydantic import ValidationError

from contracts.report import EvaluationReport
from operations.aws_errors import code_of
from operations.go_back import GoBack, choose, known_versions
from operations.inventory import environment_stacks
from operations.laptop import home
from operations.lock import locked
from operations.progress import CommandError, Steps
from operations.release_comparison import VersionReport, find_registered, table
from operations.release_history import RegisteredModel, ReleaseRecord, read_registry, read_releases
from operations.target import Target, open_target, run

_CUT = 60


class ReleaseAdmin:
    """Releases of one environment."""

    def __init__(self, target: Target) -> None:
        self._target = target
        stacks = {stack.part: stack for stack in environment_stacks(target)}
        if "data" not in stacks:
            raise CommandError(f"{target.name} is not deployed: make deploy ENV={target.name}")
        self._serving = stacks.get("serving")
        table_name = stacks["data"].outputs["LedgerTableName"]
        self.releases: list[ReleaseRecord] = read_releases(target.client("dynamodb"), table_name)
        self.registry: list[RegisteredModel] = []
        if "refresh" in stacks:
            group = stacks["refresh"].outputs["ModelPackageGroupName"]
            self.registry = read_registry(target.client("sagemaker"), group)

    @property
    def serves(self) -> str:
        """The champion's version."""
        return self._serving.parameters.get("ChampionModelVersion", "") if self._serving else ""

    def rows(self) -> list[dict[str, str]]:
        """One row for each release, the newest first."""
        packages = {package.metadata.get("release_id"): package for package in self.registry}
        rows = []
        for release in self.releases:
            package = packages.get(release.id)
            rows.append(
                {
                    "release": release.id,
                    "started": f"{release.started_at:%Y-%m-%d %H:%M}",
                    "outcome": release.outcome or f"running ({release.step})",
                    "version": release.challenger.version if release.challenger else "",
                    "package": f"{package.number} {package.status}" if package else "",
                    "reason": release.reason,
                }
            )
        return rows

    def report_of(self, name: str) -> VersionReport:
        """The report that judged a version. Raises CommandError where there is none."""
        package, role = find_registered(name, self.registry)
        if not package.report_uri:
            raise CommandError(f"package {package.number} names no evaluation report.")
        bucket, _, key = package.report_uri.removeprefix("s3://").partition("/")
        try:
            body = self._target.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
            report = EvaluationReport.model_validate_json(body)
        except ClientError as error:
            if code_of(error) not in ("NoSuchKey", "NoSuchBucket", "404"):
                raise
            raise CommandError(f"the report {package.report_uri} is gone.") from None
        except ValidationError:
            raise CommandError(f"{package.report_uri} is no evaluation report.") from None
        base = package.base.version if package.base else ""
        return VersionReport(package.model.version if role == "candidate" else base, report, role)


def _list(target: Target, options: argparse.Namespace) -> int:
    admin = ReleaseAdmin(target)
    rows = admin.rows()
    if options.json:
        print(json.dumps({"serves": admin.serves, "releases": rows}, indent=2))
        return 0
    print(f"{admin.serves or 'nothing'} serves.")
    for row in rows:
        reason = row["reason"] if len(row["reason"]) <= _CUT else f"{row['reason'][: _CUT - 1]}…"
        mark = "*" if row["version"] and row["version"] == admin.serves else " "
        print(
            f"{mark} {row['started']}  {row['release']:<24} {row['outcome']:<10} {row['version']:<34} "
            f"{row['package']:<12} {reason}".rstrip()
        )
    if not rows:
        print("No release has run yet.")
    return 0


def _compare(target: Target, options: argparse.Namespace) -> int:
    admin = ReleaseAdmin(target)
    print(table(admin.report_of(options.first), admin.report_of(options.second)))
    return 0


def _back(target: Target, options: argparse.Namespace) -> int:
    admin = ReleaseAdmin(target)
    known = known_versions(admin.releases, admin.registry)
    model = choose(options.version, admin.releases, known, unserved=options.unserved)
    with locked(target, "releases back"):
        way = GoBack(target, Steps(options.logs))
        if way.champion == model:
            print(f"{model.version} serves already.")
            return 0
        way.run(model)
    print(f"{model.version} serves.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m operations releases", description=(__doc__ or "").splitlines()[0]
    )
    commands = parser.add_subparsers(required=True)
    listed = commands.add_parser("list", help="all releases, the newest first; * serves")
    listed.add_argument("--json", action="store_true", help="answer as JSON")
    listed.set_defaults(work=_list)
    compared = commands.add_parser("compare", help="two versions by their evaluation reports")
    compared.add_argument("first")
    compared.add_argument("second")
    compared.set_defaults(work=_compare)
    back = commands.add_parser("back", help="serve an earlier version again")
    back.add_argument("version", help="a version, or a release's id")
    back.add_argument("--unserved", action="store_true", help="also one that was never promoted")
    back.add_argument("--logs", type=Path, default=home() / "logs")
    back.set_defaults(work=_back)
    for command in (listed, compared, back):
        command.add_argument("--env", required=True, help="name of the settings file")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    return run(lambda: int(options.work(open_target(options.env), options)))
