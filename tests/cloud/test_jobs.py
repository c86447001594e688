"""Jobs and state machines on a running emulator: plain boto3, IAM enforced, real processes."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.emulator import ACCOUNT, REGION, OwnEmulator, allow
from tests.support.waiting import until

IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/evergreen-training:local"
BUCKET = "jobs"
TRAIN = """
import json, os, sys
from pathlib import Path
import boto3
seen = Path(os.environ["SM_CHANNEL_TRAIN"], "train.jsonl").read_text()
who = boto3.client("sts").get_caller_identity()["Arn"]
print("loss=0.25", flush=True)
Path(os.environ["SM_MODEL_DIR"], "manifest.json").write_text(json.dumps({"seen": seen, "who": who}))
"""
RULES = [
    f"arn:aws:events:{REGION}:{ACCOUNT}:rule/StepFunctionsGetEventsForSageMaker{kind}JobsRule"
    for kind in ("Training", "Processing")
]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnEmulator]:
    emulator = OwnEmulator(tmp_path_factory.mktemp("jobs"))
    emulator.start()
    emulator.client("s3").create_bucket(Bucket=BUCKET)
    yield emulator
    emulator.stop()


@pytest.fixture(scope="module")
def job_role(cloud: OwnEmulator) -> str:
    objects = f"arn:aws:s3:::{BUCKET}"
    own = (allow(action) for action in ("ecr:*", "logs:*", "cloudwatch:PutMetricData"))
    return cloud.make_role(
        "job", "sagemaker.amazonaws.com", allow("s3:*", objects), allow("s3:*", f"{objects}/*"), *own
    )


def machine_role(cloud: OwnEmulator, name: str, job_role: str, *without: str) -> str:
    """A role that may run jobs and functions, but for some actions."""
    jobs = [
        f"sagemaker:{verb}{kind}Job"
        for verb in ("Create", "Describe", "Stop")
        for kind in ("Training", "Processing")
    ]
    rules = [f"events:{verb}" for verb in ("PutTargets", "PutRule", "DescribeRule")]
    passing = allow("iam:PassRole", job_role)
    passing["Condition"] = {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
    statements = [allow(action) for action in (*jobs, "lambda:InvokeFunction") if action not in without]
    statements += [allow(action, rule) for action in rules for rule in RULES if action not in without]
    if "iam:PassRole" not in without:
        statements.append(passing)
    return cloud.make_role(name, "states.amazonaws.com", *statements)


def source(cloud: OwnEmulator, script: str) -> str:
    """A source archive with a script."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        entry = tarfile.TarInfo("train.py")
        entry.size = len(script.encode())
        archive.addfile(entry, io.BytesIO(script.encode()))
    cloud.client("s3").put_object(Bucket=BUCKET, Key="source.tar.gz", Body=buffer.getvalue())
    cloud.client("s3").put_object(Bucket=BUCKET, Key="data/train.jsonl", Body=b"{}")
    return f"s3://{BUCKET}/source.tar.gz"


def training(name: str, archive: str, role: str) -> dict[str, Any]:
    """CreateTrainingJob."""
    data = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/data/"}
    return {
        "TrainingJobName": name,
        "AlgorithmSpecification": {
            "TrainingImage": IMAGE,
            "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": "loss", "Regex": "loss=([0-9.]+)"}],
        },
        "RoleArn": role,
        "HyperParameters": {"sagemaker_program": "train.py", "sagemaker_submit_directory": archive},
        "InputDataConfig": [{"ChannelName": "train", "DataSource": {"S3DataSource": data}}],
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out", "CompressionType": "NONE"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
    }


