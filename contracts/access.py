"""Who may call, as the access table holds it.

The table has one string key, `pk`. Items: `KEY#<sha256 of the caller's key>`, `TENANT#<tenant>` for whoever
brings a token (JWT) that names the tenant, `PRINCIPAL#<account>:<kind>/<name>` for an IAM user or role, and
`ROUTING#<endpoint name>` (see `routing`). A caller's key is 256 random bits, so a plain SHA-256 cannot
be guessed back and comparing digests by look-up leaks nothing of use.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

KEY_PREFIX = "eg-"
SCOPE_INFERENCE = "inference"  # call models, see them, give feedback
SCOPE_CHOOSE_VARIANT = "choose-variant"  # name the variant that answers
SCOPE_MODEL_PREFIX = "model:"  # and a model's name: call this model; without any such scope, all of them


PREFIXES = ("KEY#", "TENANT#", "PRINCIPAL#")
"""How the items of callers begin."""

_PRINCIPAL = re.compile(
    r"arn:aws[a-z-]*:(?:iam|sts)::(?P<account>\d{12}):"
    r"(?:(?P<kind>user|role|assumed-role|federated-user)/(?P<name>.+)|root)"
)


class ModelBudget(BaseModel):
    """What a caller may use of one model on a day."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests_per_day: int | None = None
    tokens_per_day: int | None = None


MOST_MODEL_BUDGETS = 32
_BUDGETS = TypeAdapter(dict[str, ModelBudget])


class AccessKey(BaseModel):
    """What a caller's key, a tenant's tokens or an IAM principal stand for.

    `usage_identifier` is the value of the tenant's API Gateway key; empty for principals, who need none.
    `model_budgets` hold beside the other limits, by the model's name in the catalogue.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    pk: str
    tenant: str
    name: str
    usage_identifier: str = ""
    scopes: list[str]
    created_at: int
    expires_at: int | None = None
    revoked: bool = False
    requests_per_second: float | None = None
    burst: int | None = None  # requests at one moment; without it, the rate rounded up
    requests_per_day: int | None = None
    tokens_per_day: int | None = None
    usd_per_month: float | None = None
    model_budgets: dict[str, ModelBudget] = Field(default_factory=dict, max_length=MOST_MODEL_BUDGETS)
    keep_text: bool = True  # whether masked transcripts are kept

    @property
    def id(self) -> str:
        """What names the item to people and in its usage: the beginning of a hash, hence hexadecimal."""
        kind, _, rest = self.pk.partition("#")
        return (rest if kind == "KEY" else hashlib.sha256(self.pk.encode()).hexdigest())[:12]

    def refusal(self, now: float) -> str | None:
        """Why it lets nobody in: `revoked`, `expired`; None where it does. `now`: seconds since the epoch."""
        if self.revoked:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else None


def key_pk(secret: str) -> str:
    """The access table's key of a caller's secret."""
    return "KEY#" + hashlib.sha256(secret.encode()).hexdigest()


def tenant_pk(tenant: str) -> str:
    """The access table's key of whoever brings a token of this tenant."""
    return f"TENANT#{tenant}"


def principal_pk(arn: str) -> str:
    """The access table's key of an IAM user or role, from its ARN or from that of a session of the role.

    Paths are left out: a session's ARN does not tell them, and names are unique without. Raises ValueError.
    """
    found = _PRINCIPAL.fullmatch(arn)
    if found is None:
        raise ValueError(f"'{arn}' is not the ARN of an IAM user, a role or a session of one")
    kind, name = found["kind"] or "root", found["name"] or ""
    if kind == "assumed-role":
        kind, name = "role", name.partition("/")[0]
    return f"PRINCIPAL#{found['account']}:{kind}/{name.rpartition('/')[2]}"


def routing_pk(endpoint_name: str) -> str:
    """The access table's key of an endpoint's routing item."""
    return f"ROUTING#{endpoint_name}"


