"""What the service refuses about inference components: one function per rule, pure over records."""

from __future__ import annotations

from local.sagemaker.components.instance_types import compute_resources_of
from local.sagemaker.errors import invalid, limit_exceeded, unsupported
from local.sagemaker.instances.pool import instance_types_of
from local.sagemaker.records import EndpointRecord, InferenceComponentRecord, JsonObject
from local.sagemaker.store import SageMakerStore

MAX_COPIES = 16
"""Copies over all components; each is a process of this machine."""

_UNSUPPORTED = ("InstanceType", "DataCacheConfig", "SchedulingConfig")


def check_component(request: JsonObject, endpoint: EndpointRecord, store: SageMakerStore) -> str:
    """A component fits its endpoint and is complete; answers the variant that it goes to."""
    name = request["InferenceComponentName"]
    if store.components.find(name) is not None:
        raise invalid(f'Cannot create already existing inference component "{store.components.arn(name)}".')
    if "Specifications" in request:
        raise unsupported("Specifications (one per instance type)")
    specification = request.get("Specification")
    if not specification:
        raise invalid("An inference component must have a Specification.")
    if endpoint["EndpointStatus"] not in ("InService", "Creating", "Updating", "SystemUpdating"):
        raise invalid(
            f'Cannot create an inference component on endpoint "{endpoint["EndpointArn"]}" in status '
            f"{endpoint['EndpointStatus']}."
        )
    if "BaseInferenceComponentName" in specification:
        return _check_adapter(request, specification, endpoint, store)
    variants = endpoint["Config"]["ProductionVariants"]
    if any(variant.get("ModelName") for variant in variants):
        raise invalid(
            f'Endpoint "{endpoint["EndpointArn"]}" hosts models in its variants: inference components need '
            "an endpoint whose variants have no ModelName."
        )
    names = [variant["VariantName"] for variant in variants]
    variant = request.get("VariantName")
    if variant is None:
        raise invalid("An inference component must have a VariantName.")
    if variant not in names:
        raise invalid(f"The variant name(s) {variant} is/are not present in the endpoint.")
    if "RuntimeConfig" not in request:
        raise invalid("An inference component must have a RuntimeConfig with its CopyCount.")
    check_specification(specification, store)
    (settings,) = [each for each in variants if each["VariantName"] == variant]
    _check_fits(specification, instance_types_of(settings)[0])
    return str(variant)


def check_specification(specification: JsonObject, store: SageMakerStore) -> None:
    """A component brings a model or a container, and says what it needs."""
    for feature in _UNSUPPORTED:
        if feature in specification:
            raise unsupported(f"{feature} of an inference component")
    if "ModelName" in specification:
        store.models.get(specification["ModelName"])
        if specification.get("Container", {}).keys() - {"Environment"}:
            raise invalid("A Specification must have either ModelName or Container, not both.")
    elif not specification.get("Container", {}).get("Image"):
        raise invalid("A Specification must have a ModelName or a Container with an Image.")
    needs = specification.get("ComputeResourceRequirements")
    if not needs:
        raise invalid("A Specification must have ComputeResourceRequirements.")
    if needs.get("MaxMemoryRequiredInMb", needs["MinMemoryRequiredInMb"]) < needs["MinMemoryRequiredInMb"]:
        raise invalid("MaxMemoryRequiredInMb must not be less than MinMemoryRequiredInMb.")


def _check_fits(specification: JsonObject, instance_type: str) -> None:
    machine, needs = compute_resources_of(instance_type), specification["ComputeResourceRequirements"]
    asked = (
        ("NumberOfCpuCoresRequired", needs.get("NumberOfCpuCoresRequired", 0), machine.cpus),
        ("MinMemoryRequiredInMb", needs["MinMemoryRequiredInMb"], machine.memory),
        (
            "NumberOfAcceleratorDevicesRequired",
            needs.get("NumberOfAcceleratorDevicesRequired", 0),
            machine.accelerators,
        ),
    )
    for name, wanted, there in asked:
        if wanted > there:
            raise invalid(f"{name} {wanted:g} is more than an instance of {instance_type} has ({there:g}).")


def _check_adapter(
    request: JsonObject, specification: JsonObject, endpoint: EndpointRecord, store: SageMakerStore
) -> str:
    base = store.components.get(specification["BaseInferenceComponentName"])
    if base["EndpointName"] != endpoint["EndpointName"]:
        raise invalid("An adapter inference component must be on the endpoint of its base.")
    if base["Base"]:
        raise invalid("An adapter inference component cannot be the base of another.")
    if base["InferenceComponentStatus"] != "InService":
        raise invalid(f"The base inference component is {base['InferenceComponentStatus']}, not InService.")
    if "RuntimeConfig" in request:
        raise invalid("RuntimeConfig must not be given for an adapter: it has the copies of its base.")
    for name in ("ModelName", "ComputeResourceRequirements", "StartupParameters", *_UNSUPPORTED):
        if name in specification:
            raise invalid(f"{name} must not be given for an adapter inference component.")
    container = specification.get("Container", {})
    if not container.get("ArtifactUrl") or container.keys() - {"ArtifactUrl"}:
        raise invalid("The Container of an adapter inference component must have an ArtifactUrl and no more.")
    if request.get("VariantName", base["VariantName"]) != base["VariantName"]:
        raise invalid("An adapter inference component must be on the variant of its base.")
    return str(base["VariantName"])


def check_changeable(record: InferenceComponentRecord) -> None:
    """A component is changed only when nothing else is changing it."""
    status = record["InferenceComponentStatus"]
    if status != "InService":
        arn = record["InferenceComponentArn"]
        raise invalid(f'Cannot update inference component "{arn}" in status {status}.')


def check_update(record: InferenceComponentRecord, request: JsonObject) -> None:
    """An update changes something, and what it may."""
    if record["Base"]:
        raise unsupported("updating an adapter inference component: delete it and create it anew")
    if "Specifications" in request:
        raise unsupported("Specifications (one per instance type)")
    if not request.keys() & {"Specification", "RuntimeConfig"}:
        raise invalid("An update must have Specification, RuntimeConfig or both.")
    if "BaseInferenceComponentName" in request.get("Specification", {}):
        raise invalid("An inference component cannot become an adapter.")


def check_scalable(record: InferenceComponentRecord) -> None:
    """Copies belong to bases."""
    if record["Base"]:
        raise invalid("An adapter inference component has the copies of its base: scale that.")


def check_copies(store: SageMakerStore, record: InferenceComponentRecord, copies: int) -> None:
    """As many copies as this machine bears."""
    others = sum(
        other["CopyCount"]
        for other in store.components.records.values()
        if other["InferenceComponentName"] != record["InferenceComponentName"]
    )
    if others + copies > MAX_COPIES:
        raise limit_exceeded(
            f"The laptop cloud runs at most {MAX_COPIES} copies of inference components: {others} are there "
            f"and {copies} were asked for."
        )


def check_deletable(record: InferenceComponentRecord, store: SageMakerStore) -> None:
    """A base goes after its adapters, and nothing goes while it is changing."""
    if record["InferenceComponentStatus"] in ("Creating", "Updating", "Deleting"):
        arn, status = record["InferenceComponentArn"], record["InferenceComponentStatus"]
        raise invalid(f'Cannot delete inference component "{arn}" in status {status}.')
    name = record["InferenceComponentName"]
    dependent = sorted(
        other["InferenceComponentName"]
        for other in store.components.records.values()
        if other["Base"] == name
    )
    if dependent:
        raise invalid(f"Cannot delete {name}: it is the base of {', '.join(dependent)}. Delete those first.")
