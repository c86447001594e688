"""CloudFormation: resource types of our own, and what the emulator's types lack."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ministack.services import cloudformation as _cloudformation
from ministack.services.cloudformation import provisioners as _provisioners
from ministack.services.cloudformation import stacks as _stacks

from local.cloud.adapter_types import CreateResource, DeleteResource, UpdateResource
from local.cloud.ministack_adapter.scope import account_scope

_worker_types: set[str] = set()


def add_resource_type(
    type_name: str,
    *,
    create: CreateResource,
    update: UpdateResource,
    delete: DeleteResource,
    create_only: Sequence[str] = (),
) -> None:
    """Teach CloudFormation a type. All three run on a worker thread, so they may block (use `call` to reach
    async code). An exception fails the resource with its text as the reason.

    `create(logical_id, properties, stack_name) -> (physical_id, attributes)`;
    `update(physical_id, old_properties, new_properties, stack_name) -> (physical_id, attributes)`;
    `delete(physical_id, properties)`. A change of a `create_only` property makes CloudFormation create a new
    resource and delete the old one at the end (`"*"`: any change but of Tags).
    """

    def replace_or_update(
        physical_id: str, old: dict[str, Any], new: dict[str, Any], stack_name: str, logical_id: str
    ) -> tuple[str, dict[str, Any]]:
        changed = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
        if changed & set(create_only) or ("*" in create_only and changed - {"Tags"}):
            return create(logical_id, new, stack_name)
        return update(physical_id, old, new, stack_name)

    _provisioners._RESOURCE_HANDLERS[type_name] = {
        "create": create,
        "update": replace_or_update,
        "update_with_logical_id": True,
        "delete": delete,
    }
    _worker_types.add(type_name)
    _provisioners._STACK_TAG_PROPERTY.setdefault(type_name, ("Tags", "list"))


def after_provisioning(
    type_name: str, callback: Callable[[str, Mapping[str, Any]], None], *, blocking: bool = False
) -> None:
    """Run `callback(physical_id, properties)` after the emulator created or updated a resource of one of its
    own types: the place to put back what it drops. An exception fails the resource. A `blocking` callback
    runs on a worker thread and may call the AWS APIs."""
    handlers = _provisioners._RESOURCE_HANDLERS[type_name]
    create, update = handlers["create"], handlers.get("update")

    def create_and_call(logical_id: str, properties: dict[str, Any], stack_name: str) -> tuple[Any, ...]:
        created = create(logical_id, properties, stack_name)
        callback(created[0], properties)
        return tuple(created)

    def update_and_call(
        physical_id: str, old: dict[str, Any], new: dict[str, Any], stack_name: str, *logical_id: str
    ) -> tuple[Any, ...]:
        updated = update(physical_id, old, new, stack_name, *logical_id)
        callback(updated[0], new)
        return tuple(updated)

    handlers["create"] = create_and_call
    if update:
        handlers["update"] = update_and_call
    if blocking:
        _worker_types.add(type_name)


def stack_operation_in_progress() -> bool:
    """Whether a CloudFormation operation is under way (a change set under review is not)."""
    with account_scope():
        statuses = [str(stack.get("StackStatus")) for stack in _cloudformation._stacks.values()]
    return any(status.endswith("_IN_PROGRESS") and not status.startswith("REVIEW") for status in statuses)


def provision_on_worker_threads() -> None:
    original = _stacks._runs_on_worker_thread
    _stacks._runs_on_worker_thread = lambda type_name: type_name in _worker_types or original(type_name)
