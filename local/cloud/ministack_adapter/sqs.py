"""SQS: deliveries to functions under the function's own role, and how many messages wait."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ministack.services import lambda_svc as _lambda
from ministack.services import sqs as _sqs

from local.cloud.ministack_adapter.iam import role_allows
from local.cloud.ministack_adapter.scope import account_scope, log

_POLLING = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
_refused: set[str] = set()


def enforce_poller_permissions() -> None:
    """Lambda polls a queue with the function's role; the emulator asks no role. A mapping whose role lacks
    one of the three actions delivers nothing, and messages wait, as on AWS."""
    original = _lambda._sqs_esm_concurrency

    def concurrency(
        mapping: dict[str, Any], function: dict[str, Any], config: dict[str, Any], queue: Any = None
    ) -> int:
        return original(mapping, function, config, queue) if _may_poll(mapping, config) else 0

    _lambda._sqs_esm_concurrency = concurrency


def _may_poll(mapping: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    queue, role = str(mapping.get("EventSourceArn")), str(config.get("Role"))
    missing = [action for action in _POLLING if not role_allows(role, action, queue)]
    if not missing:
        _refused.discard(queue)
    elif queue not in _refused:
        _refused.add(queue)
        log.warning("%s is not delivered: %s lacks %s", queue, role, ", ".join(missing))
    return not missing


def visible_message_counts() -> dict[str, int]:
    """How many messages of each queue could be received now, by its name."""
    now = time.time()
    with account_scope():
        return {
            queue["name"]: sum(message.get("visible_at", 0) <= now for message in queue["messages"])
            for queue in list(_sqs._queues.values())
        }
