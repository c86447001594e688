"""What preflight says of an account: bootstrap, quotas, concurrency, images, artefact, addresses."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.response import StreamingBody

from contracts.artefact import ArtefactFile, Manifest
from infra.settings import load
from infra.settings.environment_settings import Settings
from operations.artefacts import UploadedModel
from operations.checks.account import check_bootstrap, check_images, check_subscriptions
from operations.checks.machines import check_concurrency, check_machines
from operations.checks.model import check_artefact
from operations.checks.results import Mark, Result
from operations.target import Target
from tests.support.recorded_aws import Answer, RecordedAccount, Refusal

PROD = load("prod")
ENDPOINTS = "ml.g6e.xlarge for endpoint usage"
NOW = datetime(2026, 11, 30, tzinfo=UTC)


def target(answers: dict[str, Answer], settings: Settings = PROD) -> Target:
    return Target(settings, RecordedAccount(answers), "", {})  # type: ignore[arg-type]


def marks(results: Any) -> list[Mark]:
    return [result.mark for result in results]


def stack(name: str, status: str = "CREATE_COMPLETE") -> dict[str, Any]:
    return {"StackName": name, "CreationTime": NOW, "StackStatus": status}


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ({"Parameter": {"Value": "33"}}, Mark.PASSED),
        ({"Parameter": {"Value": "5"}}, Mark.FAILED),
        (Refusal("ParameterNotFound", "none"), Mark.FAILED),
    ],
)
def test_the_bootstrap_version(version: Answer, expected: Mark) -> None:
    [found] = check_bootstrap(target({"ssm.GetParameter": version}))
    assert found.mark is expected
    assert (found.next_step == "make bootstrap ENV=prod") == (expected is Mark.FAILED)


def machines(endpoints: float | None) -> list[Result]:
    """The results with a quota for endpoints; None where Service Quotas does not list it."""
    rows = {ENDPOINTS: endpoints, "ml.g6e.2xlarge for training job usage": 1.0}
    listed = [
        {"QuotaName": name, "Value": value, "ServiceCode": "sagemaker"}
        for name, value in rows.items()
        if value is not None
    ]
    answers: dict[str, Answer] = {
        # The applied value counts, and not AWS's default.
        "service-quotas.ListAWSDefaultServiceQuotas": {"Quotas": [row | {"Value": 0.0} for row in listed]},
        "service-quotas.ListServiceQuotas": {"Quotas": listed},
    }
    return list(check_machines(target(answers)))


@pytest.mark.parametrize(
    ("quota", "expected"),
    [(0, Mark.FAILED), (7, Mark.FAILED), (8, Mark.OPEN), (16, Mark.PASSED), (None, Mark.OPEN)],
)
def test_the_quota_covers_an_update_of_champion_and_challenger(quota: float | None, expected: Mark) -> None:
    endpoint, training, processing, region = machines(quota)
    assert endpoint.mark is expected
    assert "8 needed: 2 at least × 2 for champion and challenger × 2 while an update" in endpoint.found
    assert training.mark is Mark.PASSED
    assert processing.mark is Mark.OPEN  # not listed
    assert region.mark is Mark.PASSED


@pytest.mark.parametrize(
    ("given", "limit", "expected"),
    [
        (200, 10, Mark.FAILED),
        (200, 299, Mark.FAILED),
        (200, 300, Mark.PASSED),
        (None, 10, Mark.OPEN),
        (None, 1000, Mark.PASSED),
    ],
)
def test_lambdas_limit_leaves_a_hundred_free(given: int | None, limit: int, expected: Mark) -> None:
    functions = PROD.functions.model_copy(update={"reserved_concurrency": given})
    settings = PROD.model_copy(update={"functions": functions})
    answer: Answer = {"Quota": {"QuotaName": "Concurrent executions", "Value": float(limit)}}
    assert marks(check_concurrency(target({"service-quotas.GetServiceQuota": answer}, settings))) == [
        expected
    ]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"imageDetails": [{}]}, Mark.PASSED),
        (Refusal("ImageNotFoundException", "none"), Mark.FAILED),
        (Refusal("AccessDeniedException", "not yours"), Mark.OPEN),
    ],
)
def test_an_image_is_there_missing_or_not_to_be_seen(answer: Answer, expected: Mark) -> None:
    found = list(check_images(target({"ecr.DescribeImages": answer})))
    assert set(marks(found)) == {expected}
    assert len(found) == 2  # the engine's and the jobs', which share one


def topics(*arns: str) -> dict[str, Answer]:
    subscribed = [{"Endpoint": f"a{place}@acme.io", "SubscriptionArn": arn} for place, arn in enumerate(arns)]
    resource = {
        "LogicalResourceId": "Topic", "PhysicalResourceId": "arn:aws:sns:us-east-1:111122223333:alarms",
        "ResourceType": "AWS::SNS::Topic", "LastUpdatedTimestamp": NOW, "ResourceStatus": "CREATE_COMPLETE",
    }  # fmt: skip
    return {
        "cloudformation.DescribeStacks": {"Stacks": [stack("evergreen-prod-monitoring")]},
        "cloudformation.ListStackResources": {"StackResourceSummaries": [resource]},
        "sns.ListSubscriptionsByTopic": {"Subscriptions": subscribed},
    }


def test_an_address_that_did_not_confirm_is_named() -> None:
    [result] = check_subscriptions(target(topics("arn:aws:sns:us-east-1:1:alarms:1", "PendingConfirmation")))
    assert result.mark is Mark.FAILED
    assert "a1@acme.io" in result.found
    assert "a0@acme.io" not in result.found
    assert marks(check_subscriptions(target(topics("arn:aws:sns:us-east-1:1:alarms:1")))) == [Mark.PASSED]
    assert marks(check_subscriptions(target({"cloudformation.DescribeStacks": {"Stacks": []}}))) == [
        Mark.OPEN
    ]


def artefact(names: dict[str, int], uploaded: bool = True) -> Result:
    """The result for a bucket that holds these files; the manifest lists config and hook."""
    files = [("config.json", 2), ("code/evergreen_hook.py", 3)]
    manifest = Manifest(name="m", files=[ArtefactFile(path=n, bytes=s, sha256="0" * 64) for n, s in files])
    record = UploadedModel(
        name="m", digest=manifest.digest, version="m-1", uris={"us-east-1": "s3://bucket/m/"}
    )

    def body(_: dict[str, Any]) -> dict[str, Any]:
        return {"Body": StreamingBody(io.BytesIO(manifest.canonical()), len(manifest.canonical()))}

    contents = [{"Key": f"m/{name}", "Size": size} for name, size in names.items()]
    answers: dict[str, Answer] = {
        "cloudformation.DescribeStacks": Refusal("ValidationError", "does not exist"),
        "ssm.GetParameter": {"Parameter": {"Value": record.model_dump_json()}}
        if uploaded
        else Refusal("ParameterNotFound", "none"),
        "s3.GetBucketLocation": {},
        "s3.ListObjectsV2": {"Contents": contents},
        "s3.GetObject": body,
    }
    settings = PROD.model_copy(update={"model": PROD.model.model_copy(update={"source": None})})
    [result] = check_artefact(target(answers, settings))
    return result


def test_the_artefact_is_whole_with_manifest_and_hook_or_the_gap_is_named() -> None:
    whole = {"config.json": 2, "code/evergreen_hook.py": 3, "manifest.json": 9}
    assert artefact(whole).mark is Mark.PASSED
    assert "manifest and hook" in artefact(whole).found
    for name in whole:
        result = artefact({file: size for file, size in whole.items() if file != name})
        assert (result.mark, name in result.found) == (Mark.FAILED, True), result
    assert "has 1 bytes" in artefact(whole | {"config.json": 1}).found
    assert artefact({}).mark is Mark.FAILED
    assert artefact({}, uploaded=False).mark is Mark.OPEN
