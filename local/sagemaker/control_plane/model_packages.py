"""Operations on model package groups and model packages: the register of what was released, and why.

A package is a numbered version in a group, `arn:…:model-package/<group>/<n>`, or stands alone under a name.
Records only: nothing here runs.
"""

from __future__ import annotations

from collections.abc import Callable

from local.sagemaker.errors import AwsApiError, invalid, unsupported
from local.sagemaker.listing import page
from local.sagemaker.records import JsonObject
from local.sagemaker.store import SageMakerStore, now
from local.sagemaker.tags import store_tags

EVENT = "SageMaker Model Package State Change"
_UNSUPPORTED = (
    "AdditionalInferenceSpecifications",
    "CertifyForMarketplace",
    "ManagedStorageType",
    "ModelCard",
    "SourceAlgorithmSpecification",
    "ValidationSpecification",
)
_UPDATABLE = (
    "ApprovalDescription",
    "InferenceSpecification",
    "ModelApprovalStatus",
    "ModelLifeCycle",
    "SourceUri",
)
_NOT_KEPT = frozenset({"Tags", "ClientToken"})
_SUMMARY = (
    "ModelPackageName",
    "ModelPackageGroupName",
    "ModelPackageVersion",
    "ModelPackageArn",
    "ModelPackageDescription",
    "CreationTime",
    "ModelPackageStatus",
    "ModelApprovalStatus",
    "ModelLifeCycle",
)

_BATCH_SUMMARY = (
    "ModelPackageGroupName",
    "ModelPackageVersion",
    "ModelPackageArn",
    "ModelPackageDescription",
    "CreationTime",
    "InferenceSpecification",
    "ModelPackageStatus",
    "ModelApprovalStatus",
    "ModelPackageRegistrationType",
)

Announce = Callable[[str, JsonObject, str], None]
"""Takes an event's detail type, its detail and the resource's ARN."""


def create_group(store: SageMakerStore, request: JsonObject) -> JsonObject:
    """CreateModelPackageGroup."""
    if "ManagedConfiguration" in request:
        raise unsupported("ManagedConfiguration")
    name = request["ModelPackageGroupName"]
    if store.package_groups.find(name) is not None:
        raise invalid(f"Model Package Group already exists: {store.package_groups.arn(name)}")
    arn = store.package_groups.arn(name)
    record = {key: value for key, value in request.items() if key not in _NOT_KEPT}
    record |= {
        "ModelPackageGroupArn": arn,
        "CreationTime": now(),
        "CreatedBy": {},
        "ModelPackageGroupStatus": "Completed",
    }
    store.package_groups.add(name, record)
    store_tags(store, arn, request)
    return {"ModelPackageGroupArn": arn}


def describe_group(store: SageMakerStore, request: JsonObject) -> JsonObject:
    """DescribeModelPackageGroup."""
    record = _group(store, request["ModelPackageGroupName"])
    return {key: value for key, value in record.items() if key != "LastVersion"}


def list_groups(store: SageMakerStore, request: JsonObject) -> JsonObject:
    """ListModelPackageGroups."""
    if "CrossAccountFilterOption" in request and request["CrossAccountFilterOption"] != "SameAccount":
        raise unsupported("groups of other accounts")
    fields = (
        "ModelPackageGroupName",
        "ModelPackageGroupArn",
        "ModelPackageGroupDescription",
        "CreationTime",
        "ModelPackageGroupStatus",
    )
    groups = store.package_groups.records.values()
    found, token = page(groups, request, noun="ModelPackageGroup", fields=fields)
    return {"ModelPackageGroupSummaryList": found} | ({"NextToken": token} if token else {})


def delete_group(store: SageMakerStore, request: JsonObject) -> JsonObject:
    """DeleteModelPackageGroup: only an empty one."""
    record = _group(store, request["ModelPackageGroupName"])
    if _versions(store, record["ModelPackageGroupName"]):
        raise AwsApiError(
            "ConflictException",
            f"Model Package Group {record['ModelPackageGroupArn']} cannot be deleted: it still has model "
            "packages.",
        )
    store.package_groups.remove(record["ModelPackageGroupName"])
    store.tags.pop(record["ModelPackageGroupArn"], None)
    return {}


