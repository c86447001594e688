"""Releases as the ledger and the model registry tell of them, and the lock of the endpoint. Reads only."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from contracts.release_ledger import RELEASE_PREFIX, Lock, lock_key
from contracts.release_tasks import LedgerRow, ServedModel
from operations.dynamodb import from_item, to_item

_END = "release_lock"


@dataclass(frozen=True)
class ReleaseRecord:
    """One release: its rows in order. `outcome` is None while it runs."""

    id: str
    rows: tuple[LedgerRow, ...]

    @property
    def started_at(self) -> datetime:
        """When its first row was written."""
        return _time_of(self.rows[0])

    @property
    def outcome(self) -> str | None:
        """`promoted`, `kept`, `failed` …, as the end of the release says; None while it runs."""
        return self._end.outcome if self._end else None

    @property
    def reason(self) -> str:
        """Why it ended so; of one that runs, its last row's reason."""
        return (self._end or self.rows[-1]).reason

    @property
    def step(self) -> str:
        """The latest step and its outcome."""
        return f"{self.rows[-1].step}: {self.rows[-1].outcome}"

    @property
    def challenger(self) -> ServedModel | None:
        """The model that it tried to release, once it was trained."""
        return self._model("describe_challenger") or self._model("go_back")

    @property
    def base(self) -> ServedModel | None:
        """What an operator's way back replaced; a release's is in its package."""
        return self._model("acquire_lock")

    @property
    def package_arn(self) -> str | None:
        """Its package in the model registry."""
        found = next((row for row in self.rows if row.step == "register"), None)
        return str(json.loads(found.detail).get("package_arn")) if found else None

    @property
    def _end(self) -> LedgerRow | None:
        return next((row for row in reversed(self.rows) if row.step == _END), None)

    def _model(self, step: str) -> ServedModel | None:
        for row in self.rows:
            if row.step == step:
                try:
                    return ServedModel.model_validate_json(row.detail)
                except ValidationError:
                    continue
        return None


@dataclass(frozen=True)
class RegisteredModel:
    """A package of the registry: model, approval, report, and the champion that it was to replace."""

    arn: str
    number: int
    status: str
    model: ServedModel
    base: ServedModel | None
    report_uri: str | None
    created_at: datetime
    metadata: dict[str, str] = field(default_factory=dict)


def read_releases(dynamodb: Any, table: str) -> list[ReleaseRecord]:
    """All releases, the newest first. The ledger grows by some twenty rows a release, so it is read whole."""
    rows: dict[str, list[LedgerRow]] = {}
    pages = dynamodb.get_paginator("scan").paginate(
        TableName=table,
        ConsistentRead=True,
        FilterExpression="begins_with(pk, :release) AND attribute_exists(step)",
        ExpressionAttributeValues=to_item({":release": RELEASE_PREFIX}),
    )
    for item in (entry for page in pages for entry in page["Items"]):
        row = LedgerRow.model_validate(from_item(item))
        rows.setdefault(row.pk.removeprefix(RELEASE_PREFIX), []).append(row)
    releases = [
        ReleaseRecord(name, tuple(sorted(found, key=lambda row: row.sk))) for name, found in rows.items()
    ]
    return sorted(releases, key=lambda release: release.started_at, reverse=True)


def read_lock(dynamodb: Any, table: str, endpoint_name: str) -> Lock | None:
    """The endpoint's lock; None while it is free."""
    found = dynamodb.get_item(TableName=table, Key=to_item(lock_key(endpoint_name)), ConsistentRead=True)
    return Lock.model_validate(from_item(found["Item"])) if found.get("Item") else None


def read_registry(sagemaker: Any, group: str) -> list[RegisteredModel]:
    """The group's packages, the newest first."""
    pages = sagemaker.get_paginator("list_model_packages").paginate(
        ModelPackageGroupName=group, SortBy="CreationTime", SortOrder="Descending"
    )
    arns = [entry["ModelPackageArn"] for page in pages for entry in page["ModelPackageSummaryList"]]
    packages = [sagemaker.describe_model_package(ModelPackageName=arn) for arn in arns]
    return [package for found in packages if (package := _package(found)) is not None]


def _package(found: dict[str, Any]) -> RegisteredModel | None:
    """A package as a release registers it; None for one that something else put into the group."""
    metadata = found.get("CustomerMetadataProperties", {})
    quality = found.get("ModelMetrics", {}).get("ModelQuality", {}).get("Statistics", {})
    try:
        source = found["InferenceSpecification"]["Containers"][0]["ModelDataSource"]["S3DataSource"]
        model = ServedModel(
            uri=source["S3Uri"], digest=metadata.get("digest", ""), version=metadata["version"]
        )
        base = ServedModel(
            uri=metadata["base_uri"],
            digest=metadata.get("base_digest", ""),
            version=metadata["base_version"],
        )
    except (KeyError, IndexError, ValidationError):
        return None
    return RegisteredModel(
        arn=found["ModelPackageArn"],
        number=found["ModelPackageVersion"],
        status=found.get("ModelApprovalStatus", ""),
        model=model,
        base=base,
        report_uri=metadata.get("report_uri") or quality.get("S3Uri"),
        created_at=found["CreationTime"],
        metadata=metadata,
    )


def _time_of(row: LedgerRow) -> datetime:
    return datetime.fromtimestamp(int(row.sk.partition("#")[0]) / 1000, UTC)
