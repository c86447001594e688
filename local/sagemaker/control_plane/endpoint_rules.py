"""What the service refuses although its request is well-formed: one function per rule, pure over records.

The tests of this module are the refusal table. Limits that are ours, not AWS's, say so in their message.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from local.sagemaker.control_plane import variant_rules as variants
from local.sagemaker.errors import invalid, limit_exceeded, unsupported
from local.sagemaker.records import (
    EndpointConfigRecord,
    EndpointRecord,
    InferenceComponentRecord,
    JsonObject,
    VariantRecord,
)
from local.sagemaker.store import SageMakerStore

IN_PROGRESS = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"})
INSTANCE_QUOTA = 16
"""Instances per type over all endpoints; each is a process of this machine."""

_UNSUPPORTED_VARIANT = ("AcceleratorType", "CoreDumpConfig", "CapacityReservationConfig")
_UNSUPPORTED_CONFIG = ("ExplainerConfig",)
_UNSUPPORTED_CONTAINER = (
    "ModelPackageName",
    "InferenceSpecificationName",
    "MultiModelConfig",
    "AdditionalModelDataSources",
)
_MAX_STEP_PERCENT = 50
_MIN_LINEAR_PERCENT = 10
_ROLLING_PERCENT = (5, 50)


def check_model(request: JsonObject) -> None:
    """A model has one container with an image, a role, and at most one source of model data."""
    containers = request.get("Containers", [])
    primary = request.get("PrimaryContainer")
    if primary and containers:
        raise invalid("You must specify either PrimaryContainer or Containers, not both.")
    if not primary and not containers:
        raise invalid("You must specify a PrimaryContainer or at least one of Containers.")
    if len(containers) > 1:
        raise unsupported("inference pipelines of several containers")
    container = primary or containers[0]
    _refuse_features(container, _UNSUPPORTED_CONTAINER)
    if container.get("Mode") == "MultiModel":
        raise unsupported("multi-model containers")
    if not container.get("Image"):
        raise invalid("A container must have an Image.")
    if not request.get("ExecutionRoleArn"):
        raise invalid("You must specify an ExecutionRoleArn.")
    _check_model_data(container)


def _check_model_data(container: JsonObject) -> None:
    source = container.get("ModelDataSource", {}).get("S3DataSource")
    if source and container.get("ModelDataUrl"):
        raise invalid("You must specify either ModelDataUrl or ModelDataSource, not both.")
    if not source:
        return
    if source["S3DataType"] == "S3Prefix":
        if not source["S3Uri"].endswith("/"):
            raise invalid("S3Uri must end with a forward slash when S3DataType is S3Prefix.")
        if source["CompressionType"] == "Gzip":
            raise invalid("CompressionType Gzip needs S3DataType S3Object.")
    elif source["CompressionType"] == "None":
        raise unsupported("a single uncompressed S3Object as model data")
    for feature in ("ModelAccessConfig", "HubAccessConfig", "ManifestS3Uri"):
        if feature in source:
            raise unsupported(feature)


def check_config(request: JsonObject, store: SageMakerStore) -> None:
    """An endpoint configuration names existing models, distinct variants and a possible combination."""
    production, shadow = request["ProductionVariants"], request.get("ShadowProductionVariants", [])
    _refuse_features(request, _UNSUPPORTED_CONFIG)
    if request.get("DataCaptureConfig", {}).get("EnableCapture"):
        raise unsupported("data capture")
    names = [variant["VariantName"] for variant in (*production, *shadow)]
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise invalid(f"Variant names must be unique; repeated: {', '.join(duplicates)}.")
    if shadow and (len(production) != 1 or len(shadow) != 1):
        raise invalid(
            "An endpoint with a shadow variant must have exactly one production variant and exactly one "
            "shadow variant."
        )
    variants.check_kinds(request)
    for variant in (*production, *shadow):
        _check_variant(variant, store)
    if sum(variant.get("InitialVariantWeight", 1.0) for variant in production) <= 0:
        raise invalid("At least one production variant must have a weight above 0.")


def _check_variant(variant: VariantRecord, store: SageMakerStore) -> None:
    _refuse_features(variant, _UNSUPPORTED_VARIANT)
    if variant.get("RoutingConfig", {}).get("RoutingStrategy") == "PREFIX_AWARE":
        raise unsupported("RoutingStrategy PREFIX_AWARE")
    variants.check_variant(variant)
    if variant.get("ModelName"):
        variants.check_model(variant, store.models.get(variant["ModelName"]))


def check_idle(record: EndpointRecord, arn: str) -> None:
    """An endpoint is changed only when nothing else is changing it."""
    if record["EndpointStatus"] in IN_PROGRESS:
        raise invalid(f'Cannot update in-progress endpoint "{arn}".')


def check_updatable(record: EndpointRecord, arn: str) -> None:
    """Only an endpoint in service is updated; a failed one can but be deleted."""
    check_idle(record, arn)
    if record["EndpointStatus"] != "InService":
        raise invalid(f'Cannot update endpoint "{arn}" in status {record["EndpointStatus"]}.')


def check_deployment_config(deployment: JsonObject | None) -> None:
    """A deployment configuration is consistent in itself."""
    if not deployment:
        return
    if "RollingUpdatePolicy" in deployment:
        if "BlueGreenUpdatePolicy" in deployment:
            raise invalid("You must specify either BlueGreenUpdatePolicy or RollingUpdatePolicy, not both.")
        _check_batch(deployment["RollingUpdatePolicy"])
        return
    if "BlueGreenUpdatePolicy" not in deployment:
        raise invalid("DeploymentConfig must have a BlueGreenUpdatePolicy or a RollingUpdatePolicy.")
    routing = deployment["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    needed = {"CANARY": "CanarySize", "LINEAR": "LinearStepSize"}.get(routing["Type"])
    for name in ("CanarySize", "LinearStepSize"):
        if (name in routing) != (name == needed):
            must = "must" if name == needed else "must not"
            raise invalid(f"Traffic routing of type {routing['Type']} {must} have {name}.")
    size = routing.get(needed) if needed else None
    if size and size["Type"] == "CAPACITY_PERCENT":
        least = _MIN_LINEAR_PERCENT if routing["Type"] == "LINEAR" else 1
        if not least <= size["Value"] <= _MAX_STEP_PERCENT:
            raise invalid(f"{needed} must be between {least} and {_MAX_STEP_PERCENT} percent of capacity.")


def _check_batch(rolling: JsonObject) -> None:
    size = rolling["MaximumBatchSize"]
    low, high = _ROLLING_PERCENT
    if size["Type"] == "CAPACITY_PERCENT" and not low <= size["Value"] <= high:
        raise invalid(f"MaximumBatchSize must be between {low} and {high} percent of capacity.")
    if "RollbackMaximumBatchSize" in rolling:
        raise unsupported("RollbackMaximumBatchSize: a rolling update is taken back at once")


def check_guardrails(
    deployment: JsonObject | None, old: EndpointConfigRecord, new: EndpointConfigRecord, counts: Iterable[int]
) -> None:
    """A guarded update keeps the variants' names and moves a real fraction of each fleet (`counts`:
    instances of each new variant)."""
    if not deployment:
        return
    before, after = (
        [variant["VariantName"] for variant in config["ProductionVariants"]] for config in (old, new)
    )
    if sorted(before) != sorted(after):
        raise invalid(
            "Deployment guardrails need the same variant names before and after the update: "
            f"{', '.join(sorted(before))} became {', '.join(sorted(after))}."
        )
    if old.get("ShadowProductionVariants") or new.get("ShadowProductionVariants"):
        raise invalid("Deployment guardrails cannot be used with shadow variants.")
    variants.check_guarded(deployment, old, new)
    if "RollingUpdatePolicy" in deployment:
        size = deployment["RollingUpdatePolicy"]["MaximumBatchSize"]
    else:
        routing = deployment["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
        size = routing.get("CanarySize") or routing.get("LinearStepSize")
    for count in counts if size else ():
        step = size["Value"] if size["Type"] == "INSTANCE_COUNT" else 1
        if step * 2 > count:
            raise invalid(
                f"A step of {step} instance(s) is more than {_MAX_STEP_PERCENT} percent of a variant with "
                f"{count} instance(s)."
            )


def check_scaled(old: EndpointConfigRecord, new: EndpointConfigRecord, scaled: frozenset[str]) -> None:
    """A variant that Application Auto Scaling scales is neither removed nor put on another instance type."""
    before, after = (
        {variant["VariantName"]: variant.get("InstanceType") for variant in config["ProductionVariants"]}
        for config in (old, new)
    )
    stuck = sorted(name for name in scaled & before.keys() if after.get(name, "") != before[name])
    if stuck:
        raise invalid(
            f'The variant(s) "{", ".join(stuck)}" must be deregistered as scalable targets with AWS Auto '
            "Scaling before they can be removed or have their instance type updated."
        )


def check_components_stay(store: SageMakerStore, record: EndpointRecord, new: EndpointConfigRecord) -> None:
    """A variant that holds inference components goes on holding them."""
    kept = {each["VariantName"] for each in new["ProductionVariants"] if not each.get("ModelName")}
    for component in components_on(store, record):
        if component["VariantName"] not in kept:
            raise invalid(
                f"Variant {component['VariantName']} hosts the inference component "
                f"{component['InferenceComponentName']}: delete it before the variant is removed or changed."
            )


def check_no_components(store: SageMakerStore, record: EndpointRecord) -> None:
    """An endpoint goes after its inference components."""
    names = sorted(each["InferenceComponentName"] for each in components_on(store, record))
    if names:
        raise invalid(
            f'Cannot delete endpoint "{record["EndpointArn"]}": it hosts the inference component(s) '
            f"{', '.join(names)}. Delete those first."
        )


def components_on(store: SageMakerStore, record: EndpointRecord) -> list[InferenceComponentRecord]:
    """The inference components of an endpoint."""
    name = record["EndpointName"]
    return [each for each in store.components.records.values() if each["EndpointName"] == name]


def check_resize(changes: list[JsonObject], config: EndpointConfigRecord) -> None:
    """Weights and counts are given once per variant, for variants that exist and can take them."""
    known = {
        variant["VariantName"]: variant
        for variant in (*config["ProductionVariants"], *config.get("ShadowProductionVariants", []))
    }
    names = [change["VariantName"] for change in changes]
    for name in names:
        if name not in known:
            raise invalid(f"The variant name(s) {name} is/are not present in the endpoint.")
        if names.count(name) > 1:
            raise invalid(f"Variant {name} is given more than once.")
    for change in changes:
        variant = known[change["VariantName"]]
        if "DesiredInstanceCount" in change:
            variants.check_count(variant, change["DesiredInstanceCount"], config)
        if "ServerlessUpdateConfig" in change:
            variants.check_serverless_update(variant, change["ServerlessUpdateConfig"])


def check_quota(wanted: dict[str, int], used: dict[str, int]) -> None:
    """`wanted` and `used` count instances by type: what the change adds, and what runs already."""
    for instance_type, count in wanted.items():
        if used.get(instance_type, 0) + count > INSTANCE_QUOTA:
            raise limit_exceeded(
                f"The account-level service limit '{instance_type} for endpoint usage' is {INSTANCE_QUOTA} "
                f"Instances, with current utilization of {used.get(instance_type, 0)} Instances and a "
                f"request delta of {count} Instances. Please use AWS Service Quotas to request an increase "
                "for this quota. (On a laptop this limit is fixed.)"
            )


def _refuse_features(request: Mapping[str, Any], names: Iterable[str]) -> None:
    for name in names:
        if request.get(name):
            raise unsupported(name)
