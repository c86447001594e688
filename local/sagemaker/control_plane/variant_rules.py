"""What the service refuses about kinds of endpoints: real-time, asynchronous, serverless, with components.

One function per rule, pure over requests and records. AWS does not publish all of these words; ours then.
"""

from __future__ import annotations

from local.sagemaker.errors import invalid
from local.sagemaker.records import EndpointConfigRecord, JsonObject, ModelRecord, VariantRecord

MEMORY_SIZES = tuple(range(1024, 6144 + 1, 1024))
_NOT_SERVERLESS = (
    "InstanceType", "InitialInstanceCount", "InstancePools", "ManagedInstanceScaling", "RoutingConfig",
    "VolumeSizeInGB", "InferenceAmiVersion", "EnableSSMAccess", "ModelDataDownloadTimeoutInSeconds",
    "ContainerStartupHealthCheckTimeoutInSeconds",
)  # fmt: skip


def check_kinds(request: JsonObject) -> None:
    """The variants of a configuration are of one kind, and the configuration suits it."""
    production, shadow = request["ProductionVariants"], request.get("ShadowProductionVariants", [])
    everyone = [*production, *shadow]
    serverless = [each for each in everyone if "ServerlessConfig" in each]
    hosts = [each for each in everyone if not each.get("ModelName")]
    if serverless:
        if shadow:
            raise invalid("Shadow variants are not supported for serverless endpoints.")
        if len(serverless) < len(everyone):
            raise invalid("Serverless and instance-based variants cannot be mixed in one endpoint.")
        if len(production) > 1:
            raise invalid("Multiple production variants are not supported for serverless endpoints.")
        if "AsyncInferenceConfig" in request:
            raise invalid("AsyncInferenceConfig is not supported for serverless endpoints.")
        for name in ("DataCaptureConfig", "VpcConfig", "EnableNetworkIsolation", "KmsKeyId"):
            if request.get(name):
                raise invalid(f"{name} is not supported for serverless endpoints.")
    if hosts:
        if len(hosts) < len(everyone):
            raise invalid(
                "Either all variants have a ModelName, or none has: an endpoint for inference components "
                "hosts no models of its own."
            )
        if shadow or len(production) > 1:
            raise invalid(
                "An endpoint for inference components has exactly one production variant and no shadow "
                "variant."
            )
        if not request.get("ExecutionRoleArn"):
            raise invalid("An endpoint configuration for inference components must have an ExecutionRoleArn.")
        if "AsyncInferenceConfig" in request:
            raise invalid("AsyncInferenceConfig is not supported for inference components.")
    elif request.get("ExecutionRoleArn"):
        raise invalid("ExecutionRoleArn is only allowed when the variants have no ModelName.")
    if "AsyncInferenceConfig" in request:
        _check_async(request["AsyncInferenceConfig"], production, shadow)


def _check_async(
    configuration: JsonObject, production: list[VariantRecord], shadow: list[VariantRecord]
) -> None:
    if shadow:
        raise invalid("Shadow variants are not supported for asynchronous endpoints.")
    if len(production) > 1:
        raise invalid("An asynchronous endpoint has exactly one production variant.")
    if not configuration["OutputConfig"].get("S3OutputPath"):
        raise invalid("AsyncInferenceConfig must have an S3OutputPath in its OutputConfig.")
    for name in ("S3OutputPath", "S3FailurePath"):
        if not configuration["OutputConfig"].get(name, "s3://").startswith("s3://"):
            raise invalid(f"{name} must begin with s3://.")


def check_variant(variant: VariantRecord) -> None:
    """A variant has what its kind needs and nothing of another kind."""
    name = variant["VariantName"]
    if "ServerlessConfig" in variant:
        _check_serverless(variant)
        return
    if ("InstanceType" in variant) == ("InstancePools" in variant):
        raise invalid(f"Variant {name} must have either InstanceType or InstancePools.")
    if not variant.get("InitialInstanceCount"):
        raise invalid(f"Variant {name} must have InitialInstanceCount.")
    pools = variant.get("InstancePools", [])
    if len({pool["Priority"] for pool in pools}) < len(pools):
        raise invalid(f"The InstancePools of variant {name} must have different priorities.")
    if len({pool["InstanceType"] for pool in pools}) < len(pools):
        raise invalid(f"The InstancePools of variant {name} must have different instance types.")
    if any("ModelNameOverride" in pool for pool in pools):
        raise invalid("The laptop cloud does not support ModelNameOverride.")
    if not variant.get("ModelName"):
        _check_host(variant)
    elif "ManagedInstanceScaling" in variant:
        raise invalid(f"Variant {name} has a ModelName: ManagedInstanceScaling is for inference components.")


