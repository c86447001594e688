"""What serves, compared with what a serving stack asks for. Pure: takes what the services describe.

SageMaker may take an update back on its own: the endpoint is `InService` again on the configuration before
it, with an empty failure reason, and whoever waits for the status alone takes the update for done
(terraform-provider-aws #39099 and #48997). So after each update the running configuration, and each
variant's model data, digest and image, are compared with the stack's resources and parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from typing import Any, NamedTuple

from contracts.container import ENV_MODEL_DIGEST
from contracts.routing import CHALLENGER, CHAMPION

Description = Mapping[str, Any]

CONFIG_TYPE = "AWS::SageMaker::EndpointConfig"
COMPONENT_TYPE = "AWS::SageMaker::InferenceComponent"
ROLLBACK_ALARMS_OUTPUT = "RollbackAlarms"
"""Output of the serving stack: the names of the alarms that roll an update back, joined by commas."""

_MISSING = "nothing"


class Difference(NamedTuple):
    """One thing that serves otherwise than asked."""

    subject: str
    asked: str
    serving: str

    def __str__(self) -> str:
        return f"{self.subject} is {self.serving} and not {self.asked}"


class TrippedAlarm(NamedTuple):
    """A rollback alarm that was in ALARM during the update, and CloudWatch's reason."""

    name: str
    reason: str


@dataclass(frozen=True)
class Descriptions:
    """What the services say, in the shapes of their APIs.

    Args:
        stack: The serving stack, as DescribeStacks lists it.
        resources: Its resources, as ListStackResources lists them.
        endpoint: DescribeEndpoint.
        configs: DescribeEndpointConfig by name, of those that `config_names` lists and that exist.
        models: DescribeModel by name, of those that `model_names` lists and that exist.
        components: DescribeInferenceComponent of the stack's components.
    """

    stack: Description
    resources: Sequence[Description]
    endpoint: Description
    configs: Mapping[str, Description]
    models: Mapping[str, Description] = field(default_factory=dict)
    components: Sequence[Description] = ()


def physical_names(resources: Iterable[Description], resource_type: str) -> list[str]:
    """Names of the stack's resources of a type, in lower case.

    A physical id is an ARN, which ends in the name; SageMaker writes names in ARNs in lower case, and knows
    none by its case.
    """
    return [
        str(resource["PhysicalResourceId"]).rpartition("/")[2].lower()
        for resource in resources
        if resource["ResourceType"] == resource_type
        and resource.get("PhysicalResourceId")
        and resource.get("ResourceStatus") != "DELETE_COMPLETE"
    ]


def config_names(resources: Iterable[Description], endpoint: Description) -> list[str]:
    """The configurations to describe: the stack's and the running one."""
    running = str(endpoint["EndpointConfigName"]).lower()
    return list(dict.fromkeys([*physical_names(resources, CONFIG_TYPE), running]))


def model_names(configs: Iterable[Description], components: Iterable[Description]) -> list[str]:
    """The models to describe: those of configurations and components."""
    variants = [variant for config in configs for variant in _variants(config)]
    named = [variant.get("ModelName") for variant in variants]
    named += [component["Specification"].get("ModelName") for component in components]
    return list(dict.fromkeys(name.lower() for name in named if name))


def rollback_alarms(stack: Description) -> list[str]:
    """Names of the alarms that roll an update of this stack's endpoint back."""
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
    return [name for name in str(outputs.get(ROLLBACK_ALARMS_OUTPUT, "")).split(",") if name]


def is_rolled_back(found: Descriptions) -> bool:
    """Whether the endpoint runs on another configuration than the stack's."""
    return any(difference.subject == "EndpointConfigName" for difference in differences(found))


