"""Deployed functions in their own processes: results, errors, streams, permissions, limits, logs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.emulator import OwnEmulator, allow, bundle, policy

ROW = "rows"
CODE = """
import json, os, sys, time
import boto3

def handler(event, context):
    return globals()[event["do"]](event, context)

def echo(event, context):
    print("echo", event.get("word"))
    return {"word": event.get("word"), "pid": os.getpid(), "arn": context.invoked_function_arn}

def fail(event, context):
    raise LookupError("nothing here")

def leave(event, context):
    os._exit(3)

def sleep(event, context):
    time.sleep(event["seconds"])

def meet(event, context):
    open(os.path.join(event["folder"], str(os.getpid())), "w").close()
    while len(os.listdir(event["folder"])) < event["guests"]:
        time.sleep(0.05)
    return os.getpid()

def put(event, context):
    boto3.client("dynamodb").put_item(TableName="rows", Item={"pk": {"S": event["pk"]}})
    return "written"

def count(event, context):
    metrics = [{"Name": "n", "Unit": "Count"}]
    directive = {"Namespace": "Counted", "Dimensions": [["kind"]], "Metrics": metrics}
    head = {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]}
    print(json.dumps({"_aws": head, "kind": "test", "n": 4}))

def environment(event, context):
    return dict(os.environ)

def big(event, context):
    return "x" * (7 * 1024 * 1024)
"""
STREAM = """
import http.client, json, os, time
runtime = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
PATH = "/2018-06-01/runtime/invocation/"
while True:
    runtime.request("GET", PATH + "next")
    reply = runtime.getresponse()
    event, request_id = json.loads(reply.read()), reply.headers["Lambda-Runtime-Aws-Request-Id"]
    def body():
        for number in range(event["pieces"]):
            yield f"piece {number}".encode()
            while "folder" in event and not os.path.exists(os.path.join(event["folder"], str(number))):
                time.sleep(0.02)
        if event.get("leave"):
            os._exit(4)
    headers = {"Lambda-Runtime-Function-Response-Mode": "streaming", "Content-Type": "text/plain"}
    runtime.request("POST", PATH + request_id + "/response", body(), headers, encode_chunked=True)
    runtime.getresponse().read()
