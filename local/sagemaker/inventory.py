"""Which process serves which variant: what benches and fault tests need to aim at one container.

No part of AWS's API: on AWS an instance has no address of its own.
"""

from __future__ import annotations

from local.sagemaker.deployment import Deployments
from local.sagemaker.store import Record, Store

PATH = "/_evergreen/instances"


def instances(store: Store, deployments: Deployments) -> list[Record]:
    """Every instance of every endpoint: `pid` is None while its process is being replaced, `healthy` says
    whether it takes requests."""
    return [
        {
            "endpoint": record["EndpointName"],
            "variant": pool.name,
            "instance_id": instance.id,
            "url": instance.url,
            "pid": instance.pid,
            "healthy": instance.in_service,
        }
        for key, live in deployments.live.items()
        if (record := store.endpoints.find(key)) is not None
        for fleet in live.fleets()
        for pool in fleet.pools
        for instance in pool.instances
    ]