def create_package(store: SageMakerStore, announce: Announce, request: JsonObject) -> JsonObject:
    """CreateModelPackage: a version of a group, or a package of its own."""
    for feature in _UNSUPPORTED:
        if request.get(feature):
            raise unsupported(feature)
    group, name = request.get("ModelPackageGroupName"), request.get("ModelPackageName")
    if bool(group) == bool(name):
        raise invalid("You must specify either ModelPackageName or ModelPackageGroupName, and not both.")
    if not request.get("InferenceSpecification") and not request.get("SourceUri"):
        raise invalid("You must specify InferenceSpecification or SourceUri.")
    repeated = _created_with_token(store, request)
    if repeated:
        return {"ModelPackageArn": repeated}
    record = {key: value for key, value in request.items() if key not in _NOT_KEPT}
    if group:
        path = _next_version(store, group, record)
    else:
        if request.get("ModelApprovalStatus"):
            raise invalid("ModelApprovalStatus is for versioned model packages only.")
        path = str(name)
        if store.packages.find(path) is not None:
            raise invalid(f"Model Package already exists: {store.packages.arn(path)}")
    arn = store.packages.arn(path)
    record |= {
        "ModelPackageArn": arn,
        "ModelPackageName": path,
        "CreationTime": now(),
        "CreatedBy": {},
        "ModelPackageStatus": "Completed",
        "ModelPackageStatusDetails": {"ValidationStatuses": [], "ImageScanStatuses": []},
    }
    if "ClientToken" in request:
        record["ClientToken"] = request["ClientToken"]
    store.packages.add(path, record)
    store_tags(store, arn, request)
    _announce(announce, record)
    return {"ModelPackageArn": arn}


def _next_version(store: SageMakerStore, group: str, record: JsonObject) -> str:
    """Number a version: numbers are never given twice, not even after a deletion."""
    name = group.rpartition("/")[2]  # a name or an ARN
    owner = _group(store, name)
    owner["LastVersion"] = owner.get("LastVersion", 0) + 1
    record |= {
        "ModelPackageGroupName": owner["ModelPackageGroupName"],
        "ModelPackageVersion": owner["LastVersion"],
    }
    record.setdefault("ModelApprovalStatus", "PendingManualApproval")
    return f"{owner['ModelPackageGroupName']}/{owner['LastVersion']}"


def _created_with_token(store: SageMakerStore, request: JsonObject) -> str | None:
    """The package that an earlier try of the same request made."""
    token = request.get("ClientToken")
    for record in store.packages.records.values():
        if token is not None and record.get("ClientToken") == token:
            return str(record["ModelPackageArn"])
    return None


def describe_package(store: SageMakerStore, request: JsonObject) -> JsonObject:
    """DescribeModelPackage: by ARN, or by name for a package without a group."""
    record = _package(store, request["ModelPackageName"])
    return {"CertifyForMarketplace": False} | _named_as_the_service_does(record)


def batch_describe_packages(store: SageMakerStore, request: JsonObject) -> JsonObject:
    """BatchDescribeModelPackage: summaries of versions, and an error for each ARN that names none."""
    found: JsonObject = {}
    errors: JsonObject = {}
    for arn in request["ModelPackageArnList"]:
        try:
            record = _package(store, arn)
            found[arn] = {name: record[name] for name in _BATCH_SUMMARY if name in record}
        except AwsApiError as error:
            errors[arn] = {"ErrorCode": error.code, "ErrorResponse": error.message}
    return {"ModelPackageSummaries": found} | (
        {"BatchDescribeModelPackageErrorMap": errors} if errors else {}
    )


def list_packages(store: SageMakerStore, request: JsonObject) -> JsonObject:
    """ListModelPackages: of a group, or those without one."""
    group, kind = request.get("ModelPackageGroupName"), request.get("ModelPackageType")
    if group:
        records = _versions(store, _group(store, group.rpartition("/")[2])["ModelPackageGroupName"])
    else:
        wanted = {"Versioned": {True}, "Both": {True, False}}.get(kind or "Unversioned", {False})
        records = [
            record
            for record in store.packages.records.values()
            if ("ModelPackageVersion" in record) in wanted
        ]
    status = request.get("ModelApprovalStatus")
    records = [record for record in records if status in (None, record.get("ModelApprovalStatus"))]
    found, token = page(records, request, noun="ModelPackage", fields=_SUMMARY)
    summaries = [_named_as_the_service_does(summary) for summary in found]
    return {"ModelPackageSummaryList": summaries} | ({"NextToken": token} if token else {})


