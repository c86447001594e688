"""What is kept when an environment is deleted, and about what it costs a month."""

from __future__ import annotations

from dataclasses import dataclass

from botocore.exceptions import BotoCoreError, ClientError

from operations import prices
from operations.deletion_plan import PlannedResource
from operations.target import Target

_BILLED = ("AWS::KMS::Key", "AWS::S3::Bucket", "AWS::DynamoDB::Table", "AWS::Logs::LogGroup")
_FREE = ("AWS::SageMaker::ModelPackageGroup",)
_MAX_PAGES = 100  # of 1,000 versions: beyond them the size is a lower bound


@dataclass(frozen=True)
class KeptResource:
    """A kept resource that costs something or holds something, and its price a month, None where unknown."""

    resource: PlannedResource
    what: str
    usd_per_month: float | None


def kept_resources(target: Target, resources: list[PlannedResource]) -> list[KeptResource]:
    """Those that are kept and matter: policies and aliases of kept things are left out."""
    return [_priced(target, one) for one in resources if one.kept and one.type in (*_BILLED, *_FREE)]


def _priced(target: Target, resource: PlannedResource) -> KeptResource:
    try:
        what, price = _describe(target, resource)
    except (ClientError, BotoCoreError):
        what, price = "could not be read", None
    return KeptResource(resource, what, price)


def _describe(target: Target, resource: PlannedResource) -> tuple[str, float]:
    name, region = resource.physical_id, resource.region
    match resource.type:
        case "AWS::KMS::Key":
            return "key", prices.KMS_KEY_USD_PER_MONTH
        case "AWS::S3::Bucket":
            size, more = _bucket_bytes(target, name, region)
            words = f"bucket, {'at least ' if more else ''}{prices.gigabytes(size):.2f} GB"
            return words, prices.gigabytes(size) * prices.S3_USD_PER_GB_MONTH
        case "AWS::DynamoDB::Table":
            table = target.client("dynamodb", region).describe_table(TableName=name)["Table"]
            size = table.get("TableSizeBytes", 0)
            price = prices.DYNAMODB_USD_PER_GB_MONTH + prices.DYNAMODB_RECOVERY_USD_PER_GB_MONTH
            return f"table, {table.get('ItemCount', 0):,} items", prices.gigabytes(size) * price
        case "AWS::Logs::LogGroup":
            groups = target.client("logs", region).describe_log_groups(logGroupNamePrefix=name)["logGroups"]
            size = sum(group.get("storedBytes", 0) for group in groups if group["logGroupName"] == name)
            words = f"log group, {prices.gigabytes(size):.2f} GB"
            return words, prices.gigabytes(size) * prices.LOGS_USD_PER_GB_MONTH
        case _:
            return "model packages", 0.0


def _bucket_bytes(target: Target, bucket: str, region: str) -> tuple[int, bool]:
    pages = target.client("s3", region).get_paginator("list_object_versions").paginate(Bucket=bucket)
    size = 0
    for number, page in enumerate(pages):
        if number == _MAX_PAGES:
            return size, True
        size += sum(version["Size"] for version in page.get("Versions", []))
    return size, False
