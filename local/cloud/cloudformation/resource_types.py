"""CloudFormation types that the emulator lacks though it has the API: each is a few calls to that API.

The web ACL's rules are not applied to requests: see docs/laptop-cloud.md.
"""

from __future__ import annotations

from typing import Any

from local.cloud import ministack_adapter
from local.cloud.clients import OperatorClients
from local.cloud.config import CloudConfig

Properties = dict[str, Any]


def register(config: CloudConfig) -> None:
    """Add the types. They run on worker threads, so calling the emulator from them does not block it."""

    clients = OperatorClients(config)
    _add_web_acl_association(clients("wafv2"))
    _add_composite_alarm(clients("cloudwatch"), config)


def _add_web_acl_association(waf: Any) -> None:
    """AWS::WAFv2::WebACLAssociation; its physical id is `<web ACL arn>|<resource arn>`, as on AWS."""

    def create(_logical_id: str, properties: Properties, _stack: str) -> tuple[str, Properties]:
        acl, resource = properties["WebACLArn"], properties["ResourceArn"]
        waf.associate_web_acl(WebACLArn=acl, ResourceArn=resource)
        return f"{acl}|{resource}", {}

    def update(physical_id: str, _old: Properties, _new: Properties, _stack: str) -> tuple[str, Properties]:
        return physical_id, {}

    def delete(physical_id: str, _properties: Properties) -> None:
        waf.disassociate_web_acl(ResourceArn=physical_id.rpartition("|")[2])

    ministack_adapter.add_resource_type(
        "AWS::WAFv2::WebACLAssociation", create=create, update=update, delete=delete, create_only=["*"]
    )


def _add_composite_alarm(cloudwatch: Any, config: CloudConfig) -> None:
    """AWS::CloudWatch::CompositeAlarm; its physical id is the alarm's name."""

    def put(properties: Properties) -> tuple[str, Properties]:
        own_tags = [tag for tag in properties.get("Tags", []) if not tag["Key"].startswith("aws:")]
        cloudwatch.put_composite_alarm(**properties | {"Tags": own_tags})
        name = properties["AlarmName"]
        return name, {"Arn": f"arn:aws:cloudwatch:{config.region}:{config.account}:alarm:{name}"}

    def create(logical_id: str, properties: Properties, stack: str) -> tuple[str, Properties]:
        return put({"AlarmName": f"{stack}-{logical_id}"} | properties)

    def update(physical_id: str, _old: Properties, new: Properties, _stack: str) -> tuple[str, Properties]:
        return put({"AlarmName": physical_id} | new)

    def delete(physical_id: str, _properties: Properties) -> None:
        cloudwatch.delete_alarms(AlarmNames=[physical_id])

    ministack_adapter.add_resource_type(
        "AWS::CloudWatch::CompositeAlarm",
        create=create,
        update=update,
        delete=delete,
        create_only=["AlarmName"],
    )