def update_package(store: SageMakerStore, announce: Announce, request: JsonObject) -> JsonObject:
    """UpdateModelPackage: approval, metadata, where the model came from."""
    for feature in ("AdditionalInferenceSpecificationsToAdd", "ModelCard", "ModelPackageRegistrationType"):
        if request.get(feature):
            raise unsupported(feature)
    record = _package(store, request["ModelPackageArn"])
    if "ModelApprovalStatus" in request and "ModelPackageVersion" not in record:
        raise invalid("ModelApprovalStatus is for versioned model packages only.")
    metadata = record.get("CustomerMetadataProperties", {}) | request.get("CustomerMetadataProperties", {})
    for name in request.get("CustomerMetadataPropertiesToRemove", []):
        metadata.pop(name, None)
    record |= {name: request[name] for name in _UPDATABLE if name in request}
    record |= {"LastModifiedTime": now(), "LastModifiedBy": {}, "CustomerMetadataProperties": metadata}
    if "ModelApprovalStatus" in request:
        _announce(announce, record)
    return {"ModelPackageArn": record["ModelPackageArn"]}


def delete_package(store: SageMakerStore, request: JsonObject) -> JsonObject:
    """DeleteModelPackage."""
    record = _package(store, request["ModelPackageName"])
    store.packages.remove(record["ModelPackageName"])
    store.tags.pop(record["ModelPackageArn"], None)
    return {}


def resource_arns(store: SageMakerStore, request: JsonObject) -> list[str]:
    """The ARNs that a request is checked for: its package, and the group that a new version goes into."""
    found = []
    group, package = request.get("ModelPackageGroupName"), request.get("ModelPackageName")
    if isinstance(request.get("ModelPackageArnList"), list):
        found += [str(arn) for arn in request["ModelPackageArnList"]]
    if isinstance(group, str):
        found.append(store.package_groups.arn(group.rpartition("/")[2]))
    if isinstance(package, str):
        found.append(package if package.startswith("arn:") else store.packages.arn(package))
    if isinstance(request.get("ModelPackageArn"), str):
        found.append(request["ModelPackageArn"])
    return found or ["*"]


def _named_as_the_service_does(record: JsonObject) -> JsonObject:
    """What the service tells of a package: a version has no name beside its group's and its number.

    The API's model calls ModelPackageName required; the answers in the developer guide ("View the Details of
    a Model Version") do without, and the SageMaker Python SDK falls back on the ARN then.
    """
    hidden = {"ClientToken", *(("ModelPackageName",) if "ModelPackageVersion" in record else ())}
    return {name: value for name, value in record.items() if name not in hidden}


def _announce(announce: Announce, record: JsonObject) -> None:
    detail = {
        name: int(value * 1000) if name.endswith("Time") else value
        for name, value in record.items()
        if name != "ClientToken"
    }
    announce(EVENT, detail, record["ModelPackageArn"])


def _group(store: SageMakerStore, name: str) -> JsonObject:
    record = store.package_groups.find(name.rpartition("/")[2])
    if record is None:
        raise invalid(f"ModelPackageGroup {store.package_groups.arn(name)} does not exist.")
    return record


def _package(store: SageMakerStore, name_or_arn: str) -> JsonObject:
    prefix = store.packages.arn("")
    path = name_or_arn.removeprefix(prefix) if name_or_arn.startswith("arn:") else name_or_arn
    record = store.packages.find(path)
    if record is None:
        raise invalid(f"ModelPackage {store.packages.arn(path)} does not exist.")
    return record


def _versions(store: SageMakerStore, group: str) -> list[JsonObject]:
    return [
        record
        for record in store.packages.records.values()
        if record.get("ModelPackageGroupName") == group and "ModelPackageVersion" in record
    ]
