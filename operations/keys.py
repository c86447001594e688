"""Lets callers in, lists them and revokes them, with an operator's own credentials.

    python -m operations key create          --env dev --tenant shop --name web --expires-days 90
    python -m operations key admit-tenant    --env dev --tenant shop --tokens-per-day 1000000
    python -m operations key admit-principal --env dev --tenant shop --arn arn:aws:iam::1…:role/web
    python -m operations key list            --env dev
    python -m operations key revoke          --env dev --id 3f9a1c02b7d4

A secret is printed once, when it is made, and kept nowhere.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from contracts.access import (
    KEY_PREFIX,
    PREFIXES,
    SCOPE_INFERENCE,
    SCOPE_MODEL_PREFIX,
    AccessKey,
    ModelBudget,
    key_pk,
    principal_pk,
    tenant_pk,
)
from infra.settings import Settings
from operations.dynamodb import from_item, to_item
from operations.progress import CommandError
from operations.stacks import stack_output
from operations.target import open_target, run

_DAY_SECONDS = 86_400


class AdminError(CommandError):
    """What the operator asked for cannot be done; the message says why."""


class KeyAdmin:
    """Keys of one environment. `clients` makes a boto3 client by service name."""

    def __init__(self, env: str, clients: Callable[[str], Any]) -> None:
        self._env = env
        self._cloudformation = clients("cloudformation")
        self._gateway = clients("apigateway")
        self._dynamodb = clients("dynamodb")
        self._table = stack_output(self._cloudformation, env, "data", "AccessTableName")

    def create(
        self,
        tenant: str,
        name: str,
        scopes: list[str],
        expires_days: int | None = None,
        secret: str | None = None,
        **limits: Any,
    ) -> str:
        """Register a key (a given secret, or a new one) and return the secret. `limits` as in AccessKey."""
        secret = secret or KEY_PREFIX + secrets.token_urlsafe(32)
        self._put(key_pk(secret), tenant, name, scopes, expires_days, **limits)
        return secret

    def admit_tenant(
        self, tenant: str, scopes: list[str], expires_days: int | None = None, **limits: Any
    ) -> str:
        """Let tokens (JWT) that name the tenant in; returns the id. They share the limits."""
        return self._put(tenant_pk(tenant), tenant, "token", scopes, expires_days, **limits).id

    def admit_principal(
        self,
        arn: str,
        tenant: str,
        name: str,
        scopes: list[str],
        expires_days: int | None = None,
        **limits: Any,
    ) -> str:
        """Let an IAM user or role in for a tenant; returns the id. Raises AdminError for another ARN."""
        try:
            pk = principal_pk(arn)
        except ValueError as error:
            raise AdminError(str(error)) from None
        return self._put(pk, tenant, name, scopes, expires_days, needs_plan=False, **limits).id

    def _put(
        self,
        pk: str,
        tenant: str,
        name: str,
        scopes: list[str],
        expires_days: int | None,
        *,
        needs_plan: bool = True,
        **limits: Any,
    ) -> AccessKey:
        now = int(time.time())
        key = AccessKey(
            pk=pk,
            tenant=tenant,
            name=name,
            usage_identifier=self._usage_identifier(tenant) if needs_plan else "",
            scopes=scopes,
            created_at=now,
            expires_at=now + expires_days * _DAY_SECONDS if expires_days else None,
            **limits,
        )
        self._dynamodb.put_item(TableName=self._table, Item=to_item(key.model_dump()))
        return key

    def all_keys(self) -> list[AccessKey]:
        """All keys, tenants and principals, oldest first."""
        pages = self._dynamodb.get_paginator("scan").paginate(
            TableName=self._table,
            FilterExpression=" OR ".join(f"begins_with(pk, :kind{n})" for n in range(len(PREFIXES))),
            ExpressionAttributeValues={f":kind{n}": {"S": prefix} for n, prefix in enumerate(PREFIXES)},
        )
        found = [AccessKey.model_validate(from_item(item)) for page in pages for item in page["Items"]]
        return sorted(found, key=lambda key: key.created_at)

    def revoke(self, id: str) -> AccessKey:
        """Revoke the one key whose id (as `list` shows it) begins so. Raises AdminError for none or many."""
        matching = [key for key in self.all_keys() if key.id.startswith(id)]
        if len(matching) != 1:
            raise AdminError(f"{len(matching)} keys have an id that begins with '{id}'; exactly one must")
        self._dynamodb.update_item(
            TableName=self._table,
            Key={"pk": {"S": matching[0].pk}},
            UpdateExpression="SET revoked = :true",
            ConditionExpression="attribute_exists(pk)",
            ExpressionAttributeValues={":true": {"BOOL": True}},
        )
        return matching[0]

    def _usage_identifier(self, tenant: str) -> str:
        """The value of the tenant's API Gateway key, made and put under the usage plan where missing."""
        name = f"evergreen-{self._env}-{tenant}"
        pages = self._gateway.get_paginator("get_api_keys").paginate(nameQuery=name, includeValues=True)
        existing = [key for page in pages for key in page["items"] if key["name"] == name]
        # API Gateway wants at least 20 characters; callers never see this value.
        key = (
            existing[0]
            if existing
            else self._gateway.create_api_key(name=name, enabled=True, value=secrets.token_hex(20))
        )
        plan = stack_output(self._cloudformation, self._env, "gateway", "UsagePlanId")
        # A conflict says that the key is under the plan already.
        with contextlib.suppress(self._gateway.exceptions.ConflictException):
            self._gateway.create_usage_plan_key(usagePlanId=plan, keyId=key["id"], keyType="API_KEY")
        return str(key["value"])


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = _parser().parse_args(arguments)

    def work() -> int:
        target = open_target(options.env)
        check_budget(target.settings, getattr(options, "usd_per_month", None))
        return int(options.run(KeyAdmin(target.name, target.client), options))

    return run(work)