def processing(name: str, role: str, command: str) -> dict[str, Any]:
    """CreateProcessingJob that runs a shell line."""
    return {
        "ProcessingJobName": name,
        "RoleArn": role,
        "AppSpecification": {"ImageUri": IMAGE, "ContainerEntrypoint": ["/bin/bash", "-c", command]},
        "ProcessingResources": {
            "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
    }


def task(resource: str, parameters: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A state machine of one task."""
    state = {"Type": "Task", "Resource": resource, "Parameters": parameters, "End": True} | more
    return {"StartAt": "Only", "States": {"Only": state}}


def machine(cloud: OwnEmulator, name: str, role: str, definition: dict[str, Any]) -> str:
    made = cloud.client("stepfunctions").create_state_machine(
        name=name, roleArn=role, definition=json.dumps(definition)
    )
    return str(made["stateMachineArn"])


def started(cloud: OwnEmulator, machine_arn: str, **given: Any) -> str:
    states = cloud.client("stepfunctions")
    return str(states.start_execution(stateMachineArn=machine_arn, input=json.dumps(given))["executionArn"])


def ended(cloud: OwnEmulator, execution: str) -> dict[str, Any]:
    """DescribeExecution once it does not run."""

    def look() -> dict[str, Any] | None:
        found = cloud.client("stepfunctions").describe_execution(executionArn=execution)
        return dict(found) if found["status"] != "RUNNING" else None

    return dict(until(look, "the execution ends"))


def run(cloud: OwnEmulator, machine_arn: str, **given: Any) -> dict[str, Any]:
    return ended(cloud, started(cloud, machine_arn, **given))


def test_a_training_job_runs_under_its_role(cloud: OwnEmulator, job_role: str) -> None:
    role = machine_role(cloud, "trainer", job_role)
    resource = "arn:aws:states:::sagemaker:createTrainingJob.sync"
    request = training("trains", source(cloud, TRAIN), job_role)
    done = run(cloud, machine(cloud, "trains", role, task(resource, request, TimeoutSeconds=900)))

    assert done["status"] == "SUCCEEDED", done
    output = json.loads(done["output"])
    assert output["ModelArtifacts"]["S3ModelArtifacts"] == f"s3://{BUCKET}/out/trains/output/model/"
    assert isinstance(output["CreationTime"], int)
    body = cloud.client("s3").get_object(Bucket=BUCKET, Key="out/trains/output/model/manifest.json")["Body"]
    manifest = json.load(body)
    assert manifest["seen"] == "{}"
    assert ":assumed-role/job/" in manifest["who"]
    described = cloud.client("sagemaker").describe_training_job(TrainingJobName="trains")
    assert described["FinalMetricDataList"][0]["Value"] == 0.25
    assert described["SecondaryStatusTransitions"][-1]["Status"] == "Completed"
    metrics = cloud.client("cloudwatch").list_metrics(Namespace="AWS/States")["Metrics"]
    assert {"ExecutionsStarted", "ExecutionsSucceeded", "ExecutionTime"} <= {
        metric["MetricName"] for metric in metrics
    }


def test_a_failed_job_fails_its_task_with_the_description(cloud: OwnEmulator, job_role: str) -> None:
    role = machine_role(cloud, "failing", job_role)
    resource = "arn:aws:states:::sagemaker:createProcessingJob.sync"
    request = processing("fails", job_role, "echo not today; exit 7")
    done = run(cloud, machine(cloud, "fails", role, task(resource, request)))

    assert (done["status"], done["error"]) == ("FAILED", "States.TaskFailed")
    cause = json.loads(done["cause"])
    assert cause["ProcessingJobStatus"] == "Failed"
    assert cause["FailureReason"] == "AlgorithmError: not today, exit code: 7"


def test_stopping_the_execution_stops_the_job(cloud: OwnEmulator, job_role: str) -> None:
    role = machine_role(cloud, "stopping", job_role)
    resource = "arn:aws:states:::sagemaker:createProcessingJob.sync"
    # A Catch must not see that somebody stopped the execution, nor a Retry begin again.
    everything = {"ErrorEquals": ["States.ALL"]}
    state = task(
        resource,
        processing("stops", job_role, "sleep 600"),
        TimeoutSeconds=900,
        Retry=[everything | {"IntervalSeconds": 1}],
        Catch=[everything | {"Next": "Only"}],
    )
    execution = started(cloud, machine(cloud, "stops", role, state))
    sagemaker = cloud.client("sagemaker")

    def status() -> str:
        try:
            return str(sagemaker.describe_processing_job(ProcessingJobName="stops")["ProcessingJobStatus"])
        except ClientError:
            return ""

    until(lambda: status() == "InProgress", "the job runs")
    cloud.client("stepfunctions").stop_execution(executionArn=execution, cause="enough")
    until(lambda: status() == "Stopped", "the job is stopped")
    assert ended(cloud, execution)["status"] == "ABORTED"


@pytest.mark.parametrize(
    ("missing", "error"),
    [
        ("sagemaker:CreateProcessingJob", "SageMaker.AmazonSageMakerException"),
        ("iam:PassRole", "SageMaker.AmazonSageMakerException"),
    ],
)
def test_a_job_needs_the_machines_role_to_allow_it(
    cloud: OwnEmulator, job_role: str, missing: str, error: str
) -> None:
    name = missing.replace(":", "-")
    role = machine_role(cloud, name, job_role, missing)
    resource = "arn:aws:states:::sagemaker:createProcessingJob.sync"
    done = run(cloud, machine(cloud, name, role, task(resource, processing(name, job_role, "true"))))

    assert (done["status"], done["error"]) == ("FAILED", error)
    assert f"not authorized to perform: {missing}" in done["cause"]


def test_a_machine_that_waits_for_jobs_needs_its_managed_rule(cloud: OwnEmulator, job_role: str) -> None:
    role = machine_role(cloud, "ruleless", job_role, "events:PutRule")
    resource = "arn:aws:states:::sagemaker:createProcessingJob.sync"
    with pytest.raises(ClientError, match="not authorized to create managed-rule") as refused:
        machine(cloud, "ruleless", role, task(resource, processing("r", job_role, "true")))
    assert refused.value.response["Error"]["Code"] == "AccessDeniedException"
    with pytest.raises(ClientError, match="authorized to assume the provided role"):
        machine(cloud, "stranger", job_role, task(resource, {}))


def test_functions_are_invoked_under_the_role_and_fail_by_their_exceptions_name(
    cloud: OwnEmulator, job_role: str
) -> None:
    code = (
        "class Locked(Exception): pass\n"
        "def handler(event, context):\n"
        "  if event.get('raise'): raise Locked('held by r1')\n"
        "  return event\n"
    )
    plain = cloud.make_role("plain-function", "lambda.amazonaws.com")
    function = cloud.make_function("locks", plain, {"app.py": code})
    definition = {
        "StartAt": "Call",
        "States": {
            "Call": {
                "Type": "Task",
                "Resource": "arn:aws:states:::lambda:invoke",
                "Parameters": {"FunctionName": function, "Payload.$": "$"},
                "ResultSelector": {"got.$": "$.Payload"},
                "TimeoutSeconds": 120,
                "Catch": [{"ErrorEquals": ["Locked"], "ResultPath": "$.error", "Next": "Caught"}],
                "End": True,
            },
            "Caught": {"Type": "Pass", "End": True},
        },
    }
    made = machine(cloud, "locks", machine_role(cloud, "caller", job_role), definition)
    assert json.loads(run(cloud, made, n=1)["output"]) == {"got": {"n": 1}}
    caught = json.loads(run(cloud, made, **{"raise": True})["output"])
    assert json.loads(caught["error"]["Cause"])["errorMessage"] == "held by r1"

    role = machine_role(cloud, "not-caller", job_role, "lambda:InvokeFunction")
    refused = run(cloud, machine(cloud, "refused", role, definition))
    assert refused["error"] == "Lambda.AWSLambdaException"
    assert "not authorized to perform: lambda:InvokeFunction" in refused["cause"]


def test_a_task_waits_for_its_token(cloud: OwnEmulator, job_role: str) -> None:
    code = (
        "import boto3\n"
        "def handler(event, context):\n"
        "  if event['answer'] == 'crash': raise ValueError('no way to tell')\n"
        "  states = boto3.client('stepfunctions')\n"
        "  if event['answer'] == 'yes':\n"
        "    states.send_task_success(taskToken=event['token'], output='{\"said\": \"yes\"}')\n"
        "  else:\n"
        "    states.send_task_failure(taskToken=event['token'], error='ApprovalRefused', cause='no')\n"
    )
    answering = cloud.make_role(
        "answering", "lambda.amazonaws.com", allow("states:SendTaskSuccess"), allow("states:SendTaskFailure")
    )
    function = cloud.make_function("answers", answering, {"app.py": code})
    parameters = {
        "FunctionName": function,
        "Payload": {"token.$": "$$.Task.Token", "answer.$": "$.answer"},
    }
    definition = task("arn:aws:states:::lambda:invoke.waitForTaskToken", parameters, TimeoutSeconds=120)
    made = machine(cloud, "asks", machine_role(cloud, "asking", job_role), definition)

    assert json.loads(run(cloud, made, answer="yes")["output"]) == {"said": "yes"}
    assert run(cloud, made, answer="no")["error"] == "ApprovalRefused"
    assert run(cloud, made, answer="crash")["error"] == "ValueError"


def test_sdk_and_dynamodb_tasks_act_with_the_machines_role(cloud: OwnEmulator, job_role: str) -> None:
    cloud.client("dynamodb").create_table(
        TableName="ledger",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    item = {"TableName": "ledger", "Item": {"pk": {"S": "a"}}}
    key = {"TableName": "ledger", "Key": {"pk": {"S": "a"}}}
    definition = {
        "StartAt": "Put",
        "States": {
            "Put": {
                "Type": "Task",
                "Resource": "arn:aws:states:::dynamodb:putItem",
                "Parameters": item,
                "ResultPath": None,
                "Next": "Get",
            },
            "Get": {
                "Type": "Task",
                "Resource": "arn:aws:states:::aws-sdk:dynamodb:getItem",
                "Parameters": key,
                "End": True,
            },
        },
    }
    able = cloud.make_role(
        "able", "states.amazonaws.com", allow("dynamodb:PutItem"), allow("dynamodb:GetItem")
    )
    done = run(cloud, machine(cloud, "items", able, definition))
    assert done["status"] == "SUCCEEDED", done
    assert json.loads(done["output"])["Item"] == {"pk": {"S": "a"}}

    unable = cloud.make_role("unable", "states.amazonaws.com", allow("dynamodb:PutItem"))
    refused = run(cloud, machine(cloud, "no-items", unable, definition))
    assert refused["error"] == "DynamoDb.DynamoDbException"
    endpoints = task("arn:aws:states:::aws-sdk:sagemaker:listEndpoints", {})
    lists = cloud.make_role("lists", "states.amazonaws.com", allow("sagemaker:ListEndpoints"))
    assert json.loads(run(cloud, machine(cloud, "lists", lists, endpoints))["output"]) == {"Endpoints": []}


def test_a_machine_has_a_time_limit(cloud: OwnEmulator, job_role: str) -> None:
    definition = {
        "StartAt": "Wait",
        "TimeoutSeconds": 1,
        "States": {"Wait": {"Type": "Wait", "Seconds": 600, "End": True}},
    }
    done = run(cloud, machine(cloud, "late", machine_role(cloud, "late", job_role), definition))
    assert (done["status"], done["error"]) == ("TIMED_OUT", "States.Timeout")


def test_a_rule_starts_a_machine_under_its_own_role(cloud: OwnEmulator, job_role: str) -> None:
    definition = {"StartAt": "Done", "States": {"Done": {"Type": "Succeed"}}}
    arn = machine(cloud, "ruled", machine_role(cloud, "ruled", job_role), definition)
    events, states = cloud.client("events"), cloud.client("stepfunctions")
    may = cloud.make_role("may-start", "events.amazonaws.com", allow("states:StartExecution", arn))
    may_not = cloud.make_role("may-not-start", "events.amazonaws.com")
    for name, role in (("refused", may_not), ("allowed", may)):
        pattern = {"source": ["tests"], "detail-type": [name]}
        events.put_rule(Name=name, EventPattern=json.dumps(pattern))
        events.put_targets(Rule=name, Targets=[{"Id": "1", "Arn": arn, "RoleArn": role}])
        entry = {"Source": "tests", "DetailType": name, "Detail": "{}"}
        events.put_events(Entries=[entry])

    def executions() -> list[dict[str, Any]]:
        return list(states.list_executions(stateMachineArn=arn)["executions"])

    until(executions, "the rule starts the machine")
    (only,) = executions()
    given = json.loads(states.describe_execution(executionArn=only["executionArn"])["input"])
    assert given["detail-type"] == "allowed"


def test_nothing_runs_on_after_the_emulator_was_killed(tmp_path: Path) -> None:
    emulator = OwnEmulator(tmp_path)
    emulator.start()
    emulator.client("s3").create_bucket(Bucket=BUCKET)
    role = emulator.make_role("job", "sagemaker.amazonaws.com", allow("s3:*"), allow("ecr:*"))
    emulator.client("sagemaker").create_processing_job(**processing("cut", role, "sleep 600"))
    definition = {"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 600, "End": True}}}
    runner = emulator.make_role("runner", "states.amazonaws.com")
    execution = started(emulator, machine(emulator, "cut", runner, definition))
    manifest = emulator.home / "cloud" / "state" / "current"

    def saved() -> bool:
        if not manifest.exists():
            return False
        generation = manifest.parent / manifest.read_text()
        return any(execution in path.read_text() for path in generation.glob("*.json"))

    try:
        until(saved, "the running execution is in the saved state")
        emulator.kill()
        emulator.start()
        found = emulator.client("stepfunctions").describe_execution(executionArn=execution)
        assert found["status"] == "FAILED"
        assert "restarted" in found["cause"]
        job = emulator.client("sagemaker").describe_processing_job(ProcessingJobName="cut")
        assert job["ProcessingJobStatus"] == "Failed"
        assert "stopped while this job ran" in job["FailureReason"]
    finally:
        emulator.stop()


def test_a_machine_deployed_by_cloudformation_runs_and_logs(cloud: OwnEmulator) -> None:
    trust = {"Effect": "Allow", "Principal": {"Service": "states.amazonaws.com"}, "Action": "sts:AssumeRole"}
    group = {"Fn::GetAtt": ["Logs", "Arn"]}
    words = [
        '{"StartAt":"Say","States":{"Say":{"Type":"Pass","Result":{"bucket":"',
        {"Ref": "Name"},
        '"},"End":true}}}',
    ]
    resources = {
        "Packages": {
            "Type": "AWS::SageMaker::ModelPackageGroup",
            "Properties": {"ModelPackageGroupName": "from-template"},
        },
        "Logs": {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": "/machines/say"}},
        "Role": {
            "Type": "AWS::IAM::Role",
            "Properties": {"AssumeRolePolicyDocument": {"Statement": [trust]}},
        },
        "Machine": {
            "Type": "AWS::StepFunctions::StateMachine",
            "Properties": {
                "StateMachineName": "say",
                "RoleArn": {"Fn::GetAtt": ["Role", "Arn"]},
                "DefinitionString": {"Fn::Join": ["", words]},
                "LoggingConfiguration": {
                    "Destinations": [{"CloudWatchLogsLogGroup": {"LogGroupArn": group}}],
                    "IncludeExecutionData": True,
                    "Level": "ALL",
                },
                "TracingConfiguration": {"Enabled": True},
            },
        },
    }
    body = {
        "Parameters": {"Name": {"Type": "String", "Default": "b"}},
        "Resources": resources,
        "Outputs": {
            "Machine": {"Value": {"Ref": "Machine"}},
            "Group": {"Value": {"Fn::GetAtt": ["Packages", "ModelPackageGroupArn"]}},
        },
    }
    cloudformation, states = cloud.client("cloudformation"), cloud.client("stepfunctions")
    capabilities = ["CAPABILITY_IAM"]
    cloudformation.create_stack(StackName="say", TemplateBody=json.dumps(body), Capabilities=capabilities)
    cloudformation.get_waiter("stack_create_complete").wait(StackName="say", WaiterConfig={"Delay": 1})
    (stack,) = cloudformation.describe_stacks(StackName="say")["Stacks"]
    outputs = {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}
    assert outputs["Group"].endswith(":model-package-group/from-template")

    done = run(cloud, outputs["Machine"])
    assert json.loads(done["output"]) == {"bucket": "b"}
    described = states.describe_state_machine(stateMachineArn=outputs["Machine"])
    assert described["loggingConfiguration"]["level"] == "ALL"
    assert described["tracingConfiguration"] == {"enabled": True}
    found = cloud.client("logs").filter_log_events(logGroupName="/machines/say")["events"]
    lines = [json.loads(event["message"]) for event in found]
    assert [line["type"] for line in lines] == [
        "ExecutionStarted",
        "PassStateEntered",
        "PassStateExited",
        "ExecutionSucceeded",
    ]
    assert {line["execution_arn"] for line in lines} == {done["executionArn"]}
