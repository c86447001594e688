"""Keys that tests lay into the access table as the operator: of another tenant, with limits, expired,
revoked.
"""

from __future__ import annotations

import secrets
import time
from typing import Any

from contracts.access import KEY_PREFIX, key_pk
from tests.support.laptop import Laptop


def make_key(laptop: Laptop, tenant: str | None = None, **fields: dict[str, Any]) -> str:
    """The secret of a new key, of the first key's tenant unless told; `fields` in DynamoDB's own notation.

    It shares the first key's usage plan.
    """
    tables, table = laptop.aws("dynamodb"), laptop.stack_outputs("data")["AccessTableName"]
    first = {"pk": {"S": key_pk(laptop.outputs["api_key"])}}
    plain = tables.get_item(TableName=table, Key=first)["Item"]
    secret = KEY_PREFIX + secrets.token_urlsafe(32)
    item = plain | {"pk": {"S": key_pk(secret)}, "name": {"S": "test"}} | fields
    if tenant:
        item["tenant"] = {"S": tenant}
    tables.put_item(TableName=table, Item=item)
    return secret


EXPIRED = {"expires_at": {"N": str(int(time.time()) - 60)}}
REVOKED = {"revoked": {"BOOL": True}}