def check_budget(settings: Settings, usd_per_month: float | None) -> None:
    """A budget in dollars needs a price: without one it would never be spent.

    Raises AdminError where no model has one; where some have none, says which will refuse the key.
    """
    if usd_per_month is None:
        return
    own = settings.model.token_prices is not None
    unpriced = [
        entry.name
        for entry in settings.models
        if entry.input_token_price is None and not (own and entry.kind == "adapter")
    ]
    if not own and len(unpriced) == len(settings.models):
        raise AdminError(
            f"a budget of {usd_per_month:g} USD a month cannot be kept: the model has no token prices. Set "
            f"model.input_token_price and .output_token_price in settings/{settings.name}.yaml and deploy "
            f"(`make status ENV={settings.name}` shows what tokens have cost), or give --tokens-per-day"
        )
    if not own:
        unpriced = [settings.model.name, *unpriced]
    if unpriced:
        print(f"without a price, and so refusing this key: {', '.join(unpriced)}", file=sys.stderr)


def _scopes(options: argparse.Namespace) -> list[str]:
    return [*options.scopes, *(SCOPE_MODEL_PREFIX + name for name in options.models)]


def _limits(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "requests_per_second": options.requests_per_second,
        "burst": options.burst,
        "requests_per_day": options.requests_per_day,
        "tokens_per_day": options.tokens_per_day,
        "usd_per_month": options.usd_per_month,
        "model_budgets": dict(options.model_budget),
        "keep_text": not options.no_text,
    }


def _create(admin: KeyAdmin, options: argparse.Namespace) -> int:
    secret = admin.create(
        options.tenant,
        options.name,
        _scopes(options),
        options.expires_days,
        _secret_in(options.key_file) if options.key_file else None,
        **_limits(options),
    )
    if options.json:
        print(json.dumps({"api_key": secret, "tenant": options.tenant}))
    else:
        print(f"Key for {options.tenant} ({options.name}), shown this once:\n{secret}")
        print(f'\nNext: make chat ENV={options.env} KEY={secret} PROMPT="Hello!"')
    return 0


def _secret_in(path: Path) -> str:
    """A secret in a file and not on the command line, which every user of a machine may see."""
    try:
        text = path.read_text(encoding="utf-8").strip()
        return str(json.loads(text)["api_key"]) if text.startswith("{") else text
    except (OSError, ValueError, KeyError) as error:
        raise CommandError(f"{path} holds no key: {error!r}") from None


def _admit_tenant(admin: KeyAdmin, options: argparse.Namespace) -> int:
    made = admin.admit_tenant(options.tenant, _scopes(options), options.expires_days, **_limits(options))
    print(f"{made}: tokens that name the tenant {options.tenant} are let in")
    return 0


