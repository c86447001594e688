"""The model registry: packages of one group."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from contracts.release_tasks import ServedModel

_CONTENT_TYPES = ["application/json"]
_REPLY_TYPES = ["application/json", "text/event-stream"]


class ModelRegistry:
    """The packages of the group `group`."""

    def __init__(self, group: str, sagemaker: Any) -> None:
        self._group = group
        self._sagemaker = sagemaker

    def register(
        self, model: ServedModel, *, image: str, report_uri: str, lineage: Mapping[str, str], token: str
    ) -> str:
        """Create a pending package and return its ARN; the same `token` creates no second one."""
        source = {"S3Uri": model.uri, "S3DataType": "S3Prefix", "CompressionType": "None"}
        reply = self._sagemaker.create_model_package(
            ModelPackageGroupName=self._group,
            ModelPackageDescription=f"Model version {model.version}",
            ModelApprovalStatus="PendingManualApproval",
            InferenceSpecification={
                "Containers": [{"Image": image, "ModelDataSource": {"S3DataSource": source}}],
                "SupportedContentTypes": _CONTENT_TYPES,
                "SupportedResponseMIMETypes": _REPLY_TYPES,
            },
            ModelMetrics={
                "ModelQuality": {"Statistics": {"ContentType": "application/json", "S3Uri": report_uri}}
            },
            CustomerMetadataProperties={name: value for name, value in lineage.items() if value},
            ClientToken=hashlib.sha256(token.encode()).hexdigest()[:36],
        )
        return str(reply["ModelPackageArn"])

    def decide(self, package_arn: str, status: str, reason: str) -> None:
        """Set the approval status: Approved or Rejected."""
        self._sagemaker.update_model_package(
            ModelPackageArn=package_arn, ModelApprovalStatus=status, ApprovalDescription=reason
        )
