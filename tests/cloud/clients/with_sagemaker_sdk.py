"""What the official SageMaker Python SDK sees of a cloud: its resources, as an ML engineer uses them.

Run by the interpreter of the environment `sagemaker-sdk`, with an output file as its argument. Cloud and
credentials stand where botocore looks for them, the names below in the environment. It writes one JSON object
a step and judges nothing: tests/cloud/test_sagemaker_sdk.py does.
"""

from __future__ import annotations

import datetime
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from sagemaker.core import resources, shapes
from sagemaker.core.deserializers.base import JSONDeserializer
from sagemaker.core.iterators import LineIterator
from sagemaker.core.serializers.base import JSONSerializer
from sagemaker.core.utils.exceptions import FailedStatusError
from sagemaker.core.utils.utils import SageMakerClient

ENDPOINT, MODEL_NAME, PREFIX = (os.environ[name] for name in ("ENDPOINT", "MODEL_NAME", "PREFIX"))
BUCKET, ROLE, IMAGE = (os.environ[name] for name in ("BUCKET", "ROLE", "IMAGE"))
JSON_TYPE = "application/json"
CHAT = {"model": MODEL_NAME, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
POLL: dict[str, Any] = {"poll": 1, "timeout": 120}
TAGS: list[Any] = [{"key": "owner", "value": "research"}]
LONG_AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)

Seen = dict[str, Any]
STEPS: list[Callable[[], Seen]] = []
LOGGED: list[str] = []


class _Collector(logging.Handler):
    """The SDK logs a job's lines with `wait(logs=True)`."""

    def emit(self, record: logging.LogRecord) -> None:
        LOGGED.append(record.getMessage())


def step(function: Callable[[], Seen]) -> Callable[[], Seen]:
    """A step of the scenario, in the order of this file."""
    STEPS.append(function)
    return function


@step
def endpoint_is_described() -> Seen:
    endpoint = resources.Endpoint.get(ENDPOINT)
    endpoint.wait_for_status("InService", **POLL)
    config = resources.EndpointConfig.get(endpoint.endpoint_config_name)
    variant = config.production_variants[0]
    model = resources.Model.get(variant.model_name)
    return {
        "name": endpoint.get_name(),
        "status": endpoint.endpoint_status,
        "created": isinstance(endpoint.creation_time, datetime.datetime),
        "variants": [[v.variant_name, v.current_instance_count] for v in endpoint.production_variants],
        "config_variants": [variant.variant_name],
        "image": model.primary_container.image,
        "deployed_image": endpoint.production_variants[0].deployed_images[0].specified_image,
    }


@step
def endpoint_is_listed() -> Seen:
    found = resources.Endpoint.get_all(name_contains=ENDPOINT, status_equals="InService", sort_by="Name")
    return {
        "found": [endpoint.endpoint_name for endpoint in found],
        "before_there_was_one": [
            e.get_name() for e in resources.Endpoint.get_all(creation_time_before=LONG_AGO)
        ],
    }


@step
def unknown_endpoint() -> Seen:
    try:
        resources.Endpoint.get("there-is-none")
    except ClientError as error:
        return {"code": error.response["Error"]["Code"], "message": error.response["Error"]["Message"]}
    return {}


@step
def endpoint_answers() -> Seen:
    reply = resources.Endpoint.get(ENDPOINT).invoke(
        body=json.dumps(CHAT), content_type=JSON_TYPE, accept=JSON_TYPE, target_variant="champion"
    )
    return {
        "content_type": reply.content_type,
        "variant": reply.invoked_production_variant,
        "object": json.loads(reply.body.read())["object"],
    }


@step
def endpoint_answers_with_serializers() -> Seen:
    endpoint = resources.Endpoint.get(ENDPOINT)
    endpoint.serializer, endpoint.deserializer = JSONSerializer(), JSONDeserializer()
    return {"object": endpoint.invoke(body=CHAT, content_type=JSON_TYPE, accept=JSON_TYPE).body["object"]}


@step
def model_refuses() -> Seen:
    try:
        resources.Endpoint.get(ENDPOINT).invoke(body="{}", content_type=JSON_TYPE)
    except ClientError as error:
        response = error.response
        return {"code": response["Error"]["Code"], "original_status": response["OriginalStatusCode"]}
    return {}


@step
def endpoint_streams() -> Seen:
    request = {"body": json.dumps(CHAT | {"stream": True}), "content_type": JSON_TYPE}
    defect = ""
    try:
        resources.Endpoint.get(ENDPOINT).invoke_with_response_stream(**request)
    except AttributeError as error:  # raised after the call, where the reply is made into a shape
        defect = str(error)
    reply = SageMakerClient().sagemaker_runtime_client.invoke_endpoint_with_response_stream(
        EndpointName=ENDPOINT, Body=request["body"], ContentType=JSON_TYPE
    )
    lines = [line.decode() for line in LineIterator(reply["Body"]) if line]
    return {"defect": defect, "lines": len(lines), "last": lines[-1], "content_type": reply["ContentType"]}


