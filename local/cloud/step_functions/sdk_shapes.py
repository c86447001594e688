"""Between Step Functions' spelling of an API's requests and replies and boto3's.

Step Functions writes every member with a capital letter and every value as JSON; boto3 wants the service's
own names, bytes and times. Knows nothing of state machines.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import datetime
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape


def to_request(client: Any, operation: str, data: Any) -> dict[str, Any]:
    """A request as boto3 takes it. Members that the operation does not know are left for boto3 to refuse."""
    model = client.meta.service_model
    if operation not in model.operation_names or not isinstance(data, dict):
        return data if isinstance(data, dict) else {}
    shape = model.operation_model(operation).input_shape
    return _request(data, shape) if shape is not None else data


def _request(value: Any, shape: Shape) -> Any:
    if isinstance(shape, StructureShape) and isinstance(value, dict):
        names = {name.lower(): name for name in shape.members}
        spelled = {names.get(name.lower(), name): item for name, item in value.items()}
        return {
            name: _request(item, shape.members[name]) if name in shape.members else item
            for name, item in spelled.items()
        }
    if isinstance(shape, ListShape) and isinstance(value, list):
        return [_request(item, shape.member) for item in value]
    if isinstance(shape, MapShape) and isinstance(value, dict):
        return {name: _request(item, shape.value) for name, item in value.items()}
    if shape.type_name == "blob" and isinstance(value, str):
        return value.encode()
    return value


def from_reply(client: Any, operation: str, reply: dict[str, Any], time: Callable[[datetime], Any]) -> Any:
    """A reply as JSON: members with a capital letter, bytes in base64, times through `time`."""
    shape = client.meta.service_model.operation_model(operation).output_shape
    return _reply(reply, shape, time) if shape is not None else {}


def _reply(value: Any, shape: Shape, time: Callable[[datetime], Any]) -> Any:
    if isinstance(shape, StructureShape) and isinstance(value, dict):
        return {
            name[:1].upper() + name[1:]: _reply(item, shape.members[name], time)
            for name, item in value.items()
            if name in shape.members
        }
    if isinstance(shape, ListShape):
        return [_reply(item, shape.member, time) for item in value]
    if isinstance(shape, MapShape):
        return {name: _reply(item, shape.value, time) for name, item in value.items()}
    if isinstance(value, datetime):
        return time(value)
    if hasattr(value, "read"):
        value = value.read()
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value
