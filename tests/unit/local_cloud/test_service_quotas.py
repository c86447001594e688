"""Service Quotas on the laptop: reading by AWS's model, refusing the rest."""

from __future__ import annotations

import json
from typing import Any

import pytest

from local.cloud.service_quotas.api import TARGET_PREFIX, ServiceQuotas

QUOTAS = ServiceQuotas("123456789012", "us-east-1")


def call(operation: str, **request: Any) -> tuple[int, dict[str, Any]]:
    answer = QUOTAS.handle(TARGET_PREFIX + operation, json.dumps(request).encode())
    return answer.status, json.loads(answer.body)


def test_one_quota_by_its_code() -> None:
    status, answer = call("GetServiceQuota", ServiceCode="lambda", QuotaCode="L-B99A9384")
    assert status == 200
    assert (answer["Quota"]["QuotaName"], answer["Quota"]["Value"]) == ("Concurrent executions", 1000)


@pytest.mark.parametrize("operation", ["ListServiceQuotas", "ListAWSDefaultServiceQuotas"])
def test_all_quotas_page_by_page(operation: str) -> None:
    names: list[str] = []
    token: dict[str, str] = {}
    for _ in range(20):
        status, answer = call(operation, ServiceCode="sagemaker", MaxResults=2, **token)
        assert status == 200
        names += [quota["QuotaName"] for quota in answer["Quotas"]]
        if "NextToken" not in answer:
            break
        token = {"NextToken": answer["NextToken"]}
    assert len(names) == len(set(names)) > 4
    assert "ml.g6e.xlarge for endpoint usage" in names


@pytest.mark.parametrize(
    ("operation", "request_", "code"),
    [
        ("GetServiceQuota", {"ServiceCode": "lambda", "QuotaCode": "L-00000000"}, "NoSuchResourceException"),
        ("GetServiceQuota", {"ServiceCode": "lambda"}, "ValidationException"),
        ("ListServiceQuotas", {"ServiceCode": "lambada"}, "NoSuchResourceException"),
        ("ListServiceQuotas", {"ServiceCode": "lambda", "NextToken": "x"}, "InvalidPaginationTokenException"),
        ("ListServiceQuotas", {"ServiceCode": "bad code!"}, "ValidationException"),
        ("ListServiceQuotas", {"ServiceCode": "lambda", "MaxResults": 0}, "ValidationException"),
        (
            "RequestServiceQuotaIncrease",
            {"ServiceCode": "lambda", "QuotaCode": "L-B99A9384", "DesiredValue": 2000},
            "UnknownOperationException",
        ),
        ("NoSuchOperation", {}, "UnknownOperationException"),
    ],
)
def test_the_rest_is_refused(operation: str, request_: dict[str, Any], code: str) -> None:
    status, answer = call(operation, **request_)
    assert (status, answer["__type"]) == (400, code)
