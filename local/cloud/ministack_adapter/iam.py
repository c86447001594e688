"""Roles and policies: credentials as services obtain them, and what a policy allows a service."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Mapping
from typing import Any

from ministack.core import iam_evaluator as _iam
from ministack.services import iam as _iam_service
from ministack.services import sts as _sts

from local.cloud.adapter_types import Credentials
from local.cloud.ministack_adapter.scope import account_region, account_scope

_SESSION_SECONDS = 12 * 3600

service_access_keys: set[str] = set()
"""Access keys that went to functions and containers: what they change is not an operator's change."""


def remember_parsed_policies() -> None:
    """Parse a policy once: the emulator does it for every request, and a text always means the same."""
    parse = _iam.parse_policy_document
    parsed = functools.lru_cache(maxsize=1024)(parse)
    _iam.parse_policy_document = lambda document: (parsed if isinstance(document, str) else parse)(document)


def role_credentials(role_arn: str, session_name: str, *, service: str | None = None) -> Credentials:
    """Credentials of a role, as the service principal (`lambda.amazonaws.com`) would obtain them.

    Raises PermissionError when the role is unknown or its trust policy does not name `service`.
    """
    with account_scope():
        role_name = role_arn.rpartition("/")[2]
        role = _iam_service._roles.get(role_name)
        if role is None or role["Arn"] != role_arn:
            raise PermissionError(f"the role {role_arn} does not exist")
        if service and not _trusts(role, role_arn, service):
            raise PermissionError(f"the role {role_arn} cannot be assumed by {service}")
        key = _iam_service._gen_session_access_key()
        secret, token = _iam_service._gen_secret(), _iam_service._gen_session_token()
        session = {
            "Arn": f"arn:aws:sts::{account_region['account']}:assumed-role/{role_name}/{session_name}",
            "UserId": f"{role['RoleId']}:{session_name}",
            "SecretAccessKey": secret,
            "SessionToken": token,
            "Expiration": time.time() + _SESSION_SECONDS,
            "AccountId": account_region["account"],
            "PrincipalType": "AssumedRole",
            "SourceAccessKeyId": "",
            "SourcePrincipalArn": service or f"arn:aws:iam::{account_region['account']}:root",
            "SessionTags": [],
            "SessionPolicies": None,
        }
        _sts.register_session(key, session)
        service_access_keys.add(key)
        return Credentials(key, secret, token)


def trusts(role_arn: str, service: str) -> bool:
    """Whether a role exists and may be assumed by a service."""
    with account_scope():
        role = _iam_service._roles.get(role_arn.rpartition("/")[2])
        return role is not None and role["Arn"] == role_arn and _trusts(role, role_arn, service)


def _trusts(role: Mapping[str, Any], role_arn: str, service: str) -> bool:
    document = role.get("AssumeRolePolicyDocument", "{}")
    document = json.loads(document) if isinstance(document, str) else document
    # A trust policy is about this very role, so its statements name no resource; the evaluator wants one.
    statements = document.get("Statement", [])
    statements = [statements] if isinstance(statements, dict) else statements
    on_role = {"Statement": [{**statement, "Resource": "*"} for statement in statements]}
    return service_allowed(on_role, service, "sts:AssumeRole", role_arn, {})


def role_allows(role_arn: str, action: str, resource: str, context: Mapping[str, str] | None = None) -> bool:
    """Whether a role's own policies allow an action: for what a service does in the role's name without a
    request of its own, such as writing a function's log. `context` holds condition keys."""
    keys = {name.lower(): value for name, value in (context or {}).items()}
    with account_scope():
        facts = _facts(role_arn, "AssumedRole", action, resource, keys)
        role_name, account = role_arn.rpartition("/")[2], account_region["account"]
        policies = _iam._gather_role_policies(role_name, account)
        boundary = _iam._permissions_boundary(_iam_service._roles, role_name, account)
        return bool(_iam.evaluate(facts, policies, *boundary).decision == "Allow")


def service_allowed(
    policy: Mapping[str, Any], service: str, action: str, resource: str, context: dict[str, Any]
) -> bool:
    facts = _facts(
        "", "AWSService", action, resource, {"aws:sourceaccount": account_region["account"], **context}
    )
    verdict = _iam.evaluate_resource_policy(dict(policy), facts, service=service)
    return bool(verdict.decision == "Allow")


def _facts(principal: str, kind: str, action: str, resource: str, context: dict[str, Any]) -> Any:
    return _iam.EvalContext(
        principal_arn=principal,
        principal_type=kind,
        principal_account=account_region["account"],
        action=action,
        resource_arn=resource,
        region=account_region["region"],
        secure_transport=True,
        service_context=context,
    )
