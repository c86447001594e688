"""Shows and changes the models behind the API without a deployment, with an operator's own credentials.

    python -m operations models list   --env dev
    python -m operations models show   --env dev --name gpt-4o > entry.json
    python -m operations models put    --env dev --file entry.json       # or `-` for standard input
    python -m operations models remove --env dev --name gpt-4o

What is put stands beside the settings' `models:` and wins over an entry of the same name; it takes effect
within seconds. `remove` takes back what was put: an entry of the settings is the settings' again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from pydantic import ValidationError

from contracts.catalogue import (
    ENTRIES_ATTRIBUTE,
    MOST_ENTRIES,
    Catalogue,
    ModelEntry,
    catalogue_pk,
    read_entries,
    write_entries,
)
from contracts.routing import ROUTING_CACHE_SECONDS
from contracts.targets import OpenAITarget
from infra.settings.catalogue_entries import CatalogueSettings, entries
from operations.progress import CommandError
from operations.stacks import stack_output
from operations.target import open_target, run

_UNKNOWN = "unknown"


class ModelsAdmin:
    """The catalogue of one environment. `clients` makes a boto3 client by service name."""

    def __init__(self, env: str, settings: CatalogueSettings, clients: Callable[[str], Any]) -> None:
        self._dynamodb, self._ssm = clients("dynamodb"), clients("ssm")
        self._table = stack_output(clients("cloudformation"), env, "data", "AccessTableName")
        self._key = {"pk": {"S": catalogue_pk(settings.endpoint_name)}}
        self._settings = settings

    def settings_catalogue(self) -> Catalogue:
        """The models of the settings, with the versions that serve now."""
        return Catalogue(entries(self._settings, self._version))

    def added(self) -> list[ModelEntry]:
        """The entries that were put. Raises CommandError where the item cannot be read."""
        return _read(self._text())

    def put(self, entry: ModelEntry) -> None:
        """Adds an entry, or replaces the one of its name. Raises CommandError."""
        self._check_secrets(entry)
        before = self._text()
        kept = [each for each in _read(before) if each.name != entry.name]
        if len(kept) == MOST_ENTRIES:
            raise CommandError(f"{MOST_ENTRIES} entries are there already; remove one first.")
        try:
            self.settings_catalogue().overlaid([*kept, entry])
        except ValueError as error:
            raise CommandError(f"{error}: choose another name or alias.") from None
        self._write(before, [*kept, entry])

    def remove(self, name: str) -> None:
        """Takes an entry back. Raises CommandError where none of that name was put."""
        before = self._text()
        kept = [each for each in _read(before) if each.name != name]
        if len(kept) == len(_read(before)):
            raise CommandError(f"No model '{name}' was put here; `models list` shows which were.")
        self._write(before, kept)

    def _check_secrets(self, entry: ModelEntry) -> None:
        """The functions may read the secrets that the settings name, and no others."""
        allowed = _secrets(self.settings_catalogue().entries)
        if refused := sorted(_secrets([entry]) - allowed):
            known = ", ".join(f"'{name}'" for name in sorted(allowed)) or "none"
            raise CommandError(
                f"The functions cannot read the secret '{refused[0]}': the settings name {known}. "
                "Deploy a model that uses it first."
            )

    def _version(self, parameter: str) -> str:
        try:
            return str(self._ssm.get_parameter(Name=parameter)["Parameter"]["Value"])
        except ClientError as error:
            if error.response["Error"]["Code"] != "ParameterNotFound":
                raise
            return _UNKNOWN

    def _text(self) -> str | None:
        found = self._dynamodb.get_item(TableName=self._table, Key=self._key, ConsistentRead=True)
        text: str | None = found.get("Item", {}).get(ENTRIES_ATTRIBUTE, {}).get("S")
        return text

    def _write(self, before: str | None, changed: list[ModelEntry]) -> None:
        """Raises CommandError where somebody else has changed the item meanwhile."""
        values = {":before": {"S": before}} if before is not None else {}
        condition = (
            f"{ENTRIES_ATTRIBUTE} = :before" if values else f"attribute_not_exists({ENTRIES_ATTRIBUTE})"
        )
        unchanged = {"ConditionExpression": condition}
        if values:
            unchanged["ExpressionAttributeValues"] = values  # type: ignore[assignment]
        try:
            self._dynamodb.put_item(
                TableName=self._table,
                Item={**self._key, ENTRIES_ATTRIBUTE: {"S": write_entries(changed)}},
                **unchanged,
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            raise CommandError("Somebody else has just changed the models; look and try again.") from None


def _secrets(entries: Iterable[ModelEntry]) -> set[str]:
    targets = (target for entry in entries for target in entry.targets)
    return {target.secret for target in targets if isinstance(target, OpenAITarget) and target.secret}


def _read(text: str | None) -> list[ModelEntry]:
    try:
        return read_entries(text) if text else []
    except ValidationError as error:
        raise CommandError(f"The catalogue item cannot be read: {_first(error)}") from None


def parsed(text: str) -> ModelEntry:
    """One entry from JSON. Raises CommandError that names the field at fault."""
    try:
        return ModelEntry.model_validate_json(text)
    except ValidationError as error:
        raise CommandError(f"The entry is not usable: {_first(error)}") from None


def _first(error: ValidationError) -> str:
    detail = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, detail['loc'])) or 'entry'}: {detail['msg']}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = _parser().parse_args(arguments)

    def work() -> int:
        target = open_target(options.env)
        return int(options.run(ModelsAdmin(target.name, target.settings, target.client), options))

    return run(work)


def _list(admin: ModelsAdmin, options: argparse.Namespace) -> int:
    put = {entry.name for entry in admin.added()}
    for entry in admin.settings_catalogue().overlaid(admin.added()).entries:
        source = "put" if entry.name in put else "settings"
        aliases = f" ({', '.join(entry.aliases)})" if entry.aliases else ""
        place = f"{entry.target.kind} {entry.target.name}"
        print(
            f"{entry.name}{aliases}  {entry.kind or 'any'}  {place}  {entry.target.model_version}  {source}"
        )
    return 0


def _show(admin: ModelsAdmin, options: argparse.Namespace) -> int:
    entry = admin.settings_catalogue().overlaid(admin.added()).find(options.name)
    if entry is None:
        raise CommandError(f"There is no model '{options.name}'; `models list` shows which there are.")
    print(json.dumps(json.loads(write_entries([entry]))[0], indent=2))
    return 0


def _put(admin: ModelsAdmin, options: argparse.Namespace) -> int:
    try:
        text = sys.stdin.read() if options.file == "-" else Path(options.file).read_text()
    except OSError as error:
        raise CommandError(f"{options.file}: {error.strerror}") from None
    entry = parsed(text)
    admin.put(entry)
    print(f"{entry.name} is there within {ROUTING_CACHE_SECONDS:.0f} s")
    return 0


def _remove(admin: ModelsAdmin, options: argparse.Namespace) -> int:
    admin.remove(options.name)
    print(f"{options.name} is taken back within {ROUTING_CACHE_SECONDS:.0f} s")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m operations models",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True)
    listing = commands.add_parser("list", help="all models, and where each comes from")
    listing.set_defaults(run=_list)
    show = commands.add_parser("show", help="one entry as JSON, to change it and put it")
    show.add_argument("--name", required=True, help="its name or an alias")
    show.set_defaults(run=_show)
    put = commands.add_parser("put", help="add an entry, or replace the one of its name")
    put.add_argument("--file", required=True, help="one entry as JSON; `-` reads standard input")
    put.set_defaults(run=_put)
    remove = commands.add_parser("remove", help="take back what was put")
    remove.add_argument("--name", required=True)
    remove.set_defaults(run=_remove)
    for command in (listing, show, put, remove):
        command.add_argument("--env", required=True)
    return parser


if __name__ == "__main__":
    sys.exit(main())