def differences(found: Descriptions) -> list[Difference]:
    """Everything that serves otherwise than the stack asks; empty where all is as asked."""
    running_name = str(found.endpoint["EndpointConfigName"]).lower()
    asked_name = next(iter(physical_names(found.resources, CONFIG_TYPE)), _MISSING)
    pairs = [("EndpointConfigName", asked_name, running_name)]
    parameters = {
        entry["ParameterKey"]: entry.get("ParameterValue", "") for entry in found.stack.get("Parameters", [])
    }
    asked_models = _models_by_variant(found.configs.get(asked_name, {}))
    running_models = _models_by_variant(found.configs.get(running_name, {}))
    images = _images(found.endpoint)
    if asked_models:
        pairs.append(("the set of variants", _listed(asked_models), _listed(images)))
    for variant, asked_model in asked_models.items():
        wanted = _model(found, asked_model)
        pairs += _of_model(variant, parameters, _model(found, running_models.get(variant, "")))
        if variant in images:
            pairs.append((f"the image of {variant}", wanted.image, images[variant]))
    for component in found.components:
        name = component["InferenceComponentName"]
        if model := component["Specification"].get("ModelName"):
            pairs += _of_model(CHAMPION, parameters, _model(found, model), label=name)
    return [Difference(*pair) for pair in pairs if pair[1] != pair[2]]


def tripped_alarms(
    states: Iterable[Description], history: Iterable[Description], since: datetime | None
) -> list[TrippedAlarm]:
    """The alarms that are in ALARM, went into it since the update began, or were in it at that moment.

    Args:
        states: MetricAlarms and CompositeAlarms of DescribeAlarms.
        history: AlarmHistoryItems of the kind StateUpdate, those before the update included.
        since: When the update began; None counts the whole history.
    """
    tripped = {
        alarm["AlarmName"]: str(alarm.get("StateReason", ""))
        for alarm in states
        if alarm.get("StateValue") == "ALARM"
    }
    known_at_start: set[str] = set()
    for item in sorted(history, key=itemgetter("Timestamp"), reverse=True):
        name, summary = item["AlarmName"], str(item.get("HistorySummary", ""))
        if since is not None and item["Timestamp"] < since:
            if name in known_at_start:
                continue
            known_at_start.add(name)  # the last change before the update says how the alarm stood
        if summary.endswith("to ALARM"):
            tripped.setdefault(name, summary)
    return [TrippedAlarm(name, reason) for name, reason in sorted(tripped.items())]


def rollback_message(found: Descriptions, alarms: Sequence[TrippedAlarm]) -> str:
    """One sentence or two for a person: what serves, and which alarm took the update back."""
    name = found.endpoint["EndpointName"]
    first = f"SageMaker took the update of {name} back: {differences(found)[0]}."
    if alarms:
        causes = "; ".join(
            f"{alarm.name} ({alarm.reason})" if alarm.reason else alarm.name for alarm in alarms
        )
        return f"{first} In ALARM during the update: {causes}."
    if reason := found.endpoint.get("FailureReason"):
        return f"{first} Its failure reason: {reason}"
    return (
        f"{first} No rollback alarm was in ALARM and there is no failure reason: read the containers' logs."
    )


class _Model(NamedTuple):
    uri: str
    digest: str
    image: str


def _variants(config: Description) -> list[Description]:
    return [*config.get("ProductionVariants", []), *config.get("ShadowProductionVariants", [])]


def _models_by_variant(config: Description) -> dict[str, str]:
    """Names of models by variant; a variant that hosts components has none."""
    return {each["VariantName"]: each["ModelName"] for each in _variants(config) if each.get("ModelName")}


def _model(found: Descriptions, name: str) -> _Model:
    model = found.models.get(name.lower())
    if model is None:
        return _Model(_MISSING, _MISSING, _MISSING)
    container = model.get("PrimaryContainer") or model["Containers"][0]
    source = container.get("ModelDataSource", {}).get("S3DataSource", {})
    return _Model(
        uri=source.get("S3Uri") or container.get("ModelDataUrl", _MISSING),
        digest=container.get("Environment", {}).get(ENV_MODEL_DIGEST, ""),
        image=container.get("Image", _MISSING),
    )


def _of_model(
    variant: str, parameters: Mapping[str, str], serving: _Model, label: str = ""
) -> list[tuple[str, str, str]]:
    role = {CHAMPION: "Champion", CHALLENGER: "Challenger"}[variant]
    label = label or variant
    return [
        (f"the model data of {label}", parameters[f"{role}ModelUri"], serving.uri),
        (f"the model digest of {label}", parameters[f"{role}ModelDigest"], serving.digest),
    ]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _images(endpoint: Description) -> dict[str, str]:
    """The image of each variant as it was asked for when it was deployed."""
    return {
        variant["VariantName"]: variant["DeployedImages"][0]["SpecifiedImage"]
        for variant in _variants(endpoint)
        if variant.get("DeployedImages")
    }