@step
def tags_are_kept() -> Seen:
    arn = resources.Endpoint.get(ENDPOINT).endpoint_arn

    def tags() -> dict[str, str]:
        return {tag.key: tag.value for tag in resources.Tag.get_all(resource_arn=arn)}

    resources.Tag.add_tags(resource_arn=arn, tags=TAGS)
    added = tags()
    resources.Tag.delete_tags(resource_arn=arn, tag_keys=["owner"])
    return {"added": added, "left": tags()}


@step
def endpoint_lives() -> Seen:
    """A model, two configurations, an endpoint that is created, updated, weighted and deleted."""
    config = resources.EndpointConfig.get(resources.Endpoint.get(ENDPOINT).endpoint_config_name)
    served = resources.Model.get(config.production_variants[0].model_name)
    model = resources.Model.create(
        model_name=PREFIX, primary_container=served.primary_container, execution_role_arn=ROLE, tags=TAGS
    )
    configs = [
        resources.EndpointConfig.create(
            endpoint_config_name=f"{PREFIX}-{number}",
            production_variants=[
                shapes.ProductionVariant(
                    variant_name="one",
                    model_name=PREFIX,
                    initial_instance_count=1,
                    instance_type="ml.c7i.2xlarge",
                    initial_variant_weight=1.0,
                )
            ],
        )
        for number in range(2)
    ]
    endpoint = resources.Endpoint.create(endpoint_name=PREFIX, endpoint_config_name=configs[0])
    seen: Seen = {"statuses": [endpoint.endpoint_status]}
    endpoint.wait_for_status("InService", **POLL)
    endpoint.endpoint_config_name = f"{PREFIX}-1"
    endpoint.update(
        retain_all_variant_properties=True,
        exclude_retained_variant_properties=[shapes.VariantProperty(variant_property_type="DesiredWeight")],
    )
    seen["statuses"].append(endpoint.endpoint_status)
    endpoint.wait_for_status("InService", **POLL)
    seen["config"] = endpoint.endpoint_config_name.removeprefix(PREFIX)
    endpoint.update_weights_and_capacities(
        [shapes.DesiredWeightAndCapacity(variant_name="one", desired_weight=0.5)]
    )
    endpoint.refresh()
    endpoint.wait_for_status("InService", **POLL)
    seen["weight"] = endpoint.production_variants[0].current_weight
    endpoint.delete()
    endpoint.wait_for_delete(**POLL)
    for made in (*configs, model):
        made.delete()
    seen["left"] = [
        found.get_name()
        for kind in (resources.Endpoint, resources.EndpointConfig, resources.Model)
        for found in kind.get_all(name_contains=PREFIX)
    ]
    return seen


@step
def model_packages() -> Seen:
    group = resources.ModelPackageGroup.create(model_package_group_name=PREFIX, tags=TAGS)
    group.wait_for_status("Completed", **POLL)
    # A dictionary, because the SDK has two shapes of this name.
    specification: Any = {"containers": [{"image": IMAGE, "model_data_url": f"s3://{BUCKET}/model.tar.gz"}]}
    defects = set()
    for number in range(12):  # more than one page
        try:
            resources.ModelPackage.create(
                model_package_group_name=group,
                inference_specification=specification,
                model_approval_status="PendingManualApproval",
                customer_metadata_properties={"number": str(number)},
            )
        except KeyError as error:  # raised after the call, whose reply has an ARN only
            defects.add(repr(error))
    packages = list(resources.ModelPackage.get_all(model_package_group_name=PREFIX))
    latest = resources.ModelPackage.get(packages[0].model_package_arn)
    latest.wait_for_status("Completed", **POLL)
    latest.update(model_approval_status="Approved", approval_description="better by 3 points")
    approved = resources.ModelPackage.get_all(
        model_package_group_name=PREFIX, model_approval_status="Approved"
    )
    described = latest.batch_get(model_package_arn_list=[p.model_package_arn for p in packages[:3]])
    seen = {
        "defects": sorted(defects),
        "versions": [package.model_package_version for package in packages],
        "image": packages[-1].inference_specification.containers[0].image,
        "metadata": packages[-1].customer_metadata_properties,
        "refreshed": packages[0].refresh().model_approval_status,
        "approved": [package.model_package_version for package in approved],
        "described_at_once": sorted(
            s.model_package_version for s in described.model_package_summaries.values()
        ),
    }
    for package in packages:
        resources.ModelPackage(model_package_name=package.model_package_arn).delete()
    group.delete()
    seen["left"] = [g.get_name() for g in resources.ModelPackageGroup.get_all(name_contains=PREFIX)]
    return seen


