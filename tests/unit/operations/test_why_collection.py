"""`why` collects what CloudFormation, SageMaker, the containers and the alarms say of the latest attempt."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from infra.settings import Settings, load
from operations.diagnosis.causes import diagnose
from operations.diagnosis.collection import collect
from operations.diagnosis.container_log import ContainerLogFollower, kept_lines
from operations.diagnosis.evidence import Findings, Source
from operations.target import Target
from operations.why import as_json, report
from tests.support.recorded_aws import Answer, RecordedAccount, Refusal

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
STACK_ID = "arn:aws:cloudformation:us-east-1:111122223333:stack/evergreen-prod-serving/1"
CONFIG_ARN = "arn:aws:sagemaker:us-east-1:111122223333:endpoint-config/config-new"
URI = "s3://models-here/llama/"


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def event(
    minutes: float, logical: str, kind: str, status: str, reason: str = "", **more: str
) -> dict[str, Any]:
    return {
        "StackId": STACK_ID,
        "StackName": "evergreen-prod-serving",
        "EventId": f"{logical}-{minutes}",
        "LogicalResourceId": logical,
        "PhysicalResourceId": f"{logical}-1",
        "ResourceType": kind,
        "ResourceStatus": status,
        "ResourceStatusReason": reason,
        "Timestamp": at(minutes),
        **more,
    }


def began(minutes: float, status: str = "UPDATE_IN_PROGRESS") -> dict[str, Any]:
    kind = "AWS::CloudFormation::Stack"
    return event(
        minutes, "evergreen-prod-serving", kind, status, "User Initiated", PhysicalResourceId=STACK_ID
    )


def stack(status: str) -> dict[str, Any]:
    return {
        "StackName": "evergreen-prod-serving",
        "StackId": STACK_ID,
        "StackStatus": status,
        "CreationTime": NOON,
        "LastUpdatedTime": at(0),
        "Parameters": [{"ParameterKey": "ChampionModelUri", "ParameterValue": URI}],
    }


def account(status: str, events: list[dict[str, Any]], **more: Answer) -> RecordedAccount:
    """An account whose serving stack ended in a status after those events, newest first."""
    answers: dict[str, Answer] = {
        "cloudformation.DescribeStacks": {"Stacks": [stack(status)]},
        "cloudformation.DescribeStackEvents": {"StackEvents": events},
        "cloudformation.ListStackResources": {"StackResourceSummaries": []},
        "sagemaker.DescribeEndpoint": Refusal(
            "ValidationException", 'Could not find endpoint "evergreen-prod".'
        ),
        "cloudwatch.DescribeAlarms": {"MetricAlarms": [], "CompositeAlarms": []},
        "cloudwatch.DescribeAlarmHistory": {"AlarmHistoryItems": []},
        "logs.DescribeLogStreams": Refusal("ResourceNotFoundException"),
        "s3.GetBucketLocation": {},
        "s3.ListObjectsV2": {"Contents": [{"Key": "llama/code/evergreen_hook.py", "Size": 1}]},
        "ecr.DescribeImages": {"imageDetails": []},
        "service-quotas.ListServiceQuotas": {"Quotas": []},
    }
    return RecordedAccount(answers | {name.replace("__", "."): answer for name, answer in more.items()})


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load("prod")


@pytest.fixture
def look(settings: Settings, tmp_path: Path) -> Callable[[RecordedAccount], Findings]:
    def collected(recorded: RecordedAccount) -> Findings:
        target = Target(settings, recorded, "arn:aws:iam::111122223333:user/x", {})  # type: ignore[arg-type]
        return collect(target, tmp_path)

    return collected


ENDPOINT = "AWS::SageMaker::Endpoint"
PING = "The primary container for production variant champion did not pass the ping health check."


def test_the_first_failure_of_the_latest_attempt_counts_and_cancelled_ones_do_not(look: Any) -> None:
    events = [
        event(9, "Verdict", "AWS::CloudWatch::Alarm", "CREATE_FAILED", "Resource creation cancelled"),
        event(8, "Endpoint", ENDPOINT, "CREATE_FAILED", "The account-level service limit 'ml.g6e.xlarge for "
              "endpoint usage' is 0 Instances (ResourceLimitExceeded)"),
        began(5, "CREATE_IN_PROGRESS"),
        event(2, "Endpoint", ENDPOINT, "CREATE_FAILED", "Could not find model data at s3://old/one/."),
        began(1, "CREATE_IN_PROGRESS"),
    ]  # fmt: skip
    findings = look(account("ROLLBACK_COMPLETE", events))

    said = [line.text for line in findings.evidence if line.source is Source.STACK]
    assert len(said) == 1
    assert diagnose(findings.evidence)[0].cause.name == "quota"


def test_a_nested_stack_is_asked_for_its_own_events(look: Any) -> None:
    inner_id = STACK_ID.replace("serving/1", "serving-inner/2")

    def describe(parameters: dict[str, Any]) -> dict[str, Any]:
        inner = stack("CREATE_FAILED") | {"StackName": "evergreen-prod-serving-inner", "StackId": inner_id}
        return {"Stacks": [inner] if "StackName" in parameters else [stack("UPDATE_ROLLBACK_COMPLETE")]}

    def events(parameters: dict[str, Any]) -> dict[str, Any]:
        if parameters["StackName"] == inner_id:
            failed = event(
                3, "Config", ENDPOINT, "CREATE_FAILED", "Requested image 1.dkr.ecr.us-east-1.x/y:1 not found."
            )
            return {"StackEvents": [failed]}
        nested = "AWS::CloudFormation::Stack"
        reason = "Embedded stack was not successfully created"
        failed = event(4, "Inner", nested, "CREATE_FAILED", reason, PhysicalResourceId=inner_id)
        return {"StackEvents": [failed, began(1)]}

    findings = look(
        account(
            "UPDATE_ROLLBACK_COMPLETE",
            [],
            cloudformation__DescribeStacks=describe,
            cloudformation__DescribeStackEvents=events,
        )
    )

    assert diagnose(findings.evidence)[0].cause.name == "unreachable-image"


def test_the_containers_last_lines_say_what_a_failed_ping_does_not(look: Any) -> None:
    def lines(parameters: dict[str, Any]) -> dict[str, Any]:
        assert parameters["startTime"] == int(at(1).timestamp() * 1000), "older starts are another matter"
        message = "api_server.py: error: unrecognized arguments: --max-num-queued-reqs 128"
        return {"events": [{"timestamp": int(at(3).timestamp() * 1000), "message": message}]}

    findings = look(
        account(
            "UPDATE_ROLLBACK_COMPLETE",
            [event(8, "Endpoint", ENDPOINT, "UPDATE_FAILED", PING), began(1)],
            logs__DescribeLogStreams={"logStreams": [{"logStreamName": "champion/i-1"}]},
            logs__GetLogEvents=lines,
        )
    )

    assert diagnose(findings.evidence)[0].cause.name == "bad-flag"


def test_the_artefact_that_the_failed_update_named_is_looked_at_though_the_parameters_are_the_old_ones(
    look: Any,
) -> None:
    model = '{"PrimaryContainer": {"ModelDataSource": {"S3DataSource": {"S3Uri": "s3://models-here/new/"}}}}'
    created = event(2, "Model", "AWS::SageMaker::Model", "CREATE_COMPLETE", ResourceProperties=model)

    def objects(parameters: dict[str, Any]) -> dict[str, Any]:
        hook = (
            [{"Key": "llama/code/evergreen_hook.py", "Size": 1}] if parameters["Prefix"] == "llama/" else []
        )
        return {"Contents": [*hook, {"Key": f"{parameters['Prefix']}model.safetensors", "Size": 9}]}

    failed = event(8, "Endpoint", ENDPOINT, "UPDATE_FAILED", PING)
    recorded = account("UPDATE_ROLLBACK_COMPLETE", [failed, created, began(1)], s3__ListObjectsV2=objects)
    findings = look(recorded)

    first = diagnose(findings.evidence)[0]
    assert first.cause.name == "missing-hook"
    assert "s3://models-here/new/" in first.lines[0].text


def test_a_bucket_in_another_region(look: Any) -> None:
    reason = f'Could not access model data at {URI}. Please ensure that the role "arn:x" exists …'
    failed = event(8, "Model", "AWS::SageMaker::Model", "CREATE_FAILED", reason)
    elsewhere = {"LocationConstraint": "eu-west-1"}
    recorded = account("ROLLBACK_COMPLETE", [failed, began(1)], s3__GetBucketLocation=elsewhere)

    assert diagnose(look(recorded).evidence)[0].cause.name == "wrong-region"


SERVES = {
    "EndpointName": "evergreen-prod",
    "EndpointArn": "arn:aws:sagemaker:us-east-1:111122223333:endpoint/evergreen-prod",
    "EndpointConfigName": "config-old",
    "EndpointStatus": "InService",
    "CreationTime": NOON,
    "LastModifiedTime": at(4),
}
ALARM = "AWS::CloudWatch::Alarm"
RESOURCES = {
    "StackResourceSummaries": [
        {
            "LogicalResourceId": logical,
            "PhysicalResourceId": physical,
            "ResourceType": kind,
            "LastUpdatedTimestamp": NOON,
            "ResourceStatus": "UPDATE_COMPLETE",
        }
        for logical, physical, kind in [
            ("Config", CONFIG_ARN, "AWS::SageMaker::EndpointConfig"),
            ("Errors", "evergreen-prod-serving-Errors", ALARM),
        ]
    ]
}


def test_an_alarm_that_went_off_during_the_update_is_named(look: Any) -> None:
    def history(parameters: dict[str, Any]) -> dict[str, Any]:
        assert parameters["AlarmName"] == "evergreen-prod-serving-Errors"
        item = {
            "AlarmName": "evergreen-prod-serving-Errors",
            "Timestamp": at(3),
            "HistoryItemType": "StateUpdate",
        }
        return {"AlarmHistoryItems": [item | {"HistorySummary": "Alarm updated from OK to ALARM"}]}

    findings = look(
        account(
            "UPDATE_ROLLBACK_COMPLETE",
            [event(4, "Endpoint", ENDPOINT, "UPDATE_FAILED", "Resource update failed"), began(1)],
            cloudformation__ListStackResources=RESOURCES,
            sagemaker__DescribeEndpoint=SERVES,
            cloudwatch__DescribeAlarmHistory=history,
        )
    )

    first = diagnose(findings.evidence)[0]
    assert first.cause.name == "alarm"
    assert first.lines[-1].subject == "evergreen-prod-serving-Errors"


def test_a_silent_rollback_shows_in_what_serves_although_the_stack_is_content(look: Any) -> None:
    recorded = account(
        "UPDATE_COMPLETE",
        [began(1)],
        cloudformation__ListStackResources=RESOURCES,
        sagemaker__DescribeEndpoint=SERVES,
    )
    findings = look(recorded)

    assert findings.failures == ["the endpoint does not serve what its stack asked for"]
    assert diagnose(findings.evidence)[0].cause.name == "silent-rollback"


def test_the_alarm_of_a_silent_rollback_is_looked_for_since_the_update_began(look: Any) -> None:
    def history(asked: dict[str, Any]) -> dict[str, Any]:
        item = {"AlarmName": asked["AlarmName"], "Timestamp": at(3), "HistoryItemType": "StateUpdate"}
        return {"AlarmHistoryItems": [item | {"HistorySummary": "Alarm updated from OK to ALARM"}]}

    recorded = account(
        "UPDATE_COMPLETE",
        [began(1)],
        cloudformation__ListStackResources=RESOURCES,
        sagemaker__DescribeEndpoint=SERVES,
        cloudwatch__DescribeAlarmHistory=history,
    )
    names = [diagnosis.cause.name for diagnosis in diagnose(look(recorded).evidence)]

    assert names == ["alarm", "silent-rollback"]


def test_nothing_failed(look: Any) -> None:
    serves = SERVES | {"EndpointConfigName": "Config-New"}  # CloudFormation's and SageMaker's cases differ
    recorded = account(
        "UPDATE_COMPLETE",
        [began(1)],
        cloudformation__ListStackResources=RESOURCES,
        sagemaker__DescribeEndpoint=serves,
    )
    findings = look(recorded)

    assert findings.failures == []
    assert report(findings, [], "prod") == "Nothing failed in prod."
    assert not recorded.made("service-quotas.ListServiceQuotas"), "facts cost calls: only after a failure"


def test_what_may_not_be_read_is_told_and_hides_nothing_else(look: Any) -> None:
    denied = Refusal("AccessDeniedException", "not authorized to perform: ecr:DescribeImages")
    few = {"QuotaName": "ml.g6e.xlarge for endpoint usage", "Value": 0.0}
    recorded = account(
        "ROLLBACK_COMPLETE",
        [event(8, "Endpoint", ENDPOINT, "CREATE_FAILED", PING), began(1)],
        ecr__DescribeImages=denied,
        **{"service-quotas__ListServiceQuotas": {"Quotas": [few]}},
    )
    findings = look(recorded)

    assert any("ecr:DescribeImages" in entry for entry in findings.unread)
    diagnoses = diagnose(findings.evidence)
    assert diagnoses[0].cause.name == "quota"
    assert "needs 2" in report(findings, diagnoses, "prod")
    assert '"name": "quota"' in as_json(findings, diagnoses, "prod")


def test_a_deploy_that_ended_before_any_stack_is_explained_from_its_log(look: Any, tmp_path: Path) -> None:
    log = (
        "$ cdk deploy\nevergreen-prod-data: deploying...\n"
        "❌ evergreen-prod-data failed: SSM parameter /cdk-bootstrap/hnb659fds/version not found. Has the "
        "environment been bootstrapped?\n"
    )
    (tmp_path / "cdk-deploy---all.log").write_text(log)
    findings = look(RecordedAccount({"cloudformation.DescribeStacks": {"Stacks": []}}))

    assert diagnose(findings.evidence)[0].cause.name == "not-bootstrapped"


def test_what_a_deploy_kept_of_the_containers_is_read_once_the_log_group_is_gone(
    look: Any, tmp_path: Path
) -> None:
    line = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
    (tmp_path / "container-prod.log").write_text(
        f"{at(-5).isoformat()} champion/i-0 SafetensorError\n{at(3).isoformat()} champion/i-1 {line}\n"
    )
    failed = event(8, "Endpoint", ENDPOINT, "CREATE_FAILED", PING)
    findings = look(account("ROLLBACK_COMPLETE", [failed, began(1)]))

    assert diagnose(findings.evidence)[0].cause.name == "out-of-memory"
    assert "SafetensorError" not in str(findings.evidence), "older than the attempt"


def test_a_follower_keeps_each_line_once_and_survives_refusals(tmp_path: Path) -> None:
    now = datetime.now(UTC) + timedelta(seconds=1)
    event_ = {"timestamp": int(now.timestamp() * 1000), "message": "first\n"}
    recorded = RecordedAccount(
        {
            "logs.DescribeLogStreams": lambda asked: (
                {"logStreams": [{"logStreamName": "champion/i-1"}]}
                if asked["logGroupName"] == "there"
                else Refusal("ThrottlingException")
            ),
            "logs.GetLogEvents": {"events": [event_]},
        }
    )
    file = tmp_path / "container-prod.log"
    follower = ContainerLogFollower(recorded.client("logs"), ["throttled", "there"], file)
    with follower:
        follower._append()

    assert [(stream, text) for _, stream, text in kept_lines(file, None)] == [("champion/i-1", "first")]
