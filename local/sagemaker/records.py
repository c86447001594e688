"""The shapes of the main records, as botocore's model has them, plus what the laptop cloud keeps beside.

A record is what Describe answers, in JSON types; times are seconds since the epoch. Members that no code
reads are left out of the types, not of the records. Jobs and model packages stay plain JSON objects, since
the names of their members depend on their kind.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

JsonObject = dict[str, Any]
"""A request or reply in the API's shape, checked by `request_validation` where it comes in."""

WeightsAndCapacities = dict[str, tuple[float, int]]
"""By variant name: its weight and its instance count."""


class ContainerDefinition(TypedDict, total=False):
    """ContainerDefinition of CreateModel."""

    Image: str
    Environment: dict[str, str]
    ModelDataUrl: str
    ModelDataSource: JsonObject


class ModelRecord(TypedDict, total=False):
    """A model."""

    ModelName: str
    ModelArn: str
    ExecutionRoleArn: str
    PrimaryContainer: ContainerDefinition
    Containers: list[ContainerDefinition]
    CreationTime: float


class VariantRecord(TypedDict, total=False):
    """ProductionVariant of an endpoint configuration. One without ModelName hosts inference components."""

    VariantName: str
    ModelName: str
    InitialVariantWeight: float
    InitialInstanceCount: int
    InstanceType: str
    InstancePools: list[JsonObject]
    ServerlessConfig: dict[str, int]
    ManagedInstanceScaling: JsonObject
    RoutingConfig: JsonObject
    ModelDataDownloadTimeoutInSeconds: int
    ContainerStartupHealthCheckTimeoutInSeconds: int


class EndpointConfigRecord(TypedDict):
    """An endpoint configuration."""

    EndpointConfigName: str
    EndpointConfigArn: str
    ProductionVariants: list[VariantRecord]
    CreationTime: float
    ShadowProductionVariants: NotRequired[list[VariantRecord]]
    ExecutionRoleArn: NotRequired[str]
    KmsKeyId: NotRequired[str]
    AsyncInferenceConfig: NotRequired[JsonObject]
    MetricsConfig: NotRequired[JsonObject]


class PendingUpdate(TypedDict):
    """The configuration that an update is moving an endpoint to."""

    StartTime: float
    Config: EndpointConfigRecord
    Sizes: WeightsAndCapacities


class EndpointRecord(TypedDict):
    """An endpoint. `Config`, `Models` (by lower-case name) and `Sizes` are what it was made from."""

    EndpointName: str
    EndpointArn: str
    EndpointConfigName: str
    EndpointStatus: str
    CreationTime: float
    LastModifiedTime: float
    Config: EndpointConfigRecord
    Models: dict[str, ModelRecord]
    Sizes: WeightsAndCapacities
    FailureReason: NotRequired[str]
    LastDeploymentConfig: NotRequired[JsonObject]
    Pending: NotRequired[PendingUpdate]


class ComponentDefinition(TypedDict):
    """What an inference component's copies are made from. `Base` is empty, except for an adapter."""

    InferenceComponentName: str
    EndpointName: str
    VariantName: str
    Specification: JsonObject
    Model: ModelRecord
    CopyCount: int
    Base: str
    LastDeploymentConfig: NotRequired[JsonObject]


class InferenceComponentRecord(ComponentDefinition):
    """An inference component. `Folder` holds the fetched files of an adapter."""

    InferenceComponentArn: str
    EndpointArn: str
    InferenceComponentStatus: str
    CreationTime: float
    LastModifiedTime: float
    FailureReason: NotRequired[str]
    Folder: NotRequired[str]


class AsyncRequestRecord(TypedDict):
    """A queued asynchronous request. `Body` is base64; None when the input is an object in S3."""

    Id: str
    InferenceId: str
    EndpointName: str
    Params: JsonObject
    Body: str | None
    Received: float
    OutputLocation: NotRequired[str]
    FailureLocation: NotRequired[str]