def _train(name: str, program: str) -> Any:
    source = shapes.S3DataSource(s3_data_type="S3Prefix", s3_uri=f"s3://{BUCKET}/data/")
    return resources.TrainingJob.create(
        training_job_name=f"{PREFIX}-{name}",
        role_arn=ROLE,
        algorithm_specification=shapes.AlgorithmSpecification(
            training_image=IMAGE,
            training_input_mode="File",
            metric_definitions=[shapes.MetricDefinition(name="loss", regex="loss=([0-9.]+)")],
        ),
        hyper_parameters={
            "sagemaker_program": program,
            "sagemaker_submit_directory": f"s3://{BUCKET}/source.tar.gz",
        },
        input_data_config=[
            shapes.Channel(channel_name="train", data_source=shapes.DataSource(s3_data_source=source))
        ],
        output_data_config=shapes.OutputDataConfig(s3_output_path=f"s3://{BUCKET}/out"),
        resource_config=shapes.ResourceConfig(
            instance_type="ml.m5.large", instance_count=1, volume_size_in_gb=10
        ),
        stopping_condition=shapes.StoppingCondition(max_runtime_in_seconds=300),
        tags=TAGS,
    )


@step
def training_job() -> Seen:
    job = _train("good", "train.py")
    seen: Seen = {"first": job.training_job_status}
    job.wait(logs=True, **POLL)
    seen |= {
        "last": job.training_job_status,
        "secondary": [transition.status for transition in job.secondary_status_transitions],
        "loss": [metric.value for metric in job.final_metric_data_list],
        "artefacts": job.model_artifacts.s3_model_artifacts,
        "listed": [j.get_name() for j in resources.TrainingJob.get_all(name_contains=PREFIX)],
        "logged": list(LOGGED),
    }
    job.delete()
    job.wait_for_delete(**POLL)
    return seen


@step
def failing_training_job() -> Seen:
    job = _train("bad", "missing.py")
    seen: Seen = {}
    try:
        job.wait(logs=True, **POLL)
    except FailedStatusError as error:
        seen["error"] = str(error)
    seen |= {"reason": job.failure_reason, "logged": list(LOGGED)}
    job.delete()
    return seen


@step
def stopped_training_job() -> Seen:
    job = _train("slow", "slow.py")
    job.stop()
    job.wait(**POLL)
    job.delete()
    return {"status": job.training_job_status, "secondary": job.secondary_status}


@step
def processing_job() -> Seen:
    data, out = "/opt/ml/processing/input/data", "/opt/ml/processing/output"
    job = resources.ProcessingJob.create(
        processing_job_name=PREFIX,
        role_arn=ROLE,
        app_specification=shapes.AppSpecification(
            image_uri=IMAGE,
            container_entrypoint=["/bin/sh", "-c"],
            container_arguments=[f"tr a-z A-Z < {data}/words.txt > {out}/words.txt && echo written"],
        ),
        processing_resources=shapes.ProcessingResources(
            cluster_config=shapes.ProcessingClusterConfig(
                instance_count=1, instance_type="ml.m5.large", volume_size_in_gb=10
            )
        ),
        processing_inputs=[
            shapes.ProcessingInput(
                input_name="data",
                s3_input=shapes.ProcessingS3Input(
                    s3_uri=f"s3://{BUCKET}/data/",
                    local_path=data,
                    s3_data_type="S3Prefix",
                    s3_input_mode="File",
                    s3_data_distribution_type="FullyReplicated",
                ),
            )
        ],
        processing_output_config=shapes.ProcessingOutputConfig(
            outputs=[
                shapes.ProcessingOutput(
                    output_name="out",
                    s3_output=shapes.ProcessingS3Output(
                        s3_uri=f"s3://{BUCKET}/processed", local_path=out, s3_upload_mode="EndOfJob"
                    ),
                )
            ]
        ),
        stopping_condition=shapes.ProcessingStoppingCondition(max_runtime_in_seconds=300),
        tags=TAGS,
    )
    seen: Seen = {"first": job.processing_job_status}
    job.wait(logs=True, **POLL)
    seen |= {
        "last": job.processing_job_status,
        "listed": [j.get_name() for j in resources.ProcessingJob.get_all(name_contains=PREFIX)],
        "logged": list(LOGGED),
    }
    job.delete()
    seen["left"] = [j.get_name() for j in resources.ProcessingJob.get_all(name_contains=PREFIX)]
    return seen


def main() -> None:
    """Every step, also after one that fails."""
    log = logging.getLogger("sagemaker.core.resources")
    log.setLevel(logging.INFO)
    log.addHandler(_Collector())
    with Path(sys.argv[1]).open("w") as out:
        for function in STEPS:
            LOGGED.clear()
            try:
                seen = function()
            except Exception:
                seen = {"failed": traceback.format_exc()}
            print(json.dumps({"step": function.__name__, **seen}), file=out, flush=True)


if __name__ == "__main__":
    main()
