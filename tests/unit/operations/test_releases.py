"""`releases`: what ran, any two versions side by side, and the way back under the lock."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.response import StreamingBody

from contracts.artefact import ArtefactFile, Manifest
from contracts.release_ledger import Lock
from contracts.release_tasks import ServedModel
from contracts.report import EvaluationReport
from infra.settings import Settings, load
from operations.dynamodb import from_item, to_item
from operations.go_back import GoBack, choose, known_versions
from operations.progress import CommandError, Steps
from operations.release_comparison import VersionReport, compare, find_registered, table
from operations.release_history import read_registry, read_releases
from operations.releases import ReleaseAdmin
from operations.target import Target
from tests.support.recorded_aws import Answer, RecordedAccount, Refusal

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
NOW = NOON.timestamp()
MANIFEST = Manifest(name="m", files=[ArtefactFile(path="model.safetensors", bytes=4, sha256="0" * 64)])


def model(version: str) -> ServedModel:
    return ServedModel(uri=f"s3://models/{version}/", digest=MANIFEST.digest, version=version)


def row(release: str, second: int, step: str, outcome: str, **detail: Any) -> dict[str, Any]:
    sort = f"{int(NOW + second) * 1000:013d}#{step}"
    told = {"step": step, "outcome": outcome, "reason": f"{step} of {release}", "detail": json.dumps(detail)}
    return to_item({"pk": f"RELEASE#{release}", "sk": sort, **told})


LEDGER = [
    row("r-1", 0, "acquire_lock", "acquired"),
    row("r-1", 1, "describe_challenger", "complete", **model("llama-r-1").model_dump()),
    row("r-1", 2, "release_lock", "promoted"),
    row("r-2", 10, "describe_challenger", "complete", **model("llama-r-2").model_dump()),
    row("r-2", 11, "release_lock", "kept"),
    row("r-3", 20, "describe_challenger", "complete", **model("llama-r-3").model_dump()),
    row("r-3", 21, "release_lock", "promoted"),
]
BASES = {"1": "llama-0", "2": "llama-r-1", "3": "llama-r-1"}


def package(number: str) -> dict[str, Any]:
    version, base = model(f"llama-r-{number}"), model(BASES[number])
    source = {"S3Uri": version.uri, "S3DataType": "S3Prefix", "CompressionType": "None"}
    return {
        "ModelPackageName": f"prod/{number}",
        "ModelPackageGroupName": "evergreen-prod",
        "ModelPackageVersion": int(number),
        "ModelPackageArn": f"arn:aws:sagemaker:us-east-1:111122223333:model-package/evergreen-prod/{number}",
        "CreationTime": NOON,
        "ModelPackageStatus": "Completed",
        "ModelPackageStatusDetails": {"ValidationStatuses": []},
        "ModelApprovalStatus": "Approved",
        "InferenceSpecification": {"Containers": [{"ModelDataSource": {"S3DataSource": source}}]},
        "CustomerMetadataProperties": {
            "release_id": f"r-{number}",
            "version": version.version,
            "digest": version.digest,
            "base_version": base.version,
            "base_digest": base.digest,
            "base_uri": base.uri,
            "report_uri": f"s3://models/releases/r-{number}/report.json",
        },
    }


class Cloud:
    """The parts of an account that the way back reads and writes."""

    def __init__(self) -> None:
        self.parameters = {
            "ChampionModelUri": model("llama-r-3").uri,
            "ChampionModelDigest": MANIFEST.digest,
            "ChampionModelVersion": "llama-r-3",
            "ChallengerModelUri": "",
            "Phase": "steady",
            "DeploymentGuardrails": "skip-0123456789ab",
            "DeploymentGuardrailsVersion": "llama-r-3",
        }
        self.status = "UPDATE_COMPLETE"
        self.lock: dict[str, Any] | None = None
        self.written: list[dict[str, Any]] = []
        self.serves = "config-new"
        self.execution = "RUNNING"
        self.rolls_back = False
        self.objects = ["model.safetensors", "manifest.json", "code/evergreen_hook.py"]
        self.account = RecordedAccount(self._answers())

    def _answers(self) -> dict[str, Answer]:
        config = {
            "LogicalResourceId": "Config",
            "PhysicalResourceId": "arn:aws:sagemaker:us-east-1:1:endpoint-config/config-new",
            "ResourceType": "AWS::SageMaker::EndpointConfig",
            "LastUpdatedTimestamp": NOON,
            "ResourceStatus": "UPDATE_COMPLETE",
        }
        return {
            "cloudformation.DescribeStacks": lambda asked: {"Stacks": self._stacks(asked)},
            "cloudformation.UpdateStack": self._update,
            "cloudformation.ListStackResources": {"StackResourceSummaries": [config]},
            "cloudformation.DescribeStackEvents": lambda asked: {"StackEvents": self._events()},
            "stepfunctions.DescribeStateMachine": Refusal("StateMachineDoesNotExist"),
            "stepfunctions.DescribeExecution": lambda asked: {
                "executionArn": asked["executionArn"],
                "stateMachineArn": "arn",
                "status": self.execution,
                "startDate": NOON,
            },
            "sagemaker.DescribeEndpoint": lambda asked: {
                "EndpointName": "evergreen-prod",
                "EndpointArn": "arn:aws:sagemaker:us-east-1:111122223333:endpoint/evergreen-prod",
                "EndpointConfigName": self.serves,
                "EndpointStatus": "InService",
                "CreationTime": NOON,
                "LastModifiedTime": NOON,
                "ProductionVariants": [
                    {
                        "VariantName": "champion",
                        "DeployedImages": [{"SpecifiedImage": "i", "ResolvedImage": "i"}],
                    }
                ],
            },
            "sagemaker.DescribeEndpointConfig": lambda asked: {
                "EndpointConfigName": asked["EndpointConfigName"],
                "EndpointConfigArn": f"arn:aws:sagemaker:us-east-1:1:endpoint-config/{'c' * 20}",
                "ProductionVariants": [{"VariantName": "champion", "ModelName": "m"}],
                "CreationTime": NOON,
            },
            "sagemaker.DescribeModel": lambda asked: {
                "ModelName": "m",
                "ModelArn": "arn:aws:sagemaker:us-east-1:111122223333:model/m",
                "CreationTime": NOON,
                "PrimaryContainer": {
                    "Image": "i",
                    "Environment": {"EVERGREEN_MODEL_DIGEST": self.parameters["ChampionModelDigest"]},
                    "ModelDataSource": {
                        "S3DataSource": {
                            "S3Uri": self.parameters["ChampionModelUri"],
                            "S3DataType": "S3Prefix",
                            "CompressionType": "None",
                        }
                    },
                },
            },
            "cloudwatch.PutMetricData": {},
            "sagemaker.ListModelPackages": {
                "ModelPackageSummaryList": [
                    {
                        key: package(n)[key]
                        for key in ("ModelPackageArn", "CreationTime", "ModelPackageStatus")
                    }
                    for n in ("3", "2", "1")
                ]
            },
            "sagemaker.DescribeModelPackage": lambda asked: package(asked["ModelPackageName"][-1]),
            "cloudwatch.DescribeAlarms": {},
            "dynamodb.Scan": {"Items": LEDGER, "Count": 0},
            "dynamodb.GetItem": lambda asked: {"Item": to_item(self.lock)} if self.lock else {},
            "dynamodb.PutItem": self._put,
            "dynamodb.DeleteItem": self._drop,
            "s3.GetBucketLocation": {},
            "s3.ListObjectsV2": lambda asked: {
                "Contents": [{"Key": asked["Prefix"] + name, "Size": 4} for name in self.objects]
            },
            "s3.GetObject": lambda asked: {"Body": body(MANIFEST.model_dump_json())},
        }

    def _stacks(self, asked: dict[str, Any]) -> list[dict[str, Any]]:
        outputs = {
            "data": {"LedgerTableName": "ledger", "AccessTableName": "access"},
            "refresh": {"ModelPackageGroupName": "evergreen-prod"},
        }
        stacks = [
            {
                "StackName": f"evergreen-prod-{part}",
                "StackId": f"arn:{part}",
                "StackStatus": self.status if part == "serving" else "UPDATE_COMPLETE",
                "CreationTime": NOON,
                "Parameters": [{"ParameterKey": k, "ParameterValue": v} for k, v in self.parameters.items()],
                "Outputs": [
                    {"OutputKey": key, "OutputValue": value} for key, value in outputs.get(part, {}).items()
                ],
            }
            for part in ("data", "serving", "refresh")
        ]
        return [one for one in stacks if asked.get("StackName", one["StackName"]) == one["StackName"]]

    def _update(self, asked: dict[str, Any]) -> dict[str, Any]:
        assert asked["UsePreviousTemplate"] is True
        assert self.lock, "nothing changes without the lock"
        assert "TemplateBody" not in asked
        if self.rolls_back:
            self.status = "UPDATE_ROLLBACK_COMPLETE"
            return {}
        for entry in asked["Parameters"]:
            if "ParameterValue" in entry:
                self.parameters[entry["ParameterKey"]] = entry["ParameterValue"]
        return {}

    def _events(self) -> list[dict[str, Any]]:
        event = {
            "StackId": "arn:serving",
            "StackName": "evergreen-prod-serving",
            "EventId": "1",
            "LogicalResourceId": "Endpoint",
            "ResourceType": "AWS::SageMaker::Endpoint",
            "ResourceStatus": "UPDATE_FAILED",
            "ResourceStatusReason": "alarm evergreen-prod-Errors went into ALARM",
            "Timestamp": NOON,
        }
        return [event]

    def _put(self, asked: dict[str, Any]) -> dict[str, Any] | Refusal:
        item = from_item(asked["Item"])
        if item["pk"].startswith("LOCK#"):
            if self.lock and "attribute_not_exists(pk)" in asked["ConditionExpression"]:
                return Refusal("ConditionalCheckFailedException")
            self.lock = item
        self.written.append(item)
        return {}

    def _drop(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.lock = None
        return {}

    @property
    def story(self) -> list[tuple[str, str]]:
        return [(item["step"], item["outcome"]) for item in self.written if "step" in item]


def body(text: str) -> StreamingBody:
    return StreamingBody(io.BytesIO(text.encode()), len(text.encode()))


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load("prod")


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


@pytest.fixture
def target(settings: Settings, cloud: Cloud) -> Target:
    return Target(settings, cloud.account, "arn:aws:iam::111122223333:user/on-call", {})  # type: ignore[arg-type]


Way = Callable[[], GoBack]


@pytest.fixture
def way(target: Target, tmp_path: Path) -> Way:
    return lambda: GoBack(target, Steps(tmp_path), clock=lambda: NOW, sleep=lambda seconds: None)


def test_the_list_joins_ledger_and_registry_and_marks_what_serves(target: Target) -> None:
    admin = ReleaseAdmin(target)

    assert admin.serves == "llama-r-3"
    assert [(row["release"], row["outcome"], row["package"]) for row in admin.rows()] == [
        ("r-3", "promoted", "3 Approved"),
        ("r-2", "kept", "2 Approved"),
        ("r-1", "promoted", "1 Approved"),
    ]


def test_any_version_that_has_served_may_be_gone_back_to(cloud: Cloud) -> None:
    releases = read_releases(cloud.account.client("dynamodb"), "ledger")
    known = known_versions(releases, read_registry(cloud.account.client("sagemaker"), "evergreen-prod"))

    assert {name for name, entry in known.items() if entry.served} == {"llama-0", "llama-r-1", "llama-r-3"}
    assert choose("llama-0", releases, known, unserved=False) == model("llama-0")
    assert choose("r-1", releases, known, unserved=False) == model("llama-r-1")
    with pytest.raises(CommandError, match="never promoted"):
        choose("r-2", releases, known, unserved=False)
    assert choose("r-2", releases, known, unserved=True) == model("llama-r-2")
    with pytest.raises(CommandError, match="llama-0, llama-r-1, llama-r-3"):
        choose("llama-9", releases, known, unserved=False)


def test_the_way_back_is_guarded_locked_recorded_and_routed(cloud: Cloud, way: Way) -> None:
    way().run(model("llama-r-1"))

    assert cloud.parameters["ChampionModelVersion"] == "llama-r-1"
    assert cloud.parameters["ChampionModelUri"] == "s3://models/llama-r-1/"
    assert cloud.parameters["DeploymentGuardrails"] == "use", "a release had skipped them once"
    assert cloud.parameters["Phase"] == "steady"
    assert cloud.story == [
        ("acquire_lock", "acquired"),
        ("go_back", "started"),
        ("release_lock", "went_back"),
    ]
    taken = next(item for item in cloud.written if item["pk"].startswith("LOCK#"))
    assert Lock.model_validate(taken).champion.version == "llama-r-3"
    assert taken["expires_at"] > NOW
    assert cloud.lock is None
    routing = cloud.written[-2]
    assert routing["variants"] == [{"name": "champion", "weight": 1, "model_version": "llama-r-1"}]


def test_the_state_machine_makes_the_update_where_it_is_deployed(cloud: Cloud, way: Way) -> None:
    def start(asked: dict[str, Any]) -> dict[str, Any]:
        cloud.parameters |= json.loads(asked["input"])["parameters"]
        return {"executionArn": "arn:update", "startDate": NOON}

    machine = "arn:aws:states:us-east-1:111122223333:stateMachine:evergreen-prod-serving-update"
    described = {
        "stateMachineArn": machine,
        "name": "update",
        "definition": "{}",
        "roleArn": "arn",
        "type": "STANDARD",
        "creationDate": NOON,
    }
    cloud.account.answers |= {
        "stepfunctions.DescribeStateMachine": described,
        "stepfunctions.StartExecution": start,
    }
    cloud.execution = "SUCCEEDED"
    way().run(model("llama-r-1"))

    assert cloud.account.made("stepfunctions.DescribeStateMachine")[0]["stateMachineArn"] == machine
    assert cloud.account.made("cloudformation.UpdateStack") == []
    assert cloud.story[-1] == ("release_lock", "went_back")


LOCK = {"execution_arn": "arn:execution", "acquired_at": NOW - 60, "champion": model("llama-0").model_dump()}


def test_a_release_that_runs_forbids_it(cloud: Cloud, way: Way) -> None:
    cloud.lock = {"release_id": "r-4", **LOCK}
    with pytest.raises(CommandError, match="r-4 holds the endpoint's lock since 2026-11-30 11:59"):
        way().run(model("llama-r-1"))
    assert cloud.written == []


@pytest.mark.parametrize(("execution", "more"), [("FAILED", {}), ("RUNNING", {"expires_at": NOW + 60})])
def test_a_lock_that_nobody_holds_any_more_is_taken_over(
    cloud: Cloud, way: Way, execution: str, more: dict[str, Any]
) -> None:
    cloud.lock = {"release_id": "r-4", **LOCK, **more}
    cloud.execution = execution
    way().run(model("llama-r-1"))

    assert cloud.story[-1] == ("release_lock", "went_back")


def test_an_experiment_forbids_it(cloud: Cloud, way: Way) -> None:
    cloud.parameters["Phase"] = "ab"
    with pytest.raises(CommandError, match="phase ab"):
        way().run(model("llama-r-1"))
    assert cloud.written == []


def test_an_artefact_that_retirement_took_away_is_told_before_anything_changes(
    cloud: Cloud, way: Way
) -> None:
    cloud.objects = []
    with pytest.raises(CommandError, match="there is no object under s3://models/llama-r-1/"):
        way().run(model("llama-r-1"))
    assert cloud.written == []


def test_an_update_that_is_rolled_back_is_a_failure_with_its_cause(cloud: Cloud, way: Way) -> None:
    cloud.rolls_back = True
    with pytest.raises(CommandError, match=r"Endpoint: alarm evergreen-prod-Errors went into ALARM"):
        way().run(model("llama-r-1"))

    assert cloud.story[-1] == ("release_lock", "failed")
    assert cloud.lock is None
    assert not any("variants" in item for item in cloud.written), "callers stay with the version that serves"


def test_a_silent_rollback_is_a_failure(cloud: Cloud, way: Way) -> None:
    cloud.serves = "config-old"
    with pytest.raises(
        CommandError,
        match=r"SageMaker took the update of evergreen-prod back: .* config-old and not config-new",
    ):
        way().run(model("llama-r-1"))

    assert cloud.story[-1] == ("release_lock", "failed")


def report(candidate: float, baseline: float, digest: str = "0" * 64) -> EvaluationReport:
    low, high = candidate - baseline - 0.1, candidate - baseline + 0.1
    interval = {"low": low, "high": high, "level": 0.95, "method": "bootstrap"}
    return EvaluationReport.model_validate(
        {
            "title": "t",
            "created_at": NOON,
            "headline": "h",
            "systems": [
                {"name": name, "role": name, "predictions_digest": "1" * 64, "errors": 0}
                for name in ("candidate", "baseline")
            ],
            "dataset": {"name": "support", "digest": digest, "items": 40},
            "metrics": [
                {
                    "name": "token_f1",
                    "title": "F1",
                    "unit": "fraction",
                    "higher_is_better": True,
                    "formula": "…",
                }
            ],
            "results": [
                {"metric": "token_f1", "system": name, "value": value, "interval": None, "items": 40}
                for name, value in (("candidate", candidate), ("baseline", baseline))
            ],
            "comparisons": [
                {
                    "metric": "token_f1",
                    "baseline": "baseline",
                    "candidate": "candidate",
                    "difference": candidate - baseline,
                    "interval": interval,
                    "p_value": 0.01,
                    "items": 40,
                }
            ],
            "method": {
                "resamples": 1,
                "seed": 1,
                "level": 0.95,
                "primary_metric": "token_f1",
                "python": "3",
                "packages": {},
            },
        }
    )


def test_a_version_and_the_one_it_replaced_are_compared_in_pairs_whichever_is_named_first() -> None:
    shared = report(0.8, 0.5)
    new, old = VersionReport("new", shared, "candidate"), VersionReport("old", shared, "baseline")

    [forward], [backward] = compare(old, new), compare(new, old)

    assert forward.difference == pytest.approx(0.3)
    assert (forward.verdict, backward.verdict) == ("better", "worse")
    assert backward.interval is not None
    assert forward.interval is not None
    assert (backward.interval.low, backward.interval.high) == (-forward.interval.high, -forward.interval.low)


def test_versions_of_two_releases_have_a_difference_without_a_verdict() -> None:
    one = VersionReport("one", report(0.8, 0.5), "candidate")
    two = VersionReport("two", report(0.6, 0.5), "candidate")
    [found] = compare(one, two)

    assert found.difference == pytest.approx(-0.2)
    assert (found.interval, found.verdict) == (None, "")
    assert "paired comparison would tell finer" in table(one, two)


def test_different_evaluation_sets_are_no_comparison() -> None:
    one = VersionReport("one", report(0.8, 0.5), "candidate")
    two = VersionReport("two", report(0.6, 0.5, digest="2" * 64), "candidate")

    assert "The evaluation sets differ" in table(one, two)


def test_a_version_is_found_by_its_name_release_or_number(target: Target) -> None:
    registry = ReleaseAdmin(target).registry

    for name in ("llama-r-2", "r-2", "2"):
        found, role = find_registered(name, registry)
        assert (found.number, role) == (2, "candidate")
    assert find_registered("llama-0", registry)[1] == "baseline"
    with pytest.raises(CommandError, match="Versions: llama-0, llama-r-1"):
        find_registered("llama-9", registry)


def test_a_report_that_is_gone_is_one_sentence(cloud: Cloud, target: Target) -> None:
    admin = ReleaseAdmin(target)
    cloud.account.answers["s3.GetObject"] = Refusal("NoSuchKey")
    with pytest.raises(CommandError, match=r"report s3://models/releases/r-2/report\.json is gone"):
        admin.report_of("r-2")
    cloud.account.answers["s3.GetObject"] = lambda asked: {"Body": body("{}")}
    with pytest.raises(CommandError, match="no evaluation report"):
        admin.report_of("r-2")
    cloud.account.answers["s3.GetObject"] = lambda asked: {"Body": body(report(0.8, 0.5).model_dump_json())}
    assert admin.report_of("llama-0").role == "baseline"
