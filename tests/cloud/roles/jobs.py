"""Probes of the roles of jobs, of the state machine that runs them, and of the model's containers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from tests.cloud.roles.loop import JUDGE
from tests.cloud.roles.world import Probe, World, marker

TRAINING, PROCESSING = "Training", "Processing"
_EVENTS = ("events:DescribeRule", "events:PutRule", "events:PutTargets")
_QUICKLY_SECONDS = 600
_IMAGE = (
    *("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage"),
    *("ecr:GetAuthorizationToken", "ecr:GetDownloadUrlForLayer"),
)
_VOLUME = ("kms:CreateGrant", "kms:DescribeKey")


def _request(world: World, kind: str, name: str, command: str) -> dict[str, Any]:
    """Create…Job: copies a release's `in` to its `out`, or does what the command says."""
    release = f"s3://{world.bucket}/releases/{name}"
    outputs = world.laptop.outputs
    image = f"{outputs['account']}.dkr.ecr.{outputs['region']}.amazonaws.com/evergreen-training:local"
    cluster = {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1}
    cluster["VolumeKmsKeyId"] = _key(world)
    common = {
        f"{kind}JobName": name,
        "RoleArn": world.arn(f"{kind}Role"),
        "StoppingCondition": {"MaxRuntimeInSeconds": _QUICKLY_SECONDS},
        "Tags": [{"Key": "probe", "Value": name}],
    }
    if kind == TRAINING:
        data = {"S3DataType": "S3Prefix", "S3Uri": f"{release}/in/"}
        return common | {
            "AlgorithmSpecification": {
                "TrainingImage": image,
                "TrainingInputMode": "File",
                "ContainerEntrypoint": ["/bin/bash", "-c", command],
            },
            "InputDataConfig": [{"ChannelName": "train", "DataSource": {"S3DataSource": data}}],
            "OutputDataConfig": {"S3OutputPath": f"{release}/out", "CompressionType": "NONE"},
            "ResourceConfig": cluster,
        }
    place = {"S3DataType": "S3Prefix", "S3InputMode": "File", "LocalPath": "/opt/ml/processing/in"}
    target = {"LocalPath": "/opt/ml/processing/out", "S3Uri": f"{release}/out", "S3UploadMode": "EndOfJob"}
    return common | {
        "AppSpecification": {"ImageUri": image, "ContainerEntrypoint": ["/bin/bash", "-c", command]},
        "ProcessingInputs": [{"InputName": "in", "S3Input": {"S3Uri": f"{release}/in/", **place}}],
        "ProcessingOutputConfig": {"Outputs": [{"OutputName": "out", "S3Output": target}]},
        "ProcessingResources": {"ClusterConfig": cluster},
    }


_COPY = {
    TRAINING: 'cp "$SM_CHANNEL_TRAIN"/* "$SM_MODEL_DIR"',
    PROCESSING: "cp /opt/ml/processing/in/* /opt/ml/processing/out/",
}


def _key(world: World) -> str:
    """The key of models, volumes and what jobs leave."""
    found = world.laptop.aws("s3").get_bucket_encryption(Bucket=world.bucket)
    rule = found["ServerSideEncryptionConfiguration"]["Rules"][0]["ApplyServerSideEncryptionByDefault"]
    return str(rule["KMSMasterKeyID"])


def _status(world: World, kind: str, name: str) -> str:
    describe = getattr(world.laptop.aws("sagemaker"), f"describe_{kind.lower()}_job")
    try:
        return str(describe(**{f"{kind}JobName": name})[f"{kind}JobStatus"])
    except ClientError:
        return ""


def _ended(world: World, kind: str, name: str) -> str:
    def over() -> str:
        status = _status(world, kind, name)
        return status if status in ("Completed", "Failed", "Stopped") else ""

    return str(world.until(over, f"{name} ends"))


def _copies(kind: str) -> Callable[[World], bool]:
    """A job under its role alone: inputs listed and read, outputs written."""

    def works(world: World) -> bool:
        name = f"local-{marker()}"
        world.put(f"releases/{name}/in/a.txt", b"a")
        create = getattr(world.laptop.aws("sagemaker"), f"create_{kind.lower()}_job")
        create(**_request(world, kind, name, _COPY[kind]))
        return _ended(world, kind, name) == "Completed"

    return works


def _logs(kind: str) -> Callable[[World], bool]:
    """A job says a word, which stands in the log of all jobs of its kind."""

    def works(world: World) -> bool:
        name = f"local-{marker()}"
        world.put(f"releases/{name}/in/a.txt", b"a")
        create = getattr(world.laptop.aws("sagemaker"), f"create_{kind.lower()}_job")
        create(**_request(world, kind, name, f"echo said-{name}; {_COPY[kind]}"))
        assert _ended(world, kind, name) == "Completed"
        return world.soon(lambda: _in_group(world, f"/aws/sagemaker/{kind}Jobs", f"said-{name}"))

    return works


