"""What runs behind an endpoint: a container is a process, a variant a pool of them, a fleet all variants.

`endpoint_deployments` moves an endpoint from one fleet to another. Knows nothing of the APIs.
"""
