"""Which process serves which variant: what benches and fault tests need to aim at one container.

No part of AWS's API: on AWS an instance has no address of its own.
"""

from __future__ import annotations

from local.sagemaker.components.host import InferenceComponents
from local.sagemaker.instances.endpoint_deployments import EndpointDeployments
from local.sagemaker.records import JsonObject
from local.sagemaker.store import SageMakerStore

PATH = "/_evergreen/instances"


def instances(
    store: SageMakerStore, deployments: EndpointDeployments, components: InferenceComponents
) -> list[JsonObject]:
    """Every container of every endpoint: `pid` is None while its process is being replaced, `healthy` says
    whether it takes requests."""
    pools = [
        *(
            pool
            for key, live in deployments.live.items()
            if store.endpoints.find(key)
            for pool in live.pools()
        ),
        *components.pools(),
    ]
    return [
        {
            "endpoint": pool.location.endpoint,
            "variant": pool.name,
            **({"component": pool.location.component} if pool.location.component else {}),
            "instance_id": instance.id,
            "url": instance.url,
            "pid": instance.pid,
            "healthy": instance.in_service,
        }
        for pool in pools
        for instance in pool.instances
    ]
