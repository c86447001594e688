"""The service's own API: quotas are read, changes are refused. Every request is checked first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # its stubs are in the development environment only
from pydantic import BaseModel, ConfigDict

from local.sagemaker.control_plane.api import JsonResponse
from local.sagemaker.errors import AwsApiError
from local.sagemaker.request_validation import service_model, validate_request

SERVICE = "service-quotas"
IAM_SERVICE = "servicequotas"
TARGET_PREFIX = "ServiceQuotasV20190624."
CONTENT_TYPE = "application/x-amz-json-1.1"
TABLE = Path(__file__).with_name("quotas.yaml")
_PAGE = 100


class _Quota(BaseModel):
    model_config = ConfigDict(extra="forbid")

    code: str
    name: str
    value: float


class _Service(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    quotas: list[_Quota]


class ServiceQuotas:
    """Reads `quotas.yaml` for one account and region."""

    def __init__(self, account: str, region: str, table: Path = TABLE) -> None:
        self._account, self._region = account, region
        rows = yaml.safe_load(table.read_text(encoding="utf-8"))["services"]
        self._services = {code: _Service.model_validate(row) for code, row in rows.items()}
        self._operations = {
            "GetServiceQuota": self._get,
            "GetAWSDefaultServiceQuota": self._get,
            "ListServiceQuotas": self._list,
            "ListAWSDefaultServiceQuotas": self._list,
        }

    def handle(self, target: str, body: bytes) -> JsonResponse:
        """Answer `X-Amz-Target: ServiceQuotasV20190624.<Operation>` with its JSON body."""
        try:
            answer = self._call(target.removeprefix(TARGET_PREFIX), json.loads(body or b"{}"))
        except ValueError:
            return _refusal(AwsApiError("SerializationException", "The body is not JSON."))
        except AwsApiError as error:
            return _refusal(error)
        return JsonResponse(200, json.dumps(answer).encode())

    def _call(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        if operation not in self._operations:
            known = operation in service_model(SERVICE).operation_names
            reason = "is not part of the laptop cloud" if known else "does not exist"
            raise AwsApiError("UnknownOperationException", f"The operation {operation} {reason}.")
        validate_request(SERVICE, operation, request)
        return self._operations[operation](request)

    def _get(self, request: dict[str, Any]) -> dict[str, Any]:
        code = request["ServiceCode"]
        found = [quota for quota in self._service(code).quotas if quota.code == request["QuotaCode"]]
        if not found:
            raise AwsApiError(
                "NoSuchResourceException", "The request failed because the specified quota does not exist."
            )
        return {"Quota": self._described(code, found[0])}

    def _list(self, request: dict[str, Any]) -> dict[str, Any]:
        code = request["ServiceCode"]
        quotas = self._service(code).quotas
        if "QuotaCode" in request:
            quotas = [quota for quota in quotas if quota.code == request["QuotaCode"]]
        try:
            start = int(request.get("NextToken", "0"))
        except ValueError:
            raise AwsApiError("InvalidPaginationTokenException", "Invalid input was provided.") from None
        end = start + int(request.get("MaxResults", _PAGE))
        answer: dict[str, Any] = {"Quotas": [self._described(code, quota) for quota in quotas[start:end]]}
        return answer | ({"NextToken": str(end)} if end < len(quotas) else {})

    def _service(self, code: str) -> _Service:
        if code not in self._services:
            raise AwsApiError(
                "NoSuchResourceException",
                f"The request failed because the specified service {code} does not exist.",
            )
        return self._services[code]

    def _described(self, service: str, quota: _Quota) -> dict[str, Any]:
        arn = f"arn:aws:servicequotas:{self._region}:{self._account}:{service}/{quota.code}"
        return {
            "ServiceCode": service,
            "ServiceName": self._services[service].name,
            "QuotaArn": arn,
            "QuotaCode": quota.code,
            "QuotaName": quota.name,
            "Value": quota.value,
            "Unit": "None",
            "Adjustable": True,
            "GlobalQuota": False,
            "QuotaAppliedAtLevel": "ACCOUNT",
        }


def _refusal(error: AwsApiError) -> JsonResponse:
    return JsonResponse(error.status, error.json_body())
