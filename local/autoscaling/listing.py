"""Describe operations: which records a request is about, and one page of them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable

from local.sagemaker.errors import AwsApiError, invalid
from local.sagemaker.records import JsonObject

_PAGE = 50


def matches_request(record: JsonObject, request: JsonObject) -> bool:
    """Whether a record belongs to the targets that a request names; raises AwsApiError for half a name."""
    if "ScalableDimension" in request and "ResourceId" not in request and "ResourceIds" not in request:
        raise invalid("If you specify a scalable dimension, you must also specify a resource ID.")
    return all(
        request.get(name, record[name]) == record[name]
        for name in ("ServiceNamespace", "ResourceId", "ScalableDimension")
    )


def page(label: str, records: Iterable[JsonObject], request: JsonObject) -> JsonObject:
    """The reply of a Describe operation; raises AwsApiError for a token that is none."""
    token, found = request.get("NextToken"), list(records)
    try:
        start = int(base64.urlsafe_b64decode(token)) if token else 0
    except (ValueError, binascii.Error):
        raise AwsApiError("InvalidNextTokenException", "The next token is not valid.") from None
    end = start + request.get("MaxResults", _PAGE)
    answer: JsonObject = {label: found[start:end]}
    if end < len(found):
        answer["NextToken"] = base64.urlsafe_b64encode(str(end).encode()).decode()
    return answer