def _in_group(world: World, group: str, word: str) -> bool:
    found = world.laptop.aws("logs").filter_log_events(logGroupName=group, filterPattern=f'"{word}"')
    return bool(found["events"])


# --- the state machine's role ----------------------------------------------------------------------------


def _machine(world: World, state: dict[str, Any]) -> str:
    """A state machine of one task under the deployed machine's role."""
    made = world.laptop.aws("stepfunctions").create_state_machine(
        name=marker(),
        roleArn=world.arn("MachineRole"),
        definition=json.dumps(
            {"StartAt": "Only", "States": {"Only": {"Type": "Task", "End": True, **state}}}
        ),
    )
    return str(made["stateMachineArn"])


def _run(world: World, machine: str) -> dict[str, Any]:
    """The execution once it has ended."""
    states = world.laptop.aws("stepfunctions")
    execution = states.start_execution(stateMachineArn=machine)["executionArn"]

    def over() -> dict[str, Any] | None:
        found = states.describe_execution(executionArn=execution)
        return dict(found) if found["status"] != "RUNNING" else None

    ended: dict[str, Any] = world.until(over, "the execution ends")
    states.delete_state_machine(stateMachineArn=machine)
    return ended


def _job_state(world: World, kind: str, name: str, command: str) -> dict[str, Any]:
    return {
        "Resource": f"arn:aws:states:::sagemaker:create{kind}Job.sync",
        "Parameters": _request(world, kind, name, command),
    }


def _runs(kind: str) -> Callable[[World], bool]:
    """A job made, tagged, given its role and waited for."""

    def works(world: World) -> bool:
        name = f"local-{marker()}"
        world.put(f"releases/{name}/in/a.txt", b"a")
        try:
            machine = _machine(world, _job_state(world, kind, name, _COPY[kind]))
        except ClientError as error:
            if error.response["Error"]["Code"] != "AccessDeniedException":
                raise
            return False
        ended = _run(world, machine)
        if _status(world, kind, name):  # a job nobody waited for would hold one of the two places
            _ended(world, kind, name)
        return bool(ended["status"] == "SUCCEEDED")

    return works


def _stops(kind: str) -> Callable[[World], bool]:
    """A job whose execution is stopped is stopped with it; without the right it runs on."""

    def works(world: World) -> bool:
        name = f"local-{marker()}"
        world.put(f"releases/{name}/in/a.txt", b"a")
        machine = _machine(world, _job_state(world, kind, name, "sleep 600"))
        states = world.laptop.aws("stepfunctions")
        execution = states.start_execution(stateMachineArn=machine)["executionArn"]
        world.until(lambda: _status(world, kind, name) == "InProgress", "the job runs")
        states.stop_execution(executionArn=execution)
        stopped = world.soon(lambda: _status(world, kind, name) in ("Stopping", "Stopped"))
        if not stopped:
            stop = getattr(world.laptop.aws("sagemaker"), f"stop_{kind.lower()}_job")
            stop(**{f"{kind}JobName": name})
        _ended(world, kind, name)
        states.delete_state_machine(stateMachineArn=machine)
        return stopped

    return works


def _update_state(world: World) -> dict[str, Any]:
    machine = world.laptop.stack_outputs("refresh")["UpdateMachineArn"]
    return {
        "Resource": "arn:aws:states:::states:startExecution.sync:2",
        "Parameters": {"StateMachineArn": machine, "Input": {"parameters": {}}},
    }


def update_is_made(world: World) -> bool:
    """The state machine that updates the stack is started and waited for; it has nothing to change."""
    ended = _run(world, _machine(world, _update_state(world)))
    assert ended["status"] == "SUCCEEDED" or "states:" in ended["cause"], ended
    return bool(ended["status"] == "SUCCEEDED")


def update_is_stopped(world: World) -> bool:
    """An execution that is stopped stops the one it waits for, which is made to last."""
    states, state = world.laptop.aws("stepfunctions"), _update_state(world)
    update = state["Parameters"]["StateMachineArn"]

    def running() -> list[str]:
        listed = states.list_executions(stateMachineArn=update, statusFilter="RUNNING")["executions"]
        return [one["executionArn"] for one in listed]

    # Without the right to describe it, an update started before was left to run: it is not the one meant.
    world.until(lambda: not running(), "earlier updates end")
    before = states.describe_state_machine(stateMachineArn=update)["definition"]
    lasting = {"StartAt": "Last", "States": {"Last": {"Type": "Wait", "Seconds": 600, "End": True}}}
    machine = _machine(world, state)
    states.update_state_machine(stateMachineArn=update, definition=json.dumps(lasting))

    try:
        execution = states.start_execution(stateMachineArn=machine)["executionArn"]
        (child,) = world.until(running, "the update is started")
        states.stop_execution(executionArn=execution)
        stopped = world.soon(lambda: not running())
        if not stopped:
            states.stop_execution(executionArn=child)
        return stopped
    finally:
        states.update_state_machine(stateMachineArn=update, definition=before)
        states.delete_state_machine(stateMachineArn=machine)