"""
WRAPPER = "#!/bin/sh\nexec python3 stream.py\n"


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnEmulator]:
    own = OwnEmulator(tmp_path_factory.mktemp("functions"))
    own.start()
    own.client("dynamodb").create_table(
        TableName=ROW,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    poor = own.make_role("poor", "lambda.amazonaws.com", allow("logs:*"))
    rich = own.make_role("rich", "lambda.amazonaws.com", allow("logs:*"), allow("dynamodb:PutItem"))
    own.make_function("poor", poor, {"app.py": CODE})
    own.make_function("rich", rich, {"app.py": CODE})
    own.make_function("hasty", poor, {"app.py": CODE}, Timeout=2)
    own.make_function("broken", poor, {"app.py": "import nothing_of_that_name"})
    own.make_function("single", poor, {"app.py": CODE})
    own.client("lambda").put_function_concurrency(FunctionName="single", ReservedConcurrentExecutions=1)
    wrapped = {"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/start"}}
    own.make_function("stream", poor, {"stream.py": STREAM, "start": WRAPPER}, Environment=wrapped)
    yield own
    assert own.stop() == 0


def invoke(emulator: OwnEmulator, function: str, **event: Any) -> tuple[str | None, Any]:
    """The function error and the decoded payload."""
    reply = emulator.client("lambda").invoke(FunctionName=function, Payload=json.dumps(event))
    return reply.get("FunctionError"), json.loads(reply["Payload"].read())


def test_a_warm_process_serves_again(emulator: OwnEmulator) -> None:
    _error, first = invoke(emulator, "poor", do="echo", word="hi")
    _error, second = invoke(emulator, "poor", do="echo", word="hi")

    assert first["word"] == "hi"
    assert first["arn"] == "arn:aws:lambda:us-east-1:123456789012:function:poor"
    assert first["pid"] == second["pid"]


def test_an_exception_keeps_its_own_type(emulator: OwnEmulator) -> None:
    error, payload = invoke(emulator, "poor", do="fail")

    assert error == "Unhandled"
    assert (payload["errorType"], payload["errorMessage"]) == ("LookupError", "nothing here")


def test_a_process_that_leaves_is_an_exit_error_and_the_next_call_works(emulator: OwnEmulator) -> None:
    error, payload = invoke(emulator, "poor", do="leave")

    assert (error, payload["errorType"]) == ("Unhandled", "Runtime.ExitError")
    assert "exit status 3" in payload["errorMessage"]
    assert invoke(emulator, "poor", do="echo")[0] is None


def test_the_timeout_ends_the_process(emulator: OwnEmulator) -> None:
    error, payload = invoke(emulator, "hasty", do="sleep", seconds=600)

    assert (error, payload["errorType"]) == ("Unhandled", "Sandbox.Timedout")
    assert "Task timed out after 2.00 seconds" in payload["errorMessage"]


def test_code_that_cannot_be_loaded_says_why(emulator: OwnEmulator) -> None:
    error, payload = invoke(emulator, "broken")

    assert (error, payload["errorType"]) == ("Unhandled", "Runtime.ImportModuleError")
    assert "nothing_of_that_name" in payload["errorMessage"]


def test_an_answer_above_six_megabytes_is_refused(emulator: OwnEmulator) -> None:
    error, payload = invoke(emulator, "poor", do="big")

    assert (error, payload["errorType"]) == ("Unhandled", "Function.ResponseSizeTooLarge")


def test_a_role_without_the_action_is_denied_inside_the_function(emulator: OwnEmulator) -> None:
    error, payload = invoke(emulator, "poor", do="put", pk="a")

    assert error == "Unhandled"
    assert "AccessDeniedException" in payload["errorMessage"]
    assert "assumed-role/poor/" in payload["errorMessage"]
    assert "Item" not in emulator.client("dynamodb").get_item(TableName=ROW, Key={"pk": {"S": "a"}})


def test_a_role_with_the_action_is_served(emulator: OwnEmulator) -> None:
    assert invoke(emulator, "rich", do="put", pk="b") == (None, "written")
    assert "Item" in emulator.client("dynamodb").get_item(TableName=ROW, Key={"pk": {"S": "b"}})


def test_a_permission_taken_away_acts_on_the_running_process(emulator: OwnEmulator) -> None:
    iam = emulator.client("iam")
    document = iam.get_role_policy(RoleName="rich", PolicyName="own")["PolicyDocument"]
    assert invoke(emulator, "rich", do="put", pk="c")[0] is None
    iam.delete_role_policy(RoleName="rich", PolicyName="own")
    try:
        assert invoke(emulator, "rich", do="put", pk="d")[0] == "Unhandled"
    finally:
        iam.put_role_policy(RoleName="rich", PolicyName="own", PolicyDocument=json.dumps(document))


def test_nothing_of_the_hosts_environment_is_visible(emulator: OwnEmulator) -> None:
    _error, environment = invoke(emulator, "poor", do="environment")

    assert environment["AWS_LAMBDA_FUNCTION_NAME"] == "poor"
    assert environment["AWS_ENDPOINT_URL"] == emulator.url
    assert environment["AWS_ACCESS_KEY_ID"].startswith("ASIA")
    assert not [name for name in environment if name.startswith(("EVERGREEN", "MINISTACK", "VIRTUAL"))]


def test_calls_at_the_same_time_run_in_different_processes(emulator: OwnEmulator, tmp_path: Path) -> None:
    found: list[Any] = []

    def call() -> None:
        found.append(invoke(emulator, "poor", do="meet", folder=str(tmp_path), guests=3))

    threads = [threading.Thread(target=call) for _number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)

    assert [error for error, _pid in found] == [None] * 3
    assert len({pid for _error, pid in found}) == 3


def test_reserved_concurrency_throttles(emulator: OwnEmulator, tmp_path: Path) -> None:
    wait = {"do": "meet", "folder": str(tmp_path), "guests": 2}
    running = threading.Thread(target=invoke, args=(emulator, "single"), kwargs=wait)
    running.start()
    try:
        wait_for(lambda: list(tmp_path.iterdir()))
        with pytest.raises(ClientError) as refusal:
            invoke(emulator, "single", do="echo")
    finally:
        (tmp_path / "release").touch()
        running.join(timeout=120)

    assert refusal.value.response["Error"]["Code"] == "TooManyRequestsException"
    assert invoke(emulator, "single", do="echo")[0] is None


def test_a_stream_arrives_piece_by_piece(emulator: OwnEmulator, tmp_path: Path) -> None:
    # The function writes a piece only when we have taken the one before: collected pieces would never come.
    reply = emulator.client("lambda").invoke_with_response_stream(
        FunctionName="stream", Payload=json.dumps({"pieces": 4, "folder": str(tmp_path)})
    )
    pieces = []
    for event in reply["EventStream"]:
        if "PayloadChunk" in event:
            (tmp_path / str(len(pieces))).touch()
            pieces.append(event["PayloadChunk"]["Payload"])
        last = event

    assert pieces == [b"piece 0", b"piece 1", b"piece 2", b"piece 3"]
    assert last == {"InvokeComplete": {}}


def test_a_stream_that_breaks_off_says_so(emulator: OwnEmulator) -> None:
    reply = emulator.client("lambda").invoke_with_response_stream(
        FunctionName="stream", Payload=json.dumps({"pieces": 2, "leave": True})
    )
    *pieces, last = list(reply["EventStream"])

    assert b"".join(piece["PayloadChunk"]["Payload"] for piece in pieces) == b"piece 0piece 1"
    assert last["InvokeComplete"]["ErrorCode"] == "Runtime.ExitError"


def wait_for(find: Any) -> Any:
    """Poll until something is found."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if found := find():
            return found
        time.sleep(0.2)
    raise AssertionError("not found in time")


