"""Operations on models and endpoint configurations: records without processes."""

from __future__ import annotations

from typing import cast

from local.sagemaker.control_plane import endpoint_rules as rules
from local.sagemaker.errors import invalid
from local.sagemaker.listing import page
from local.sagemaker.ports import CloudServices
from local.sagemaker.records import EndpointConfigRecord, JsonObject, ModelRecord
from local.sagemaker.store import SageMakerStore, now
from local.sagemaker.tags import store_tags


def create_model(store: SageMakerStore, cloud: CloudServices, request: JsonObject) -> JsonObject:
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
    # The request fits botocore's model, from which the record's type is taken.
    record = cast(
        ModelRecord,
        {
            "EnableNetworkIsolation": False,
            **_without_tags(request),
            "ModelArn": arn,
            "CreationTime": now(),
        },
    )
    store.models.add(name, record)
    store_tags(store, arn, request)
    return {"ModelArn": arn}


def describe_model(store: SageMakerStore, request: JsonObject) -> JsonObject:
    """DescribeModel."""
    return {**store.models.get(request["ModelName"])}


def list_models(store: SageMakerStore, request: JsonObject) -> JsonObject:
    """ListModels."""
    fields = ("ModelName", "ModelArn", "CreationTime")
    found, token = page(store.models.records.values(), request, noun="Model", fields=fields)
    return _page("Models", found, token)


def delete_model(store: SageMakerStore, request: JsonObject) -> JsonObject:
    """DeleteModel. A model in use may go: endpoints keep what they were made from."""
    record = store.models.remove(request["ModelName"])
    store.tags.pop(record["ModelArn"], None)
    return {}


def create_config(store: SageMakerStore, request: JsonObject) -> JsonObject:
    """CreateEndpointConfig."""
    rules.check_config(request, store)
    name = request["EndpointConfigName"]
    arn = store.configs.arn(name)
    created = {**_without_tags(request), "EndpointConfigArn": arn, "CreationTime": now()}
    record = cast(EndpointConfigRecord, created)
    for variant in (*record["ProductionVariants"], *record.get("ShadowProductionVariants", [])):
        variant.setdefault("InitialVariantWeight", 1.0)
    store.configs.add(name, record)
    store_tags(store, arn, request)
    return {"EndpointConfigArn": arn}


def describe_config(store: SageMakerStore, request: JsonObject) -> JsonObject:
    """DescribeEndpointConfig."""
    return {**store.configs.get(request["EndpointConfigName"])}


def list_configs(store: SageMakerStore, request: JsonObject) -> JsonObject:
    """ListEndpointConfigs."""
    fields = ("EndpointConfigName", "EndpointConfigArn", "CreationTime")
    found, token = page(store.configs.records.values(), request, noun="EndpointConfig", fields=fields)
    return _page("EndpointConfigs", found, token)


def delete_config(store: SageMakerStore, request: JsonObject) -> JsonObject:
    """DeleteEndpointConfig. As on AWS a configuration in use may go; the endpoint keeps running."""
    record = store.configs.remove(request["EndpointConfigName"])
    store.tags.pop(record["EndpointConfigArn"], None)
    return {}


def _without_tags(request: JsonObject) -> JsonObject:
    return {name: value for name, value in request.items() if name != "Tags"}


def _page(label: str, found: list[JsonObject], token: str | None) -> JsonObject:
    return {label: found} | ({"NextToken": token} if token else {})