def _admit_principal(admin: KeyAdmin, options: argparse.Namespace) -> int:
    made = admin.admit_principal(
        options.arn, options.tenant, options.name, _scopes(options), options.expires_days, **_limits(options)
    )
    print(f"{made}: {options.arn} is let in for {options.tenant}")
    return 0


def _list(admin: KeyAdmin, options: argparse.Namespace) -> int:
    for key in admin.all_keys():
        state = "revoked" if key.revoked else "expired" if _expired(key) else "valid"
        kind, _, rest = key.pk.partition("#")
        who = rest if kind == "PRINCIPAL" else kind.lower()
        print(f"{key.id}  {state:8}  {key.tenant}/{key.name}  {' '.join(key.scopes)}  {who}")
    return 0


def _expired(key: AccessKey) -> bool:
    return key.expires_at is not None and key.expires_at <= time.time()


def _revoke(admin: KeyAdmin, options: argparse.Namespace) -> int:
    key = admin.revoke(options.id)
    print(f"{key.id} of {key.tenant}/{key.name} is revoked")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m operations key", description=__doc__)
    commands = parser.add_subparsers(required=True)

    create = commands.add_parser("create", help="make a key")
    create.add_argument("--tenant", default="demo")
    create.add_argument("--name", default="default", help="tells a tenant's keys apart")
    create.add_argument(
        "--key-file",
        type=Path,
        help="register the secret in this file instead of making one; it may hold what `--json` prints",
    )
    create.add_argument("--json", action="store_true", help="print one JSON object for scripts")
    create.set_defaults(run=_create)

    tenant = commands.add_parser("admit-tenant", help="let tokens (JWT) of a tenant in")
    tenant.add_argument("--tenant", required=True, help="as the tokens name it")
    tenant.set_defaults(run=_admit_tenant)

    principal = commands.add_parser("admit-principal", help="let an IAM user or role in, below /iam")
    principal.add_argument("--arn", required=True)
    principal.add_argument("--tenant", required=True)
    principal.add_argument("--name", default="iam", help="tells a tenant's callers apart")
    principal.set_defaults(run=_admit_principal)
    for command in (create, tenant, principal):
        _add_limits(command)

    listing = commands.add_parser("list", help="show all keys, tenants and principals, without secrets")
    listing.set_defaults(run=_list)

    revoke = commands.add_parser("revoke", help="end a key's validity")
    revoke.add_argument("--id", required=True, help="as `list` shows it")
    revoke.set_defaults(run=_revoke)

    for command in (create, tenant, principal, listing, revoke):
        command.add_argument("--env", required=True)
    return parser


def _add_limits(command: argparse.ArgumentParser) -> None:
    """What may be said of any caller; each limit is off by default."""
    command.add_argument("--scopes", nargs="+", default=[SCOPE_INFERENCE])
    command.add_argument("--expires-days", type=_above_zero)
    command.add_argument("--requests-per-second", type=_positive, help="sustained rate")
    command.add_argument("--burst", type=_above_zero, help="requests at one moment; the rate rounded up")
    command.add_argument("--requests-per-day", type=int)
    command.add_argument("--tokens-per-day", type=int)
    command.add_argument("--usd-per-month", type=_positive, help="cost by the settings' token prices")
    command.add_argument(
        "--models",
        nargs="+",
        default=[],
        metavar="MODEL",
        help="the only models it may call; all without this",
    )
    command.add_argument(
        "--model-budget",
        nargs="+",
        action="extend",
        type=_model_budget,
        default=[],
        metavar="MODEL:requests-per-day=N,tokens-per-day=N",
        help="what it may use of one model on a day",
    )
    command.add_argument("--no-text", action="store_true", help="keep no prompt or answer, not even masked")


def _model_budget(text: str) -> tuple[str, ModelBudget]:
    """A model's name and its limits; a name may hold colons, so the last one divides them."""
    model, _, limits = text.rpartition(":")
    fields = {
        name.replace("-", "_"): value
        for name, _, value in (each.partition("=") for each in limits.split(","))
    }
    try:
        if not model or not fields or not all(int(value) >= 0 for value in fields.values()):
            raise ValueError
        return model, ModelBudget.model_validate({name: int(value) for name, value in fields.items()})
    except ValueError:
        words = f"'{text}' is not like chat:requests-per-day=100,tokens-per-day=50000"
        raise argparse.ArgumentTypeError(words) from None


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _above_zero(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


if __name__ == "__main__":
    sys.exit(main())