def test_output_and_embedded_metrics_reach_cloudwatch(emulator: OwnEmulator) -> None:
    invoke(emulator, "rich", do="echo", word="into the log")
    invoke(emulator, "rich", do="count")
    logs, metrics = emulator.client("logs"), emulator.client("cloudwatch")

    def lines() -> list[str]:
        events = logs.filter_log_events(logGroupName="/aws/lambda/rich")["events"]
        found = [event["message"] for event in events]
        return found if sum(line.startswith("REPORT") for line in found) >= 2 else []

    found = wait_for(lines)
    assert "echo into the log" in found
    kinds = {line.split(" ")[0] for line in found}
    assert {"START", "END", "REPORT"} <= kinds
    names = {metric["MetricName"] for metric in metrics.list_metrics(Namespace="Counted")["Metrics"]}
    assert names == {"n"}
    names = {metric["MetricName"] for metric in metrics.list_metrics(Namespace="AWS/Lambda")["Metrics"]}
    assert {"Invocations", "Errors", "Duration", "Throttles"} <= names


def test_a_role_that_may_not_write_logs_has_none(emulator: OwnEmulator) -> None:
    role = emulator.make_role("silent", "lambda.amazonaws.com")
    emulator.make_function("silent", role, {"app.py": "def handler(e, c): print('unheard')"})

    assert invoke(emulator, "silent")[0] is None
    assert invoke(emulator, "silent")[0] is None
    groups = emulator.client("logs").describe_log_groups(logGroupNamePrefix="/aws/lambda/silent")
    assert groups["logGroups"] == []


def test_a_role_that_lambda_may_not_assume_is_refused(emulator: OwnEmulator) -> None:
    role = emulator.make_role("other", "lambda.amazonaws.com")
    emulator.make_function("untrusted", role, {"app.py": "def handler(e, c): return 1"})
    trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    emulator.client("iam").update_assume_role_policy(RoleName="other", PolicyDocument=policy(trust))

    error, payload = invoke(emulator, "untrusted")

    assert (error, payload["errorType"]) == ("Unhandled", "AccessDeniedException")
    assert "cannot be assumed by lambda.amazonaws.com" in payload["errorMessage"]


def test_an_event_invocation_is_accepted_and_run(emulator: OwnEmulator) -> None:
    payload = json.dumps({"do": "put", "pk": "later"})
    reply = emulator.client("lambda").invoke(FunctionName="rich", InvocationType="Event", Payload=payload)

    assert reply["StatusCode"] == 202
    key = {"pk": {"S": "later"}}
    wait_for(lambda: emulator.client("dynamodb").get_item(TableName=ROW, Key=key).get("Item"))


