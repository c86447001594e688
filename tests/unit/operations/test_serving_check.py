"""The last step of a deploy: what serves is what the stacks ask for, or the command fails and says why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contracts import metrics
from infra.settings import Settings, load
from infra.settings.loader import FOLDER
from operations.dynamodb import from_item
from operations.progress import CommandError
from operations.serving_check import REST_SECONDS, RolledBackError, check_serving
from operations.target import Target
from tests.support.recorded_aws import RecordedAccount, Refusal

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
EXAMPLES = FOLDER.parent / "tests" / "fixtures" / "settings"
ARN = "arn:aws:sagemaker:us-east-1:111122223333"
ALARM = "evergreen-prod-serving-Errors"


class Account:
    """Two generations of the champion: the stack's is `new`; `serves` is the one that runs, by region."""

    def __init__(self, name: str = "prod", folder: Any = FOLDER) -> None:
        self.settings: Settings = load(name, folder)
        self.prefix = self.settings.prefix
        self.serves = {"us-east-1": "new", "us-west-2": "new"}
        self.region = "us-east-1"
        self.status = ["InService"]  # the last one stays
        self.image, self.deleted, self.exists = "registry/vllm:2", False, True
        self.component_model = "champion-new"
        self.alarm = "ALARM"
        self.history: list[dict[str, Any]] = []
        self.written: list[dict[str, Any]] = []
        self.session = RecordedAccount(
            {
                "cloudformation.DescribeStacks": self._stacks,
                "cloudformation.ListStackResources": lambda asked: {
                    "StackResourceSummaries": list(self._resources())
                },
                "sagemaker.DescribeEndpoint": lambda asked: self._endpoint(),
                "sagemaker.DescribeEndpointConfig": self._config,
                "sagemaker.DescribeModel": self._model,
                "sagemaker.DescribeInferenceComponent": lambda asked: self._component(),
                "cloudwatch.DescribeAlarms": lambda asked: {
                    "MetricAlarms": [{"AlarmName": ALARM, "StateValue": self.alarm, "StateReason": "5 > 1"}]
                },
                "cloudwatch.DescribeAlarmHistory": lambda asked: {"AlarmHistoryItems": self.history},
                "cloudwatch.PutMetricData": {},
                "dynamodb.PutItem": self._put,
            }
        )
        self.seconds = NOON.timestamp()

    @property
    def target(self) -> Target:
        account = self

        class Session:
            def client(self, service_name: str, **options: Any) -> Any:
                account.region = options["region_name"]
                return account.session.client(service_name, **options)

        return Target(self.settings, Session(), "arn:aws:iam::111122223333:user/me", {})  # type: ignore[arg-type]

    def check(self) -> str:
        def sleep(seconds: float) -> None:
            self.seconds += seconds

        return check_serving(self.target, lambda: self.seconds, sleep)

    @property
    def components(self) -> bool:
        return self.settings.endpoint.kind == "scale_to_zero"

    def _stacks(self, asked: dict[str, Any]) -> dict[str, Any] | Refusal:
        name = asked["StackName"]
        if not self.exists:
            return Refusal("ValidationError", f"Stack with id {name} does not exist")
        outputs = {"RollbackAlarms": ALARM} if not name.endswith("-data") else {"LedgerTableName": "ledger"}
        parameters = {
            "ChampionModelUri": "s3://models/new/",
            "ChampionModelDigest": "b" * 64,
            "ChallengerModelUri": "",
            "ChallengerModelDigest": "",
        }
        stack = {
            "StackName": name,
            "StackStatus": "UPDATE_COMPLETE",
            "CreationTime": NOON,
            "LastUpdatedTime": NOON,
            "Parameters": [{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()],
            "Outputs": [{"OutputKey": k, "OutputValue": v} for k, v in outputs.items()],
        }
        return {"Stacks": [stack]}

    def _resources(self) -> Any:
        kinds = {"EndpointConfig": "endpoint-config/config-new"}
        if self.components:
            kinds["InferenceComponent"] = "inference-component/base"
        for kind, name in kinds.items():
            yield {
                "LogicalResourceId": kind,
                "PhysicalResourceId": f"{ARN}:{name}",
                "ResourceType": f"AWS::SageMaker::{kind}",
                "LastUpdatedTimestamp": NOON,
                "ResourceStatus": "UPDATE_COMPLETE",
            }

    def _endpoint(self) -> dict[str, Any]:
        images = [{"SpecifiedImage": self.image, "ResolvedImage": self.image}]
        variant: dict[str, Any] = {"VariantName": "champion"}
        if not self.components:
            variant["DeployedImages"] = images
        return {
            "EndpointName": self.settings.endpoint_name,
            "EndpointArn": f"{ARN}:endpoint/{self.settings.endpoint_name}",
            "EndpointConfigName": f"Config-{self.serves[self.region].title()}",
            "EndpointStatus": self.status.pop(0) if len(self.status) > 1 else self.status[0],
            "CreationTime": NOON,
            "LastModifiedTime": NOON,
            "ProductionVariants": [variant],
        }

    def _config(self, asked: dict[str, Any]) -> dict[str, Any] | Refusal:
        generation = asked["EndpointConfigName"].removeprefix("config-")
        if self.deleted and generation == "old":
            return Refusal("ValidationException", "Could not find endpoint configuration")
        variant = {"VariantName": "champion"}
        if not self.components:
            variant["ModelName"] = f"Champion-{generation}"
        return {
            "EndpointConfigName": asked["EndpointConfigName"],
            "EndpointConfigArn": f"{ARN}:endpoint-config/config-{generation}",
            "ProductionVariants": [variant],
            "CreationTime": NOON,
        }

    def _model(self, asked: dict[str, Any]) -> dict[str, Any]:
        generation = asked["ModelName"].removeprefix("champion-")
        source = {
            "S3Uri": f"s3://models/{generation}/",
            "S3DataType": "S3Prefix",
            "CompressionType": "None",
        }
        return {
            "ModelName": asked["ModelName"],
            "ModelArn": f"{ARN}:model/{asked['ModelName']}",
            "CreationTime": NOON,
            "PrimaryContainer": {
                "Image": "registry/vllm:2",
                "Environment": {"EVERGREEN_MODEL_DIGEST": ("b" if generation == "new" else "a") * 64},
                "ModelDataSource": {"S3DataSource": source},
            },
        }

    def _component(self) -> dict[str, Any]:
        return {
            "InferenceComponentName": "base",
            "InferenceComponentArn": f"{ARN}:inference-component/base",
            "EndpointName": self.settings.endpoint_name,
            "EndpointArn": f"{ARN}:endpoint/{self.settings.endpoint_name}",
            "Specification": {"ModelName": self.component_model},
            "CreationTime": NOON,
            "LastModifiedTime": NOON,
        }

    def _put(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.written.append(from_item(asked["Item"]))
        return {}


def test_what_serves_as_asked_is_named() -> None:
    account = Account()

    assert account.check() == "Config-New"
    assert account.written == []


@pytest.mark.parametrize("deleted", [False, True])
def test_a_silent_rollback_fails_with_its_alarm_and_is_recorded(deleted: bool) -> None:
    account = Account()
    account.serves["us-east-1"], account.deleted = "old", deleted

    with pytest.raises(RolledBackError) as caught:
        account.check()

    message = str(caught.value)
    assert "config-old and not config-new" in message
    assert f"In ALARM during the update: {ALARM} (5 > 1)" in message
    assert "make why ENV=prod" in message
    assert [(row["step"], row["outcome"]) for row in account.written] == [
        ("deploy", "rolled_back"),
        ("release_lock", "failed"),
    ]
    (published,) = account.session.made("cloudwatch.PutMetricData")
    assert published["Namespace"] == metrics.NAMESPACE
    assert published["MetricData"][0]["MetricName"] == metrics.UPDATES_ROLLED_BACK
    assert published["MetricData"][0]["Dimensions"] == [{"Name": "endpoint", "Value": "evergreen-prod"}]


def test_an_alarm_that_has_recovered_is_found_in_its_history() -> None:
    account = Account()
    account.serves["us-east-1"], account.alarm = "old", "OK"
    item = {"AlarmName": ALARM, "HistorySummary": "Alarm updated from OK to ALARM"}
    account.history = [item | {"Timestamp": NOON + timedelta(minutes=2)}]

    with pytest.raises(RolledBackError, match=f"In ALARM during the update: {ALARM}"):
        account.check()


def test_a_rollback_that_cannot_be_recorded_is_told_all_the_same() -> None:
    account = Account()
    account.serves["us-east-1"] = "old"
    account.session.answers["dynamodb.PutItem"] = Refusal("AccessDeniedException", "no")

    with pytest.raises(RolledBackError, match="Neither recorded"):
        account.check()


def test_another_image_is_named() -> None:
    account = Account()
    account.image = "registry/vllm:1"

    with pytest.raises(CommandError, match="image of champion is registry/vllm:1 and not registry/vllm:2"):
        account.check()


def test_the_second_region_is_compared_too() -> None:
    account = Account("two-regions", EXAMPLES)
    assert account.check() == "Config-New, Config-New"
    account.serves["us-west-2"] = "old"

    with pytest.raises(RolledBackError):
        account.check()


def test_a_component_that_kept_its_model_is_named() -> None:
    account = Account("scale-to-zero", EXAMPLES)
    assert account.check() == "Config-New"
    account.component_model = "Champion-old"

    with pytest.raises(CommandError, match="model data of base is s3://models/old/ and not s3://models/new/"):
        account.check()


def test_an_endpoint_that_is_being_updated_is_waited_for() -> None:
    account = Account()
    account.status = ["Updating", "RollingBack", "InService"]
    assert account.check() == "Config-New"

    account.status = ["Updating"]
    before = account.seconds
    with pytest.raises(CommandError, match="still Updating after 30 minutes"):
        account.check()
    assert account.seconds - before >= REST_SECONDS


def test_without_a_serving_stack_there_is_nothing_to_compare() -> None:
    account = Account()
    account.exists = False

    assert account.check() == ""
