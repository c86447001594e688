"""Operations on inference components: they check, write the record and leave the work to `component_host`.

A record keeps, beside what Describe answers, the model that its copies are made from (`Model`), the number of
copies (`CopyCount`) and, for an adapter, its base (`Base`, otherwise empty).
"""

from __future__ import annotations

from local.sagemaker.components import rules
from local.sagemaker.components.host import InferenceComponents
from local.sagemaker.instances.pool import container_of
from local.sagemaker.listing import page
from local.sagemaker.records import (
    ComponentDefinition,
    ContainerDefinition,
    EndpointRecord,
    InferenceComponentRecord,
    JsonObject,
    ModelRecord,
)
from local.sagemaker.store import SageMakerStore, now
from local.sagemaker.tags import store_tags


def create_component(
    store: SageMakerStore, components: InferenceComponents, request: JsonObject
) -> JsonObject:
    """CreateInferenceComponent: answers while the component is `Creating`."""
    name = request["InferenceComponentName"]
    endpoint = store.endpoints.get(request["EndpointName"])
    specification = request.get("Specification", {})
    variant = rules.check_component(request, endpoint, store)
    arn, base = store.components.arn(name), specification.get("BaseInferenceComponentName", "")
    copies = request.get("RuntimeConfig", {}).get("CopyCount", 0)
    record: InferenceComponentRecord = {
        "InferenceComponentName": name,
        "InferenceComponentArn": arn,
        "EndpointName": endpoint["EndpointName"],
        "EndpointArn": endpoint["EndpointArn"],
        "VariantName": variant,
        "InferenceComponentStatus": "Creating",
        "CreationTime": now(),
        "LastModifiedTime": now(),
        "Specification": specification,
        "Model": {} if base else _model(store, endpoint, name, specification),
        "CopyCount": copies,
        "Base": store.components.get(base)["InferenceComponentName"] if base else "",
    }
    rules.check_copies(store, record, copies)
    store.components.add(name, record)
    store_tags(store, arn, request)
    components.create(record)
    return {"InferenceComponentArn": arn}


def update_component(
    store: SageMakerStore, components: InferenceComponents, request: JsonObject
) -> JsonObject:
    """UpdateInferenceComponent: new copies by a new specification."""
    record = store.components.get(request["InferenceComponentName"])
    rules.check_changeable(record)
    rules.check_update(record, request)
    endpoint = store.endpoints.get(record["EndpointName"])
    specification = record["Specification"] | request.get("Specification", {})
    if "Specification" in request:
        for one, other in (("ModelName", "Container"), ("Container", "ModelName")):
            if one in request["Specification"]:
                specification.pop(other, None)
    rules.check_specification(specification, store)
    copies = request.get("RuntimeConfig", {}).get("CopyCount", record["CopyCount"])
    rules.check_copies(store, record, copies)
    changed: ComponentDefinition = {
        "InferenceComponentName": record["InferenceComponentName"],
        "EndpointName": record["EndpointName"],
        "VariantName": record["VariantName"],
        "Base": record["Base"],
        "Specification": specification,
        "Model": _model(store, endpoint, record["InferenceComponentName"], specification),
        "CopyCount": copies,
    }
    if "DeploymentConfig" in request:
        changed["LastDeploymentConfig"] = request["DeploymentConfig"]
    elif "LastDeploymentConfig" in record:
        changed["LastDeploymentConfig"] = record["LastDeploymentConfig"]
    _begin(record)
    components.update(record, changed)
    return {"InferenceComponentArn": record["InferenceComponentArn"]}


def update_runtime_config(
    store: SageMakerStore, components: InferenceComponents, request: JsonObject
) -> JsonObject:
    """UpdateInferenceComponentRuntimeConfig: more or fewer copies of the same."""
    record = store.components.get(request["InferenceComponentName"])
    rules.check_changeable(record)
    copies = request["DesiredRuntimeConfig"]["CopyCount"]
    rules.check_scalable(record)
    rules.check_copies(store, record, copies)
    _begin(record)
    components.scale(record, copies)
    return {"InferenceComponentArn": record["InferenceComponentArn"]}


def delete_component(
    store: SageMakerStore, components: InferenceComponents, request: JsonObject
) -> JsonObject:
    """DeleteInferenceComponent: answers while the component is `Deleting`."""
    record = store.components.get(request["InferenceComponentName"])
    rules.check_deletable(record, store)
    record |= {"InferenceComponentStatus": "Deleting", "LastModifiedTime": now()}
    components.delete(record)
    return {}


def describe_component(
    store: SageMakerStore, components: InferenceComponents, request: JsonObject
) -> JsonObject:
    """DescribeInferenceComponent."""
    record = store.components.get(request["InferenceComponentName"])
    hidden = {"Model", "CopyCount", "Base", "Folder"}
    answer = {name: value for name, value in record.items() if name not in hidden}
    specification = dict(record["Specification"])
    if "Container" in specification:
        container = dict(specification["Container"])
        if image := container.pop("Image", None):
            container["DeployedImage"] = {"SpecifiedImage": image, "ResolvedImage": image}
        specification["Container"] = container
    answer["Specification"] = specification
    if not record["Base"]:
        answer["RuntimeConfig"] = {
            "DesiredCopyCount": record["CopyCount"],
            "CurrentCopyCount": components.copies(record),
        }
    return answer


def list_components(store: SageMakerStore, request: JsonObject) -> JsonObject:
    """ListInferenceComponents."""
    fields = (
        "InferenceComponentName", "InferenceComponentArn", "EndpointName", "EndpointArn", "VariantName",
        "InferenceComponentStatus", "CreationTime", "LastModifiedTime",
    )  # fmt: skip
    records = [
        record
        for record in store.components.records.values()
        if request.get("EndpointNameEquals", record["EndpointName"]) == record["EndpointName"]
        and request.get("VariantNameEquals", record["VariantName"]) == record["VariantName"]
    ]
    found, token = page(records, request, noun="InferenceComponent", fields=fields)
    return {"InferenceComponents": found} | ({"NextToken": token} if token else {})


def _begin(record: InferenceComponentRecord) -> None:
    record |= {"InferenceComponentStatus": "Updating", "LastModifiedTime": now()}
    record.pop("FailureReason", None)


def _model(
    store: SageMakerStore, endpoint: EndpointRecord, name: str, specification: JsonObject
) -> ModelRecord:
    """What a copy is made from: a model, or a container that the component itself describes."""
    role = endpoint["Config"]["ExecutionRoleArn"]
    if "ModelName" in specification:
        model = store.models.get(specification["ModelName"])
        container = container_of(model)
        # The component's own variables come on top of the model's.
        own = specification.get("Container", {}).get("Environment", {})
        environment = container.get("Environment", {}) | own
        return {**model, "PrimaryContainer": {**container, "Environment": environment}}
    given = specification["Container"]
    container = ContainerDefinition(Image=given["Image"], Environment=given.get("Environment", {}))
    if "ArtifactUrl" in given:
        container["ModelDataUrl"] = given["ArtifactUrl"]
    return {"ModelName": name, "ExecutionRoleArn": role, "PrimaryContainer": container}