def test_new_code_runs_in_new_processes(emulator: OwnEmulator) -> None:
    functions = emulator.client("lambda")
    role = emulator.make_role("changing", "lambda.amazonaws.com", allow("logs:*"))
    emulator.make_function("changing", role, {"app.py": "def handler(e, c): return 'old'"})
    assert invoke(emulator, "changing") == (None, "old")

    functions.update_function_code(
        FunctionName="changing", ZipFile=bundle({"app.py": "def handler(e, c): return 'new'"})
    )
    assert invoke(emulator, "changing") == (None, "new")


def test_sns_asks_the_function_first(emulator: OwnEmulator) -> None:
    topic = emulator.client("sns").create_topic(Name="news")["TopicArn"]
    role = emulator.make_role("heard", "lambda.amazonaws.com", allow("logs:*"), allow("dynamodb:PutItem"))
    code = (
        CODE
        + "\ndef handler(event, context): return put({'pk': event['Records'][0]['Sns']['Message']}, context)"
    )
    arn = emulator.make_function("heard", role, {"app.py": code})
    emulator.client("sns").subscribe(TopicArn=topic, Protocol="lambda", Endpoint=arn)
    table = emulator.client("dynamodb")

    emulator.client("sns").publish(TopicArn=topic, Message="unheard")
    emulator.client("lambda").add_permission(
        FunctionName="heard",
        StatementId="news",
        Action="lambda:InvokeFunction",
        Principal="sns.amazonaws.com",
        SourceArn=topic,
    )
    emulator.client("sns").publish(TopicArn=topic, Message="heard")

    wait_for(lambda: table.get_item(TableName=ROW, Key={"pk": {"S": "heard"}}).get("Item"))
    assert "Item" not in table.get_item(TableName=ROW, Key={"pk": {"S": "unheard"}})


def test_eventbridge_asks_the_function_first(emulator: OwnEmulator) -> None:
    events, table = emulator.client("events"), emulator.client("dynamodb")
    rule = events.put_rule(Name="news", EventPattern=json.dumps({"source": ["test"]}))["RuleArn"]
    role = emulator.make_role("ruled", "lambda.amazonaws.com", allow("dynamodb:PutItem"))
    code = CODE + "\ndef handler(event, context): return put(event['detail'], context)"
    arn = emulator.make_function("ruled", role, {"app.py": code})
    events.put_targets(Rule="news", Targets=[{"Id": "one", "Arn": arn}])

    def put(word: str) -> None:
        entry = {"Source": "test", "DetailType": "news", "Detail": json.dumps({"pk": word})}
        assert events.put_events(Entries=[entry])["FailedEntryCount"] == 0

    put("not asked")
    emulator.client("lambda").add_permission(
        FunctionName="ruled",
        StatementId="news",
        Action="lambda:InvokeFunction",
        Principal="events.amazonaws.com",
        SourceArn=rule,
    )
    put("asked")

    wait_for(lambda: table.get_item(TableName=ROW, Key={"pk": {"S": "asked"}}).get("Item"))
    assert "Item" not in table.get_item(TableName=ROW, Key={"pk": {"S": "not asked"}})


def test_a_state_machine_runs_functions_and_knows_empty_parameters(emulator: OwnEmulator) -> None:
    role = emulator.make_role("machine", "states.amazonaws.com", allow("lambda:InvokeFunction"))
    function = emulator.make_role("inner", "lambda.amazonaws.com")
    arn = emulator.make_function(
        "inner", function, {"app.py": "def handler(event, c): return {'got': event}"}
    )
    task = {"Type": "Task", "Resource": arn, "Parameters": {}, "End": True}
    definition = json.dumps({"StartAt": "Only", "States": {"Only": task}})
    states = emulator.client("stepfunctions")
    machine = states.create_state_machine(name="m", roleArn=role, definition=definition)["stateMachineArn"]
    run = states.start_execution(stateMachineArn=machine, input=json.dumps({"a": 1}))["executionArn"]

    def ended() -> Any:
        execution = states.describe_execution(executionArn=run)
        return execution if execution["status"] != "RUNNING" else None

    execution = wait_for(ended)
    assert execution["status"] == "SUCCEEDED"
    assert json.loads(execution["output"]) == {"got": {}}
