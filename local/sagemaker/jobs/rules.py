"""What is refused about jobs: one function per kind of request, pure over records."""

from __future__ import annotations

import re
from collections.abc import Iterable

from local.sagemaker.errors import AwsApiError, invalid, limit_exceeded, unsupported
from local.sagemaker.jobs.kinds import PROCESSING, TRAINING, JobKind
from local.sagemaker.records import JsonObject
from local.sagemaker.store import SageMakerStore

MAX_ACTIVE_JOBS = 2
"""Jobs of both kinds that run at a time: each is a process of this machine, beside the endpoint's."""

OPT_ML = "/opt/ml"
_PROCESSING_ROOT = f"{OPT_ML}/processing"
_UNSUPPORTED_TRAINING = (
    "DebugHookConfig",
    "DebugRuleConfigurations",
    "TensorBoardOutputConfig",
    "ExperimentConfig",
    "ProfilerRuleConfigurations",
    "RemoteDebugConfig",
    "SessionChainingConfig",
    "ServerlessJobConfig",
    "MlflowConfig",
    "ModelPackageConfig",
)
_UNSUPPORTED_RESOURCES = (
    "InstanceGroups",
    "KeepAlivePeriodInSeconds",
    "TrainingPlanArn",
    "InstancePlacementConfig",
    "InstancePreferences",
)
_UNSUPPORTED_SOURCE = ("AttributeNames", "InstanceGroupNames", "ModelAccessConfig", "HubAccessConfig")


def check_training(request: JsonObject) -> None:
    """A training job: an image, one instance, channels from S3 prefixes."""
    _refuse(request, _UNSUPPORTED_TRAINING)
    algorithm, resources = request.get("AlgorithmSpecification"), request.get("ResourceConfig")
    if not algorithm or not resources or not request.get("StoppingCondition"):
        raise invalid("AlgorithmSpecification, ResourceConfig and StoppingCondition must be specified.")
    if algorithm.get("AlgorithmName"):
        raise unsupported("AlgorithmName (algorithms of AWS Marketplace)")
    if not algorithm.get("TrainingImage"):
        raise invalid("You must specify TrainingImage in AlgorithmSpecification.")
    if algorithm["TrainingInputMode"] == "Pipe":
        raise unsupported("TrainingInputMode Pipe")
    for definition in algorithm.get("MetricDefinitions", []):
        _check_pattern(definition)
    _refuse(resources, _UNSUPPORTED_RESOURCES)
    _check_instances(resources)
    _check_channels(request.get("InputDataConfig", []))
    condition = request["StoppingCondition"]
    if request.get("EnableManagedSpotTraining") and not condition.get("MaxWaitTimeInSeconds"):
        raise invalid("MaxWaitTimeInSeconds must be specified when EnableManagedSpotTraining is true.")


def _check_pattern(definition: JsonObject) -> None:
    try:
        re.compile(definition["Regex"])
    except re.error as error:
        raise invalid(f"The regex of metric {definition['Name']} is not valid: {error}.") from None


def _check_channels(channels: list[JsonObject]) -> None:
    names = [channel["ChannelName"] for channel in channels]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise invalid(f"Channel names must be unique; repeated: {', '.join(repeated)}.")
    for channel in channels:
        _refuse(channel, ("ShuffleConfig",))
        if channel.get("CompressionType", "None") != "None":
            raise unsupported("compressed channels")
        if channel.get("RecordWrapperType", "None") != "None":
            raise unsupported("RecordWrapperType RecordIO")
        if channel.get("InputMode") == "Pipe":
            raise unsupported("InputMode Pipe")
        source = channel["DataSource"].get("S3DataSource")
        if not source:
            raise unsupported("a channel without S3DataSource")
        _refuse(source, _UNSUPPORTED_SOURCE)
        if source["S3DataType"] != "S3Prefix":
            raise unsupported(f"S3DataType {source['S3DataType']}")


