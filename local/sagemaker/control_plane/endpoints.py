"""Operations on endpoints: they check, write the record and start the deployment.

An endpoint's record keeps, beside what Describe answers, what it was made from: `Config`, `Models` by
lower-case name, and `Sizes` (weight and instance count by variant). So deleting a model or configuration
changes nothing for a running endpoint, and a restart brings back the same one.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from local.sagemaker.control_plane import endpoint_rules as rules
from local.sagemaker.instances import traffic_shifting
from local.sagemaker.instances.endpoint_deployments import EndpointDeployments
from local.sagemaker.instances.fleet import ComponentVariant, Fleet
from local.sagemaker.instances.pool import VariantPool, container_of, instance_types_of
from local.sagemaker.instances.serverless import ServerlessPool
from local.sagemaker.listing import page
from local.sagemaker.records import (
    EndpointConfigRecord,
    EndpointRecord,
    JsonObject,
    ModelRecord,
    VariantRecord,
    WeightsAndCapacities,
)
from local.sagemaker.store import SageMakerStore, now
from local.sagemaker.tags import store_tags


def create_endpoint(
    store: SageMakerStore, deployments: EndpointDeployments, request: JsonObject
) -> JsonObject:
    """CreateEndpoint: answers while the endpoint is `Creating`."""
    name, config = request["EndpointName"], store.configs.get(request["EndpointConfigName"])
    rules.check_deployment_config(request.get("DeploymentConfig"))
    arn = store.endpoints.arn(name)
    sizes = _initial_sizes(config)
    record: EndpointRecord = {
        "EndpointName": name,
        "EndpointArn": arn,
        "EndpointConfigName": config["EndpointConfigName"],
        "EndpointStatus": "Creating",
        "CreationTime": now(),
        "LastModifiedTime": now(),
        "Config": config,
        "Models": _models(store, config),
        "Sizes": sizes,
    }
    if request.get("DeploymentConfig"):
        record["LastDeploymentConfig"] = request["DeploymentConfig"]
    rules.check_quota(_instances(config, sizes), _used(store))
    store.endpoints.add(name, record)
    store_tags(store, arn, request)
    deployments.create(record)
    return {"EndpointArn": arn}


def update_endpoint(
    store: SageMakerStore, deployments: EndpointDeployments, request: JsonObject
) -> JsonObject:
    """UpdateEndpoint: blue/green onto another configuration."""
    record = store.endpoints.get(request["EndpointName"])
    config = store.configs.get(request["EndpointConfigName"])
    rules.check_updatable(record, record["EndpointArn"])
    rules.check_scaled(record["Config"], config, store.scaled_variants(record["EndpointName"]))
    deployment = request.get("DeploymentConfig")
    if deployment is None and request.get("RetainDeploymentConfig"):
        deployment = record.get("LastDeploymentConfig")
    rules.check_deployment_config(deployment)
    sizes = _sizes_after_update(record, config, request)
    rules.check_components_stay(store, record, config)
    counts = [sizes[variant["VariantName"]][1] for variant in config["ProductionVariants"]]
    rules.check_guardrails(deployment, record["Config"], config, counts)
    # Both fleets run during the update, so all of the new one counts.
    rules.check_quota(_instances(config, sizes), _used(store))
    deployment = deployment or traffic_shifting.ALL_AT_ONCE
    plan = traffic_shifting.UpdatePlan(
        config=config,
        models=_models(store, config),
        sizes=sizes,
        deployment_config=deployment,
        steps=traffic_shifting.traffic_steps(deployment, min(counts)),
        alarms=tuple(
            alarm["AlarmName"] for alarm in deployment.get("AutoRollbackConfiguration", {}).get("Alarms", [])
        ),
        termination_wait=deployment.get("BlueGreenUpdatePolicy", {}).get("TerminationWaitInSeconds", 0),
    )
    _begin_update(record)
    deployments.update(record, plan)
    return {"EndpointArn": record["EndpointArn"]}


def update_weights(
    store: SageMakerStore, deployments: EndpointDeployments, request: JsonObject
) -> JsonObject:
    """UpdateEndpointWeightsAndCapacities: the same fleet with other weights, counts and concurrency."""
    record = store.endpoints.get(request["EndpointName"])
    rules.check_updatable(record, record["EndpointArn"])
    changes, sizes = request["DesiredWeightsAndCapacities"], dict(record["Sizes"])
    rules.check_resize(changes, record["Config"])
    for change in changes:
        weight, count = sizes[change["VariantName"]]
        sizes[change["VariantName"]] = (
            change.get("DesiredWeight", weight),
            change.get("DesiredInstanceCount", count),
        )
    grown = Counter(_instances(record["Config"], sizes))
    grown.subtract(_instances(record["Config"], record["Sizes"]))
    rules.check_quota({kind: count for kind, count in grown.items() if count > 0}, _used(store))
    _begin_update(record)
    record["Config"] = _with_concurrency(record["Config"], changes)
    deployments.resize(record, sizes)
    return {"EndpointArn": record["EndpointArn"]}


def delete_endpoint(
    store: SageMakerStore, deployments: EndpointDeployments, request: JsonObject
) -> JsonObject:
    """DeleteEndpoint: answers while the endpoint is `Deleting`."""
    record = store.endpoints.get(request["EndpointName"])
    rules.check_idle(record, record["EndpointArn"])
    rules.check_no_components(store, record)
    record |= {"EndpointStatus": "Deleting", "LastModifiedTime": now()}
    deployments.delete(record)
    return {}


def list_endpoints(store: SageMakerStore, request: JsonObject) -> JsonObject:
    """ListEndpoints."""
    fields = ("EndpointName", "EndpointArn", "CreationTime", "LastModifiedTime", "EndpointStatus")
    found, token = page(store.endpoints.records.values(), request, noun="Endpoint", fields=fields)
    return {"Endpoints": found} | ({"NextToken": token} if token else {})


def describe_endpoint(
    store: SageMakerStore, deployments: EndpointDeployments, request: JsonObject
) -> JsonObject:
    """DescribeEndpoint."""
    record = store.endpoints.get(request["EndpointName"])
    live = deployments.live[record["EndpointName"].lower()]
    answer: JsonObject = {
        name: record[name]
        for name in (
            "EndpointName",
            "EndpointArn",
            "EndpointConfigName",
            "EndpointStatus",
            "FailureReason",
            "CreationTime",
            "LastModifiedTime",
            "LastDeploymentConfig",
        )
        if name in record
    }
    for name in ("MetricsConfig", "AsyncInferenceConfig"):
        if name in record["Config"]:
            answer[name] = record["Config"][name]
    if live.blue:
        answer |= _summaries(live.blue)
    if "Pending" in record and live.green:
        pending = record["Pending"]
        answer["PendingDeploymentSummary"] = {
            "EndpointConfigName": pending["Config"]["EndpointConfigName"],
            "StartTime": pending["StartTime"],
        } | _summaries(live.green, "Baking" if live.green_share else "Creating")
    return answer


def _summaries(fleet: Fleet, status: str | None = None) -> JsonObject:
    answer = {"ProductionVariants": [_summary(pool, status) for pool in fleet.production.values()]}
    if fleet.shadow:
        answer["ShadowProductionVariants"] = [_summary(pool, status) for pool in fleet.shadow.values()]
    return answer


def _summary(pool: VariantPool | ComponentVariant, status: str | None) -> dict[str, Any]:
    summary: dict[str, Any] = {"VariantStatus": [{"Status": status}]} if status else {}
    summary |= {"VariantName": pool.name}
    if isinstance(pool, VariantPool):
        image = container_of(pool.model)["Image"]
        summary["DeployedImages"] = [{"SpecifiedImage": image, "ResolvedImage": image}]
        summary |= {"CurrentWeight": pool.weight, "DesiredWeight": pool.weight}
    if isinstance(pool, ServerlessPool):
        return summary | {"CurrentServerlessConfig": pool.config, "DesiredServerlessConfig": pool.config}
    for name in ("ManagedInstanceScaling", "RoutingConfig"):
        if name in pool.settings:
            summary[name] = pool.settings[name]
    if isinstance(pool, VariantPool) and "InstancePools" in pool.settings:
        kinds = Counter(instance.instance_type for instance in pool.instances)
        summary["InstancePools"] = [
            {"InstanceType": kind, "CurrentInstanceCount": kinds[kind]}
            for kind in instance_types_of(pool.settings)
        ]
    return summary | {
        "CurrentInstanceCount": pool.current_count,
        "DesiredInstanceCount": pool.desired_count,
    }


def _with_concurrency(config: EndpointConfigRecord, changes: list[JsonObject]) -> EndpointConfigRecord:
    """The endpoint's own configuration, with the concurrency that serverless variants are given."""
    wanted = {
        change["VariantName"]: change["ServerlessUpdateConfig"]
        for change in changes
        if "ServerlessUpdateConfig" in change
    }
    if not wanted:
        return config
    variants: list[VariantRecord] = [
        {
            **variant,
            "ServerlessConfig": variant["ServerlessConfig"] | wanted.get(variant["VariantName"], {}),
        }
        if "ServerlessConfig" in variant
        else variant
        for variant in config["ProductionVariants"]
    ]
    return {**config, "ProductionVariants": variants}


