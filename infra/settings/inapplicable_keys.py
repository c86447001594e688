"""Keys that belong to other kinds of endpoint, with SageMaker's reason against each.

Data only: a kind lists what it refuses in its `foreign`.
"""

from __future__ import annotations

from infra.settings.exclusions import Exclusion, exclusion


def _foreign(id: str, kind: str, keys: str, why: str, change: str) -> Exclusion:
    return exclusion(f"{kind}-{id}", refuses=f"{keys} with kind {kind}", why=why, change=change)


ASYNC_VARIANTS = _foreign(
    "variants",
    "async",
    "`challenger_weight` or `shadow_percent`",
    "Shadow variants exclude asynchronous endpoints, and results in S3 do not name a variant to judge.",
    "leave the key out, or kind realtime",
)
ASYNC_CAPTURE = _foreign(
    "capture",
    "async",
    "`data_capture`",
    "Requests and answers of an asynchronous endpoint are in S3 already.",
    "leave the key out",
)
COMPONENT_VARIANTS = _foreign(
    "variants",
    "scale_to_zero",
    "`challenger_weight` or `shadow_percent`",
    "Inference components have no weights and no shadow: the caller names the component.",
    "leave the key out, or kind realtime",
)
COMPONENT_ROLLOUT = _foreign(
    "rollout",
    "scale_to_zero",
    "`deployment` kinds other than rolling",
    "Copies of a component are replaced in batches; canary and linear shift between fleets of a variant.",
    "deployment kind rolling",
)
SERVERLESS_VARIANTS = _foreign(
    "variants",
    "serverless",
    "`challenger_weight` or `shadow_percent`",
    "A serverless endpoint has one variant, and shadow variants exclude it.",
    "leave the key out, or kind realtime",
)
SERVERLESS_ROLLOUT = _foreign(
    "rollout",
    "serverless",
    "`deployment`",
    "Deployment guardrails apply to realtime and asynchronous endpoints only.",
    "leave the key out",
)
SERVERLESS_NETWORK = _foreign(
    "network",
    "serverless",
    "`network_isolation` or `vpc`",
    "Serverless endpoints have neither network isolation nor a VPC.",
    "leave the key out, or kind realtime",
)
SERVERLESS_MACHINES = _foreign(
    "machines",
    "serverless",
    "`instances` or `scaling`",
    "A serverless endpoint has memory and concurrency instead of machines.",
    "memory_mb and max_concurrency",
)
SERVERLESS_CAPTURE = _foreign(
    "capture",
    "serverless",
    "`data_capture`",
    "Serverless endpoints have no data capture.",
    "leave the key out",
)
