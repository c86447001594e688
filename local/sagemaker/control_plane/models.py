"""Operations on models and endpoint configurations: records without processes."""

from __future__ import annotations

from local.sagemaker.control_plane import endpoint_rules as rules
from local.sagemaker.errors import invalid
from local.sagemaker.listing import page
from local.sagemaker.ports import Cloud
from local.sagemaker.store import Record, Store, now
from local.sagemaker.tags import keep_tags


def create_model(store: Store, cloud: Cloud, request: Record) -> Record:
    """CreateModel."""
    rules.check_model(request)
    try:
        cloud.role_credentials(request["ExecutionRoleArn"])
    except PermissionError:
        raise invalid(
            f"Could not assume role {request['ExecutionRoleArn']}. Please ensure that the role exists and "
            "allows principal 'sagemaker.amazonaws.com' to assume the role."
        ) from None
    name = request["ModelName"]
    arn = store.models.arn(name)
    record = {
        "EnableNetworkIsolation": False,
        **_without_tags(request),
        "ModelArn": arn,
        "CreationTime": now(),
    }
    store.models.add(name, record)
    keep_tags(store, arn, request)
    return {"ModelArn": arn}


def describe_model(store: Store, request: Record) -> Record:
    """DescribeModel."""
    return store.models.get(request["ModelName"])


def list_models(store: Store, request: Record) -> Record:
    """ListModels."""
    fields = ("ModelName", "ModelArn", "CreationTime")
    found, token = page(store.models.records.values(), request, noun="Model", fields=fields)
    return _page("Models", found, token)


def delete_model(store: Store, request: Record) -> Record:
    """DeleteModel. A model in use may go: endpoints keep what they were made from."""
    record = store.models.remove(request["ModelName"])
    store.tags.pop(record["ModelArn"], None)
    return {}


def create_config(store: Store, request: Record) -> Record:
    """CreateEndpointConfig."""
    rules.check_config(request, store)
    name = request["EndpointConfigName"]
    arn = store.configs.arn(name)
    record = {**_without_tags(request), "EndpointConfigArn": arn, "CreationTime": now()}
    for variant in (*record["ProductionVariants"], *record.get("ShadowProductionVariants", [])):
        variant.setdefault("InitialVariantWeight", 1.0)
    store.configs.add(name, record)
    keep_tags(store, arn, request)
    return {"EndpointConfigArn": arn}


def describe_config(store: Store, request: Record) -> Record:
    """DescribeEndpointConfig."""
    return store.configs.get(request["EndpointConfigName"])


def list_configs(store: Store, request: Record) -> Record:
    """ListEndpointConfigs."""
    fields = ("EndpointConfigName", "EndpointConfigArn", "CreationTime")
    found, token = page(store.configs.records.values(), request, noun="EndpointConfig", fields=fields)
    return _page("EndpointConfigs", found, token)


def delete_config(store: Store, request: Record) -> Record:
    """DeleteEndpointConfig. As on AWS a configuration in use may go; the endpoint keeps running."""
    record = store.configs.remove(request["EndpointConfigName"])
    store.tags.pop(record["EndpointConfigArn"], None)
    return {}


def _without_tags(request: Record) -> Record:
    return {name: value for name, value in request.items() if name != "Tags"}


def _page(label: str, found: list[Record], token: str | None) -> Record:
    return {label: found} | ({"NextToken": token} if token else {})