def _begin_update(record: EndpointRecord) -> None:
    record |= {"EndpointStatus": "Updating", "LastModifiedTime": now()}
    record.pop("FailureReason", None)


def _variants(config: EndpointConfigRecord) -> list[VariantRecord]:
    return [*config["ProductionVariants"], *config.get("ShadowProductionVariants", [])]


def _initial_sizes(config: EndpointConfigRecord) -> WeightsAndCapacities:
    # A serverless variant has no instances: it is there once.
    return {
        variant["VariantName"]: (variant["InitialVariantWeight"], variant.get("InitialInstanceCount", 1))
        for variant in _variants(config)
    }


def _sizes_after_update(
    record: EndpointRecord, config: EndpointConfigRecord, request: JsonObject
) -> WeightsAndCapacities:
    sizes = _initial_sizes(config)
    if not request.get("RetainAllVariantProperties"):
        return sizes
    excluded = {item["VariantPropertyType"] for item in request.get("ExcludeRetainedVariantProperties", [])}
    for name, (weight, count) in record["Sizes"].items():
        if name in sizes:
            fresh_weight, fresh_count = sizes[name]
            sizes[name] = (
                fresh_weight if "DesiredWeight" in excluded else weight,
                fresh_count if "DesiredInstanceCount" in excluded else count,
            )
    return sizes


def _models(store: SageMakerStore, config: EndpointConfigRecord) -> dict[str, ModelRecord]:
    names = {variant["ModelName"] for variant in _variants(config) if variant.get("ModelName")}
    return {name.lower(): store.models.get(name) for name in names}


def _instances(config: EndpointConfigRecord, sizes: WeightsAndCapacities) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for variant in _variants(config):
        for instance_type in instance_types_of(variant)[:1]:
            counts[instance_type] += sizes[variant["VariantName"]][1]
    return dict(counts)


def _used(store: SageMakerStore) -> dict[str, int]:
    total: Counter[str] = Counter()
    for record in store.endpoints.records.values():
        total.update(_instances(record["Config"], record["Sizes"]))
    return dict(total)
