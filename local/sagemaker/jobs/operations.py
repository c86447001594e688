"""Operations on jobs: they check, write the record and leave the work to `runner`.

A record is what Describe answers; the tags stand apart, as everywhere.
"""

from __future__ import annotations

from local.sagemaker.errors import AwsApiError, invalid
from local.sagemaker.jobs import rules
from local.sagemaker.jobs.kinds import PROCESSING, TRAINING, JobKind, add_secondary_status
from local.sagemaker.jobs.runner import JobRunner
from local.sagemaker.listing import page
from local.sagemaker.ports import CloudServices
from local.sagemaker.records import JsonObject
from local.sagemaker.store import SageMakerStore, now
from local.sagemaker.tags import store_tags

_DEFAULT_RUNTIME_SECONDS = 86_400


def create_training_job(
    store: SageMakerStore, cloud: CloudServices, jobs: JobRunner, request: JsonObject
) -> JsonObject:
    """CreateTrainingJob: answers while the job is `Starting`."""
    rules.check_training(request)
    record = {
        "EnableNetworkIsolation": False,
        "EnableInterContainerTrafficEncryption": False,
        "EnableManagedSpotTraining": False,
        **request,
        "SecondaryStatusTransitions": [],
    }
    record["StoppingCondition"] = {
        "MaxRuntimeInSeconds": _DEFAULT_RUNTIME_SECONDS,
        **request["StoppingCondition"],
    }
    return _create(TRAINING, store, cloud, jobs, request, record, request["ResourceConfig"]["InstanceType"])


def create_processing_job(
    store: SageMakerStore, cloud: CloudServices, jobs: JobRunner, request: JsonObject
) -> JsonObject:
    """CreateProcessingJob: answers while the job is `InProgress`."""
    rules.check_processing(request)
    record = {"StoppingCondition": {"MaxRuntimeInSeconds": _DEFAULT_RUNTIME_SECONDS}, **request}
    instance_type = request["ProcessingResources"]["ClusterConfig"]["InstanceType"]
    return _create(PROCESSING, store, cloud, jobs, request, record, instance_type)


def _create(
    kind: JobKind,
    store: SageMakerStore,
    cloud: CloudServices,
    jobs: JobRunner,
    request: JsonObject,
    record: JsonObject,
    instance_type: str,
) -> JsonObject:
    name = request[kind.name_field]
    try:
        cloud.role_credentials(request["RoleArn"])
    except PermissionError:
        raise invalid(
            f"Could not assume role {request['RoleArn']}. Please ensure that the role exists and allows "
            "principal 'sagemaker.amazonaws.com' to assume the role."
        ) from None
    rules.check_new(kind, store, name)
    rules.check_quota(kind, store, instance_type)
    collection = kind.collection(store)
    arn = collection.arn(name)
    record.pop("Tags", None)
    record |= {
        kind.arn_field: arn,
        kind.status_field: "InProgress",
        "CreationTime": now(),
        "LastModifiedTime": now(),
    }
    collection.add(name, record)
    store_tags(store, arn, request)
    if kind is TRAINING:
        add_secondary_status(record, "Starting", "Launching requested ML instances")
    jobs.begin(kind, record)
    return {kind.arn_field: arn}


def describe(kind: JobKind, store: SageMakerStore, request: JsonObject) -> JsonObject:
    """DescribeTrainingJob, DescribeProcessingJob."""
    return _known(kind, store, request)


def stop(kind: JobKind, store: SageMakerStore, jobs: JobRunner, request: JsonObject) -> JsonObject:
    """StopTrainingJob, StopProcessingJob: answers at once, the job ends within two minutes."""
    record = _known(kind, store, request)
    status = record[kind.status_field]
    if status == "InProgress":
        record |= {kind.status_field: "Stopping", "LastModifiedTime": now()}
        if kind is TRAINING:
            add_secondary_status(record, "Stopping", "Stopping the training job")
        jobs.stop_job(kind, record)
    elif status != "Stopping":
        raise invalid(f"The request was rejected because the {kind.words} is in status {status}.")
    return {}


def delete(kind: JobKind, store: SageMakerStore, request: JsonObject) -> JsonObject:
    """DeleteTrainingJob, DeleteProcessingJob: only of a job that has ended; its name is free again."""
    name = request[kind.name_field]
    collection = kind.collection(store)
    record = collection.find(name)
    if record is None:
        raise AwsApiError("ResourceNotFound", kind.unknown.format(name=name))
    if kind.is_active(record):
        raise AwsApiError(
            "ResourceInUse",
            f"The {kind.words} {record[kind.arn_field]} cannot be deleted in status "
            f"{record[kind.status_field]}.",
        )
    collection.remove(name)
    store.tags.pop(record[kind.arn_field], None)
    return {}


def list_jobs(kind: JobKind, store: SageMakerStore, request: JsonObject) -> JsonObject:
    """ListTrainingJobs, ListProcessingJobs."""
    if "TrainingPlanArnEquals" in request or "WarmPoolStatusEquals" in request:
        return {f"{kind.noun}Summaries": []}  # there are no plans and no warm pools here
    fields = (
        kind.name_field,
        kind.arn_field,
        "CreationTime",
        f"{kind.prefix}EndTime",
        "LastModifiedTime",
        kind.status_field,
        *(("SecondaryStatus",) if kind is TRAINING else ("FailureReason",)),
    )
    found, token = page(kind.collection(store).records.values(), request, noun=kind.noun, fields=fields)
    return {f"{kind.noun}Summaries": found} | ({"NextToken": token} if token else {})


def _known(kind: JobKind, store: SageMakerStore, request: JsonObject) -> JsonObject:
    name = request[kind.name_field]
    record = kind.collection(store).find(name)
    if record is None:
        # The API reference says ResourceNotFound; the service answers a ValidationException.
        raise invalid(kind.unknown.format(name=name))
    return record
