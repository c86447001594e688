"""The records of the control plane: models, endpoint configurations, endpoints, jobs, packages and tags.

Knows nothing of processes. Names are unique without regard to case, as the service's ARNs are lower case.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from local.sagemaker.errors import invalid
from local.sagemaker.records import (
    AsyncRequestRecord,
    EndpointConfigRecord,
    EndpointRecord,
    InferenceComponentRecord,
    JsonObject,
    ModelRecord,
)

RecordT = TypeVar("RecordT", bound=Mapping[str, Any])


@dataclass(frozen=True)
class Identity:
    """The account and the region of the laptop cloud."""

    account: str
    region: str

    def arn(self, kind: str, name: str) -> str:
        """The ARN of a resource: `kind` as `model`, `endpoint-config`, `endpoint`."""
        return f"arn:aws:sagemaker:{self.region}:{self.account}:{kind}/{name.lower()}"


@dataclass
class Collection(Generic[RecordT]):
    """All resources of one kind. `label` is what the service calls it in messages."""

    identity: Identity
    kind: str
    label: str
    records: dict[str, RecordT] = field(default_factory=dict)

    def arn(self, name: str) -> str:
        """The ARN that a resource of this name has or would have."""
        return self.identity.arn(self.kind, name)

    def find(self, name: str) -> RecordT | None:
        """The record of a name, or None."""
        return self.records.get(name.lower())

    def get(self, name: str) -> RecordT:
        """The record of a name; raises the service's not-found error."""
        record = self.find(name)
        if record is None:
            raise invalid(f'Could not find {self.label} "{self.arn(name)}".')
        return record

    def add(self, name: str, record: RecordT) -> RecordT:
        """Keep a new record; raises the service's error for a name already taken."""
        if self.find(name) is not None:
            raise invalid(f'Cannot create already existing {self.label} "{self.arn(name)}".')
        self.records[name.lower()] = record
        return record

    def remove(self, name: str) -> RecordT:
        """Forget a record; raises the service's not-found error."""
        record = self.get(name)
        del self.records[name.lower()]
        return record


class SageMakerStore:
    """Every record, and the tags by ARN."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.models = Collection[ModelRecord](identity, "model", "model")
        self.configs = Collection[EndpointConfigRecord](identity, "endpoint-config", "endpoint configuration")
        self.endpoints = Collection[EndpointRecord](identity, "endpoint", "endpoint")
        self.training_jobs = Collection[JsonObject](identity, "training-job", "training job")
        self.processing_jobs = Collection[JsonObject](identity, "processing-job", "processing job")
        self.package_groups = Collection[JsonObject](identity, "model-package-group", "model package group")
        self.packages = Collection[JsonObject](identity, "model-package", "model package")
        self.components = Collection[InferenceComponentRecord](
            identity, "inference-component", "inference component"
        )
        self.async_requests: list[AsyncRequestRecord] = []
        self.tags: dict[str, dict[str, str]] = {}
        # Set by Application Auto Scaling: an endpoint's variants that are registered as scalable targets.
        self.scaled_variants: Callable[[str], frozenset[str]] = lambda _endpoint: frozenset()

    def exists(self, arn: str) -> bool:
        """Whether an ARN names a resource of this store."""
        return any(
            arn == collection.arn(name) for collection in self._collections() for name in collection.records
        )

    def dump(self) -> dict[str, Any]:
        """Everything, as JSON data."""
        records = {c.kind: c.records for c in self._collections()}
        return records | {"tags": self.tags, "async-requests": self.async_requests}

    def load(self, data: dict[str, Any]) -> None:
        """The inverse of `dump`."""
        for collection in self._collections():
            collection.records = dict(data.get(collection.kind, {}))
        self.tags = dict(data.get("tags", {}))
        self.async_requests = list(data.get("async-requests", []))

    def _collections(self) -> tuple[Collection[Any], ...]:
        return (
            self.models,
            self.configs,
            self.endpoints,
            self.training_jobs,
            self.processing_jobs,
            self.package_groups,
            self.packages,
            self.components,
        )


def now() -> float:
    """Seconds since the epoch, to the millisecond, as the service gives times."""
    return round(time.time(), 3)