def check_model(variant: VariantRecord, model: ModelRecord) -> None:
    """What a variant's kind rules out in its model."""
    if "ServerlessConfig" in variant:
        for name in ("EnableNetworkIsolation", "VpcConfig"):
            if model.get(name):
                raise invalid(
                    f"Model {model['ModelName']} has {name}, which is not supported for serverless endpoints."
                )


def _check_serverless(variant: VariantRecord) -> None:
    name, config = variant["VariantName"], variant["ServerlessConfig"]
    for field in _NOT_SERVERLESS:
        if field in variant:
            raise invalid(f"{field} must not be given for the serverless variant {name}.")
    if config["MemorySizeInMB"] not in MEMORY_SIZES:
        raise invalid(f"MemorySizeInMB must be one of {', '.join(map(str, MEMORY_SIZES))}.")
    _check_concurrency(config)


def _check_host(variant: VariantRecord) -> None:
    """A variant for inference components."""
    name, scaling = variant["VariantName"], variant.get("ManagedInstanceScaling", {})
    least, most = scaling.get("MinInstanceCount"), scaling.get("MaxInstanceCount")
    if least is not None and most is not None and least > most:
        raise invalid(f"MinInstanceCount of variant {name} is more than its MaxInstanceCount.")
    count = variant["InitialInstanceCount"]
    if scaling.get("Status", "ENABLED") == "ENABLED":
        if least is not None and count < least:
            raise invalid(f"InitialInstanceCount of variant {name} is less than its MinInstanceCount.")
        if most is not None and count > most:
            raise invalid(f"InitialInstanceCount of variant {name} is more than its MaxInstanceCount.")


def check_guarded(deployment: JsonObject, old: EndpointConfigRecord, new: EndpointConfigRecord) -> None:
    """Deployment guardrails suit the kind of endpoint."""
    for variant in (*old["ProductionVariants"], *new["ProductionVariants"]):
        if any(".inf1." in each for each in (variant.get("InstanceType", ""),)):
            raise invalid("Deployment guardrails are not supported for ml.inf1 instances.")
        rolling = "RollingUpdatePolicy" in deployment
        if rolling and "ServerlessConfig" in variant:
            raise invalid("RollingUpdatePolicy is not supported for serverless endpoints.")
    if "RollingUpdatePolicy" in deployment and len(new["ProductionVariants"]) > 1:
        raise invalid("RollingUpdatePolicy is not supported for endpoints with several production variants.")


def check_serverless_update(variant: VariantRecord, change: JsonObject) -> None:
    """Another concurrency for a serverless variant; one without provisioned concurrency is given none."""
    name = variant["VariantName"]
    if "ServerlessConfig" not in variant:
        raise invalid(f"Variant {name} is not serverless: it takes no ServerlessUpdateConfig.")
    if "ProvisionedConcurrency" in change and "ProvisionedConcurrency" not in variant["ServerlessConfig"]:
        raise invalid(f"Variant {name} has no provisioned concurrency to update.")
    _check_concurrency(variant["ServerlessConfig"] | change)


def _check_concurrency(config: JsonObject) -> None:
    if config.get("ProvisionedConcurrency", 0) > config["MaxConcurrency"]:
        raise invalid("ProvisionedConcurrency must not be more than MaxConcurrency.")


def check_count(variant: VariantRecord, count: int, config: EndpointConfigRecord) -> None:
    """A number of instances that a variant can be given."""
    name = variant["VariantName"]
    if "ServerlessConfig" in variant:
        raise invalid(f"Variant {name} is serverless: it has no instance count.")
    managed = (
        variant.get("ManagedInstanceScaling", {"Status": "DISABLED"}).get("Status", "ENABLED") == "ENABLED"
    )
    if managed and not variant.get("ModelName"):
        raise invalid(f"The instances of variant {name} are set by its ManagedInstanceScaling.")
    if count == 0 and "AsyncInferenceConfig" not in config:
        raise invalid("DesiredInstanceCount must be at least 1 for a variant without components.")
