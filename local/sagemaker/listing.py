"""List operations: filter, sort and page records the way every List* call of the service does."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from local.sagemaker.errors import invalid
from local.sagemaker.records import JsonObject

_DEFAULT_PAGE = 10
# Request field → (record field, whether the record's time must lie before it).
_TIME_FILTERS = {
    "CreationTimeBefore": ("CreationTime", True),
    "CreationTimeAfter": ("CreationTime", False),
    "LastModifiedTimeBefore": ("LastModifiedTime", True),
    "LastModifiedTimeAfter": ("LastModifiedTime", False),
}


def page(
    records: Iterable[Mapping[str, Any]], request: JsonObject, *, noun: str, fields: tuple[str, ...]
) -> tuple[list[JsonObject], str | None]:
    """One page of summaries (only `fields` of each record) and the token of the next page, if any.

    `noun` is the prefix of the name and status fields: `Model`, `EndpointConfig`, `Endpoint`.
    """
    kept = [record for record in records if _matches(record, request, noun)]
    sort_field = {"Name": f"{noun}Name", "Status": f"{noun}Status"}.get(
        request.get("SortBy", "CreationTime"), "CreationTime"
    )
    # A second key keeps pages stable where the first is equal.
    kept.sort(
        key=lambda record: (record[sort_field], record[f"{noun}Name"]),
        reverse=request.get("SortOrder", "Descending") == "Descending",
    )
    start = _offset(request.get("NextToken"))
    end = start + request.get("MaxResults", _DEFAULT_PAGE)
    summaries = [{name: record[name] for name in fields if name in record} for record in kept[start:end]]
    return summaries, _token(end) if end < len(kept) else None


def _matches(record: Mapping[str, Any], request: JsonObject, noun: str) -> bool:
    if request.get("NameContains", "").lower() not in record[f"{noun}Name"].lower():
        return False
    if request.get("StatusEquals", record.get(f"{noun}Status")) != record.get(f"{noun}Status"):
        return False
    for option, (name, before) in _TIME_FILTERS.items():
        if option in request:
            bound = _seconds(request[option])
            if (record[name] >= bound) if before else (record[name] <= bound):
                return False
    return True


def _seconds(value: float | str) -> float:
    if isinstance(value, str):
        return datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp()
    return float(value)


def _token(offset: int) -> str:
    return base64.urlsafe_b64encode(str(offset).encode()).decode()


def _offset(token: str | None) -> int:
    if token is None:
        return 0
    try:
        offset = int(base64.urlsafe_b64decode(token))
    except (ValueError, binascii.Error):
        offset = -1
    if offset < 0:
        raise invalid("Invalid NextToken.")
    return offset
