"""`status`: one screen of what is deployed, what serves and what is under way."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from infra.settings import Settings, load
from operations.dynamodb import to_item
from operations.environment_status import read_status
from operations.inventory import part_of
from operations.keys import AdminError, check_budget
from operations.status import screen
from operations.target import Target
from tests.support.recorded_aws import Answer, RecordedAccount, Refusal

EXAMPLES = Path(__file__).parents[2] / "fixtures" / "settings"
NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
MODEL = {"uri": "s3://models/one/", "digest": "", "version": "llama-1"}


def stack(part: str, status: str = "UPDATE_COMPLETE", **outputs: str) -> dict[str, Any]:
    parameters = {"ChampionModelVersion": "llama-1", "ChallengerModelVersion": "llama-2", "Phase": "ab"}
    return {
        "StackName": f"evergreen-prod-{part}",
        "StackId": f"arn:aws:cloudformation:us-east-1:111122223333:stack/evergreen-prod-{part}/1",
        "StackStatus": status,
        "CreationTime": NOON,
        "Parameters": [{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()],
        "Outputs": [{"OutputKey": key, "OutputValue": value} for key, value in outputs.items()],
    }


def variant(name: str, weight: float, now: int, wanted: int) -> dict[str, Any]:
    return {
        "VariantName": name,
        "CurrentWeight": weight,
        "CurrentInstanceCount": now,
        "DesiredInstanceCount": wanted,
        "DeployedImages": [{"SpecifiedImage": "1.dkr.ecr.us-east-1.amazonaws.com/vllm:v2.4"}],
    }


ENDPOINT = {
    "EndpointName": "evergreen-prod",
    "EndpointArn": "arn:aws:sagemaker:us-east-1:111122223333:endpoint/evergreen-prod",
    "EndpointConfigName": "config-1",
    "EndpointStatus": "InService",
    "CreationTime": NOON,
    "LastModifiedTime": NOON,
    "ProductionVariants": [variant("champion", 0.9, 2, 4), variant("challenger", 0.1, 1, 1)],
}
MEASURED: list[dict[str, Any]] = [
    {"Id": "input", "Values": [30_000_000.0, 50_000_000.0]},
    {"Id": "output", "Values": [20_000_000.0]},
    {"Id": "requests", "Values": [100_000.0, 25_000.0]},
    {"Id": "in_flight", "Values": [8.0, 24.0]},
]
LOCK = {
    "pk": "LOCK#evergreen-prod",
    "sk": "LOCK",
    "release_id": "r-2",
    "execution_arn": "arn:x",
    "acquired_at": NOON.timestamp(),
    "champion": MODEL,
}


def row(release: str, second: int, step: str, outcome: str, reason: str = "") -> dict[str, Any]:
    key = f"{int(NOON.timestamp() + second) * 1000:013d}#{step}"
    told = {"step": step, "outcome": outcome, "reason": reason, "detail": "{}"}
    return to_item({"pk": f"RELEASE#{release}", "sk": key, **told})


def account(**more: Answer) -> RecordedAccount:
    def scan(asked: dict[str, Any]) -> dict[str, Any]:
        if asked["TableName"] == "access":
            return {"Count": 3, "ScannedCount": 9}
        return {
            "Items": [
                row("r-2", 60, "set_share", "started"),
                row("r-1", 0, "acquire_lock", "acquired"),
                row("r-1", 30, "release_lock", "failed", "The endpoint is Failed."),
                row("r-2", 50, "acquire_lock", "acquired"),
            ]
        }

    config = {
        "LogicalResourceId": "Config",
        "PhysicalResourceId": "arn:aws:sagemaker:us-east-1:1:endpoint-config/config-1",
        "ResourceType": "AWS::SageMaker::EndpointConfig",
        "LastUpdatedTimestamp": NOON,
        "ResourceStatus": "UPDATE_COMPLETE",
    }
    stacks = [
        stack("data", LedgerTableName="ledger", AccessTableName="access"),
        stack("serving"),
        stack("monitoring"),
        stack("gateway", "UPDATE_ROLLBACK_COMPLETE"),
        stack("data") | {"StackName": "evergreen-staging-data"},
    ]
    alarm = {"AlarmName": "evergreen-prod-page", "StateReason": "Threshold Crossed"}
    answers: dict[str, Answer] = {
        "cloudformation.DescribeStacks": {"Stacks": stacks},
        "cloudformation.ListStackResources": {"StackResourceSummaries": [config]},
        "sagemaker.DescribeEndpoint": ENDPOINT,
        "cloudwatch.DescribeAlarms": {"MetricAlarms": [], "CompositeAlarms": [alarm]},
        "cloudwatch.GetMetricData": {"MetricDataResults": MEASURED},
        "dynamodb.Scan": scan,
        "dynamodb.GetItem": {"Item": to_item(LOCK)},
    }
    return RecordedAccount(answers | {name.replace("__", "."): answer for name, answer in more.items()})


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load("prod")


def read(settings: Settings, recorded: RecordedAccount) -> Any:
    return read_status(Target(settings, recorded, "", {}))  # type: ignore[arg-type]


def test_the_screen_has_everything_that_an_operator_asks_first(settings: Settings) -> None:
    status = read(settings, account())
    shown = screen(status)

    assert len(shown.splitlines()) <= 30
    for part in (
        "evergreen-prod-gateway             ! UPDATE_ROLLBACK_COMPLETE",
        "champion   llama-1  weight 0.9  2/4 instances",
        "challenger llama-2  weight 0.1  1/1 instances",
        "1.dkr.ecr.us-east-1.amazonaws.com/vllm:v2.4",
        "r-2 holds the lock since 2026-11-30 12:00 UTC; phase ab; set_share: started",
        "r-1: ! failed. The endpoint is Failed.",
        "! evergreen-prod-page",
        "5,705 USD a month as it runs now; cap 12,000 USD",  # three ml.g6e.xlarge
        "3 that are not revoked",
    ):
        assert part in shown
    assert "staging" not in shown
    assert "not its stack's" not in shown


def measured(settings: Settings, **values: list[float]) -> Any:
    """The status of an endpoint of three instances that is older than the window."""
    old = ENDPOINT | {"CreationTime": datetime(2020, 1, 1, tzinfo=UTC)}
    results = [result | {"Values": values.get(result["Id"], result["Values"])} for result in MEASURED]
    recorded = account(
        sagemaker__DescribeEndpoint=old, cloudwatch__GetMetricData={"MetricDataResults": results}
    )
    return read(settings, recorded)


def priced(settings: Settings, **prices: float) -> Settings:
    return settings.model_copy(update={"model": settings.model.model_copy(update=prices)})


def test_a_token_has_cost_what_the_instances_cost_while_it_was_made(settings: Settings) -> None:
    status = measured(priced(settings, input_token_price=0.1, output_token_price=0.4))
    cost = status.token_cost
    paid = 3 * 24 * 2.605
    assert cost.usd_per_million_tokens == pytest.approx(paid / 100)
    assert cost.busy_share == pytest.approx(16 / 64)  # in flight, of what the engine runs at once
    assert cost.usd_per_million_tokens_when_full == pytest.approx(paid / 100 / 4)
    assert cost.usd_per_thousand_requests == pytest.approx(paid / 125)
    shown = screen(status)
    assert "price set   0.1 USD per million tokens in, 0.4 out" in shown
    assert "requests    ! 1.50 USD per thousand, as measured; goal 1.5" in shown  # 1.5005
    assert (
        "measured    1.88 USD per million tokens (3 × 2.605 USD/h × 24 h, 100,000,000 tokens); "
        "0.47 when full; 25% busy"
    ) in shown


@pytest.mark.parametrize(
    ("values", "types", "reason"),
    [
        ({"input": [], "output": []}, None, "no token was counted"),
        ({}, ["ml.unknown.large"], "the instance's price is not known"),
    ],
)
def test_what_is_not_known_says_so_and_is_not_zero(
    settings: Settings, values: dict[str, list[float]], types: list[str] | None, reason: str
) -> None:
    if types:
        pool = settings.endpoint.instances.model_copy(update={"type": types[0]})  # type: ignore[union-attr]
        endpoint = settings.endpoint.model_copy(update={"instances": pool})
        settings = settings.model_copy(update={"endpoint": endpoint})
    status = measured(settings, **values)
    assert status.token_cost.usd_per_million_tokens is None
    assert f"measured    unknown: {reason}" in screen(status)
    assert "price set   none set" in screen(status)


def test_without_a_measure_of_use_there_is_no_price_when_full(settings: Settings) -> None:
    cost = measured(settings, in_flight=[]).token_cost
    assert cost.usd_per_million_tokens is not None
    assert cost.usd_per_million_tokens_when_full is None
    assert cost.reason == "how busy the instances are was not measured"


@pytest.mark.parametrize(
    ("prices", "budget", "refused"),
    [
        ({}, 10.0, True),
        ({}, None, False),
        ({"input_token_price": 0.0, "output_token_price": 0.0}, 10.0, False),  # free on purpose
    ],
)
def test_a_budget_in_dollars_takes_a_price(
    settings: Settings, prices: dict[str, float], budget: float | None, refused: bool
) -> None:
    found = priced(settings, **prices)
    if not refused:
        return check_budget(found, budget)
    with pytest.raises(AdminError, match="input_token_price"):
        check_budget(found, budget)


@pytest.mark.parametrize(
    ("prices", "said"),
    [
        ({}, ["llama-3.1-8b-instruct", "all-minilm-l6-v2"]),
        ({"input_token_price": 0.1, "output_token_price": 0.4}, ["all-minilm-l6-v2"]),
    ],
)
def test_models_that_will_refuse_a_budget_in_dollars_are_named(
    prices: dict[str, float], said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = priced(load("catalogue", EXAMPLES), **prices)
    unset = [
        entry.model_copy(update={"input_token_price": None}) if entry.name == "all-minilm-l6-v2" else entry
        for entry in found.models
    ]
    check_budget(found.model_copy(update={"models": unset}), 10)
    told = capsys.readouterr().err
    assert [name for name in said if name in told] == said
    assert ("llama-3.1-8b-instruct" in told) == ("llama-3.1-8b-instruct" in said)


def test_the_same_as_json(settings: Settings) -> None:
    answer = json.loads(read(settings, account()).model_dump_json())

    assert answer["endpoints"][0]["config_is_the_stacks"] is True
    assert answer["release"]["id"] == "r-2"
    assert answer["last_release"]["outcome"] == "failed"


def test_a_configuration_that_is_not_the_stacks_is_marked(settings: Settings) -> None:
    rolled_back = ENDPOINT | {"EndpointConfigName": "config-0"}
    shown = screen(read(settings, account(sagemaker__DescribeEndpoint=rolled_back)))

    assert "config config-0  ! not its stack's" in shown


def test_before_the_first_deploy_the_next_command_is_named(settings: Settings) -> None:
    shown = screen(read(settings, RecordedAccount({"cloudformation.DescribeStacks": {"Stacks": []}})))

    assert "Next: make deploy ENV=prod" in shown


def test_without_an_endpoint_yet_the_rest_is_shown(settings: Settings) -> None:
    none = Refusal("ValidationException", 'Could not find endpoint "evergreen-prod".')
    shown = screen(read(settings, account(sagemaker__DescribeEndpoint=none)))

    assert "evergreen-prod (" not in shown
    assert "3 that are not revoked" in shown


def test_what_may_not_be_read_does_not_hide_the_rest(settings: Settings) -> None:
    denied = Refusal("AccessDeniedException", "not authorized to perform: cloudwatch:DescribeAlarms")
    shown = screen(read(settings, account(cloudwatch__DescribeAlarms=denied)))

    assert "not read    alarms:" in shown
    assert "3 that are not revoked" in shown


def test_keys_that_were_revoked_and_what_is_no_key_are_not_counted(settings: Settings) -> None:
    items: list[dict[str, Any]] = [
        {"pk": "KEY#1", "revoked": False},
        {"pk": "KEY#2"},
        {"pk": "KEY#3", "revoked": True},
        {"pk": "TENANT#shop", "revoked": False},
        {"pk": "ROUTING#evergreen-prod"},
    ]
    with mock_aws():
        session = boto3.Session("x", "x", region_name="us-east-1")
        dynamodb = session.client("dynamodb")
        dynamodb.create_table(
            TableName="access",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        for item in items:
            dynamodb.put_item(TableName="access", Item=to_item(item))
        counted: list[int] = []

        def scan(asked: dict[str, Any]) -> dict[str, Any]:
            if asked["TableName"] != "access":
                return {"Items": []}
            found = dynamodb.scan(**asked)
            counted.append(found["Count"])
            return {"Count": found["Count"]}

        status = read(settings, account(dynamodb__Scan=scan))

    assert counted == [3]
    assert status.keys == 3


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("evergreen-prod-data", "data"),
        ("evergreen-prod-failover-data", "failover-data"),
        ("evergreen-prod-eu-data", None),
        ("evergreen-production-data", None),
        ("CDKToolkit", None),
    ],
)
def test_stacks_of_an_environment_are_told_from_those_of_a_longer_name(name: str, part: str | None) -> None:
    assert part_of(name, "prod", {"prod", "prod-eu", "production"}) == part