def context_of(key: AccessKey, scopes: Iterable[str] | None = None) -> dict[str, str]:
    """A caller as API Gateway's authorizer context has it: strings only. `scopes` narrows its own."""
    limits: dict[str, float | None] = {
        "requests_per_second": key.requests_per_second,
        "burst": key.burst,
        "requests_per_day": key.requests_per_day,
        "tokens_per_day": key.tokens_per_day,
        "usd_per_month": key.usd_per_month,
    }
    granted = key.scopes if scopes is None else narrowed(key.scopes, scopes)
    budgets = _BUDGETS.dump_json(key.model_budgets, exclude_none=True).decode() if key.model_budgets else ""
    return {
        "tenant": key.tenant,
        "key_name": key.name,
        "key_id": key.id,
        "scopes": " ".join(granted),
        **({} if key.keep_text else {"keep_text": "false"}),
        **({"model_budgets": budgets} if budgets else {}),
        **{name: str(limit) for name, limit in limits.items() if limit is not None},
    }


def narrowed(own: Iterable[str], asked: Iterable[str]) -> list[str]:
    """The scopes that a token leaves of its tenant's own.

    No scope of a model means all models, so the models of both are met apart from the rest: a token that
    names none has its tenant's, and one that names only others has none.
    """
    mine, theirs = list(own), set(asked)
    kept = [scope for scope in mine if scope in theirs and not scope.startswith(SCOPE_MODEL_PREFIX)]
    my_models = [scope for scope in mine if scope.startswith(SCOPE_MODEL_PREFIX)]
    their_models = sorted(scope for scope in theirs if scope.startswith(SCOPE_MODEL_PREFIX))
    if not my_models or not their_models:
        return kept + (my_models or their_models)
    # The bare prefix names no model: without it nothing would be left to say that not all are meant.
    return kept + ([scope for scope in my_models if scope in their_models] or [SCOPE_MODEL_PREFIX])


@dataclass(frozen=True)
class Principal:
    """Who asks, as an authorizer's context tells. Limits that are not set are None."""

    tenant: str
    key_name: str
    scopes: frozenset[str]
    key_id: str = ""
    requests_per_day: int | None = None
    tokens_per_day: int | None = None
    keep_text: bool = True
    requests_per_second: float | None = None
    burst: int | None = None
    usd_per_month: float | None = None
    subject: str = ""  # tells bearers of a tenant's tokens apart
    model_budgets: Mapping[str, ModelBudget] = field(default_factory=dict)

    @classmethod
    def from_context(cls, context: Mapping[str, str]) -> Principal:
        """The inverse of `context_of`. Raises KeyError without a tenant."""
        return cls(
            context["tenant"],
            context.get("key_name", ""),
            frozenset(context.get("scopes", "").split()),
            context.get("key_id", ""),
            _whole(context.get("requests_per_day")),
            _whole(context.get("tokens_per_day")),
            keep_text=context.get("keep_text") != "false",
            requests_per_second=_number(context.get("requests_per_second")),
            burst=_whole(context.get("burst")),
            usd_per_month=_number(context.get("usd_per_month")),
            subject=context.get("subject", ""),
            model_budgets=_budgets(context.get("model_budgets")),
        )

    def may_call(self, model: str) -> bool:
        """Whether the key may call a model, by its name in the catalogue."""
        return may_call(self.scopes, model)

    @property
    def is_limited(self) -> bool:
        """Whether the key has a budget of its own."""
        limits = (self.requests_per_second, self.requests_per_day, self.tokens_per_day, self.usd_per_month)
        return any(limit is not None for limit in limits)


def may_call(scopes: Collection[str], model: str) -> bool:
    """Whether these scopes allow a model; without any scope of a model they allow all."""
    return SCOPE_MODEL_PREFIX + model in scopes or not any(
        scope.startswith(SCOPE_MODEL_PREFIX) for scope in scopes
    )


def _budgets(text: str | None) -> dict[str, ModelBudget]:
    return _BUDGETS.validate_json(text) if text else {}


def _whole(text: str | None) -> int | None:
    """API Gateway's context knows strings only; a limit that is not set is not there."""
    return int(text) if text else None


def _number(text: str | None) -> float | None:
    return float(text) if text else None