def function_is_invoked(world: World) -> bool:
    """The function says that this is no task; without the right it is not even asked."""
    task = {"FunctionName": world.functions[JUDGE]["FunctionArn"], "Payload": {"task": "none"}}
    ended = _run(world, _machine(world, {"Resource": "arn:aws:states:::lambda:invoke", "Parameters": task}))
    assert ended["error"] in ("BadInputError", "Lambda.AWSLambdaException"), ended
    return bool(ended["error"] == "BadInputError")


# --- the model's containers ------------------------------------------------------------------------------


def model_is_loaded(world: World) -> bool:
    """An endpoint of its own with the deployed model: image, volume and data are had in the role's name."""
    sagemaker, name = world.laptop.aws("sagemaker"), marker()
    role = world.arn("ExecutionRole")
    listed = [m["ModelName"] for m in sagemaker.list_models()["Models"]]
    described = (sagemaker.describe_model(ModelName=model) for model in listed)
    deployed = next(model for model in described if model["ExecutionRoleArn"] == role)
    container = {
        key: deployed["PrimaryContainer"][key] for key in ("Image", "Environment", "ModelDataSource")
    }
    sagemaker.create_model(ModelName=name, ExecutionRoleArn=role, PrimaryContainer=container)
    variant = {"VariantName": "champion", "ModelName": name, "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[variant | {"InstanceType": "ml.c7i.2xlarge"}],
        KmsKeyId=_key(world),
    )
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)

    def settled() -> str:
        status = str(sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"])
        return status if status != "Creating" else ""

    status = world.until(settled, "the endpoint settles")
    reason = sagemaker.describe_endpoint(EndpointName=name).get("FailureReason", "")
    sagemaker.delete_endpoint(EndpointName=name)
    sagemaker.delete_endpoint_config(EndpointConfigName=name)
    sagemaker.delete_model(ModelName=name)
    refusals = ("Could not access model data", "permission for the image", "not authorized to perform: kms:")
    assert status == "InService" or any(words in reason for words in refusals), reason
    return bool(status == "InService")


def container_logs(world: World) -> bool:
    """The deployed container's line on an answer stands in the endpoint's log."""
    group = f"/aws/sagemaker/Endpoints/{world.laptop.outputs['endpoint_name']}"
    answer = world.laptop.openai().chat.completions.create(
        model=world.laptop.model, messages=[{"role": "user", "content": "Hello"}], max_tokens=1
    )
    return world.soon(lambda: _in_group(world, group, answer.id.removeprefix("chatcmpl-")))


def _of(kind: str, *verbs: str) -> tuple[str, ...]:
    return tuple(f"sagemaker:{verb}{kind}Job" for verb in verbs)


PROBES = [
    *(
        Probe(
            f"{kind}Role",
            (
                *("s3:GetObject", "s3:ListBucket", "s3:PutObject", "kms:Decrypt", "kms:GenerateDataKey"),
                *_IMAGE,
                *_VOLUME,
            ),
            _copies(kind),
        )
        for kind in (TRAINING, PROCESSING)
    ),
    *(
        Probe(f"{kind}Role", ("logs:CreateLogStream", "logs:PutLogEvents"), _logs(kind))
        for kind in (TRAINING, PROCESSING)
    ),
    Probe("MachineRole", ("lambda:InvokeFunction",), function_is_invoked),
    Probe("MachineRole", ("states:StartExecution", "states:DescribeExecution"), update_is_made),
    Probe("MachineRole", ("states:StopExecution",), update_is_stopped),
    Probe(
        "MachineRole",
        (*_of(TRAINING, "Create", "Describe"), "sagemaker:AddTags", "iam:PassRole", *_EVENTS),
        _runs(TRAINING),
    ),
    Probe("MachineRole", _of(PROCESSING, "Create", "Describe"), _runs(PROCESSING)),
    *(Probe("MachineRole", _of(kind, "Stop"), _stops(kind)) for kind in (TRAINING, PROCESSING)),
    Probe(
        "ExecutionRole",
        ("s3:GetObject", "s3:ListBucket", "kms:Decrypt", *_IMAGE, *_VOLUME),
        model_is_loaded,
    ),
    Probe("ExecutionRole", ("logs:CreateLogStream", "logs:PutLogEvents"), container_logs),
]