def check_processing(request: JsonObject) -> None:
    """A processing job: an entry point, one instance, inputs and outputs below /opt/ml/processing."""
    _refuse(request, ("ExperimentConfig",))
    cluster = request["ProcessingResources"]["ClusterConfig"]
    _refuse(cluster, ("InstancePreferences",))
    _check_instances(cluster)
    if not request["AppSpecification"].get("ContainerEntrypoint"):
        raise unsupported("an AppSpecification without ContainerEntrypoint")
    names = [item["InputName"] for item in request.get("ProcessingInputs", [])]
    outputs = request.get("ProcessingOutputConfig", {}).get("Outputs", [])
    names += [item["OutputName"] for item in outputs]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise invalid(f"Input and output names must be unique; repeated: {', '.join(repeated)}.")
    for item in request.get("ProcessingInputs", []):
        _check_input(item)
    for item in outputs:
        _check_output(item)


def _check_input(item: JsonObject) -> None:
    _refuse(item, ("DatasetDefinition", "AppManaged"))
    source = item.get("S3Input")
    if not source:
        raise invalid(f"Input {item['InputName']} must have S3Input.")
    if source["S3DataType"] != "S3Prefix":
        raise unsupported(f"S3DataType {source['S3DataType']}")
    if source.get("S3InputMode", "File") != "File":
        raise unsupported(f"S3InputMode {source['S3InputMode']}")
    if source.get("S3CompressionType", "None") != "None":
        raise unsupported("compressed inputs")
    _check_local_path(item["InputName"], source)


def _check_output(item: JsonObject) -> None:
    _refuse(item, ("FeatureStoreOutput", "AppManaged"))
    target = item.get("S3Output")
    if not target:
        raise invalid(f"Output {item['OutputName']} must have S3Output.")
    if target["S3UploadMode"] != "EndOfJob":
        raise unsupported(f"S3UploadMode {target['S3UploadMode']}")
    _check_local_path(item["OutputName"], target)


def _check_local_path(name: str, target: JsonObject) -> None:
    path = target.get("LocalPath", "")
    below = path == _PROCESSING_ROOT or path.startswith(f"{_PROCESSING_ROOT}/")
    if not below or ".." in path.split("/"):
        raise invalid(f"LocalPath of {name} must be below {_PROCESSING_ROOT}, got '{path}'.")


def _check_instances(resources: JsonObject) -> None:
    if not resources.get("InstanceType") or not resources.get("InstanceCount"):
        raise invalid("InstanceType and InstanceCount must be specified.")
    if resources["InstanceCount"] != 1:
        raise unsupported("jobs on more than one instance")


def check_new(kind: JobKind, store: SageMakerStore, name: str) -> None:
    """Names are never used twice, as a job cannot be deleted."""
    record = kind.collection(store).find(name)
    if record is not None:
        raise AwsApiError(
            "ResourceInUse",
            f"{kind.words.capitalize()} names must be unique within an AWS account and region, and a "
            f"{kind.words} with this name already exists ({record[kind.arn_field]})",
        )


def check_quota(kind: JobKind, store: SageMakerStore, instance_type: str) -> None:
    """This laptop's number of jobs at a time, in the words of an account's quota."""
    active = sum(
        each.is_active(record)
        for each in (TRAINING, PROCESSING)
        for record in each.collection(store).records.values()
    )
    if active >= MAX_ACTIVE_JOBS:
        raise limit_exceeded(
            f"The account-level service limit '{instance_type} for {kind.words} usage' is {MAX_ACTIVE_JOBS} "
            f"Instances, with current utilization of {active} Instances and a request delta of 1 Instances. "
            "Please use AWS Service Quotas to request an increase for this quota. (On a laptop this limit is "
            "fixed, for training and processing jobs together.)"
        )


def _refuse(request: JsonObject, names: Iterable[str]) -> None:
    for name in names:
        if request.get(name):
            raise unsupported(name)
