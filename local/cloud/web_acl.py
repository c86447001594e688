"""The CloudFormation type that the emulator lacks to tie a web ACL to an API stage.

The association is stored and can be read back. Its rules are not applied to requests: see
docs/laptop-cloud.md.
"""

from __future__ import annotations

from typing import Any

import boto3

from local.cloud import seams
from local.cloud.config import CloudConfig


def register(config: CloudConfig) -> None:
    """Add AWS::WAFv2::WebACLAssociation; its physical id is `<web ACL arn>|<resource arn>`, as on AWS."""
    client = boto3.client(
        "wafv2",
        endpoint_url=config.endpoint_url,
        region_name=config.region,
        aws_access_key_id=config.account,
        aws_secret_access_key="local",  # noqa: S106 - the emulator's root user
    )

    def create(_logical_id: str, properties: dict[str, Any], _stack: str) -> tuple[str, dict[str, Any]]:
        acl, resource = properties["WebACLArn"], properties["ResourceArn"]
        client.associate_web_acl(WebACLArn=acl, ResourceArn=resource)
        return f"{acl}|{resource}", {}

    def update(
        physical_id: str, _old: dict[str, Any], _new: dict[str, Any], _stack: str
    ) -> tuple[str, dict[str, Any]]:
        return physical_id, {}

    def delete(physical_id: str, _properties: dict[str, Any]) -> None:
        client.disassociate_web_acl(ResourceArn=physical_id.rpartition("|")[2])

    seams.add_resource_type(
        "AWS::WAFv2::WebACLAssociation", create=create, update=update, delete=delete, create_only=["*"]
    )
