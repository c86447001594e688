"""The challenger: artefact, package, approval."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from lambdas.release.errors import ApprovalUnknownError, ArtefactIncompleteError, BadInputError
from lambdas.release.registry import version_name
from tests.support.release_loop import BUCKET, NEW, OLD, RELEASE, ReleaseHarness

PREFIX = f"releases/{RELEASE}/training/job/output/model/"
REPORT = f"s3://{BUCKET}/releases/{RELEASE}/report/report.json"
DATA = f"s3://{BUCKET}/releases/{RELEASE}/data/"


def register(release: ReleaseHarness) -> str:
    release.put_data_card(40)
    answer = release.invoke("register", challenger=NEW, champion=OLD, report_uri=REPORT, data_uri=DATA)
    return str(answer["package_arn"])


def ask(release: ReleaseHarness) -> tuple[str, str]:
    """A manual approval that waits: the package and the secret that the approvers were sent."""
    arn = register(release)
    release.workflow.waiting.add("task-token")
    release.invoke("approve", package_arn=arn, status="PendingManualApproval", token="task-token")
    message = release.topic.received("publish")[-1]["Message"]
    payloads = [json.loads(found) for found in re.findall(r"--payload '(.*?)'", message)]
    assert [payload["decision"] for payload in payloads] == ["approve", "reject"]
    return arn, payloads[0]["secret"]


@pytest.mark.parametrize("slash", ["", "/"])
def test_given_a_whole_artefact_when_described_then_its_manifest_names_it(
    release: ReleaseHarness, slash: str
) -> None:
    digest = release.put_artefact(PREFIX, {"config.json": b"{}", "model.safetensors": b"123"})
    answer = release.invoke("describe_challenger", model_uri=f"s3://{BUCKET}/{PREFIX.rstrip('/')}{slash}")
    assert answer == {"uri": f"s3://{BUCKET}/{PREFIX}", "digest": digest, "version": f"base-{RELEASE}"}


def test_given_no_manifest_when_described_then_the_artefact_is_incomplete(release: ReleaseHarness) -> None:
    with pytest.raises(ArtefactIncompleteError, match=r"manifest\.json is missing"):
        release.invoke("describe_challenger", model_uri=f"s3://{BUCKET}/{PREFIX}")


def test_given_a_broken_manifest_when_described_then_the_artefact_is_incomplete(
    release: ReleaseHarness,
) -> None:
    release.bucket.objects[PREFIX + "manifest.json"] = b"{"
    with pytest.raises(ArtefactIncompleteError, match="not a manifest"):
        release.invoke("describe_challenger", model_uri=f"s3://{BUCKET}/{PREFIX}")


@pytest.mark.parametrize(("damage", "message"), [(None, "missing"), (b"12", "not of the size")])
def test_given_a_missing_or_cut_file_when_described_then_it_is_named(
    release: ReleaseHarness, damage: bytes | None, message: str
) -> None:
    release.put_artefact(PREFIX, {"config.json": b"{}", "model.safetensors": b"123"})
    if damage is None:
        del release.bucket.objects[PREFIX + "model.safetensors"]
    else:
        release.bucket.objects[PREFIX + "model.safetensors"] = damage
    with pytest.raises(ArtefactIncompleteError, match=rf"model\.safetensors.*{message}"):
        release.invoke("describe_challenger", model_uri=f"s3://{BUCKET}/{PREFIX}")


def test_given_an_artefact_in_another_bucket_when_described_then_it_is_refused(
    release: ReleaseHarness,
) -> None:
    with pytest.raises(BadInputError, match="artefacts bucket"):
        release.invoke("describe_challenger", model_uri="s3://elsewhere/model/")


@pytest.mark.parametrize(
    ("name", "release_id"),
    [("m", "r"), ("smollm2-135m-instruct", "x" * 80), ("n" * 100, "r"), ("..odd name", "r"), ("", "y" * 70)],
)
def test_given_any_name_and_release_then_the_version_is_one_that_the_stack_takes(
    name: str, release_id: str
) -> None:
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", version_name(name, release_id))
    assert version_name(name, release_id) != version_name(name, release_id + "2")


def test_given_a_challenger_when_registered_then_its_package_is_pending_and_says_where_it_comes_from(
    release: ReleaseHarness,
) -> None:
    package = release.sagemaker.packages[register(release)]
    assert package["ModelApprovalStatus"] == "PendingManualApproval"
    assert package["ModelPackageGroupName"] == "group"
    (container,) = package["InferenceSpecification"]["Containers"]
    assert container["Image"] == "registry/serving:1"
    assert container["ModelDataSource"]["S3DataSource"] == {
        "S3Uri": NEW["uri"],
        "S3DataType": "S3Prefix",
        "CompressionType": "None",
    }
    lineage = package["CustomerMetadataProperties"]
    assert lineage["release_id"] == RELEASE
    assert lineage["base_digest"] == OLD["digest"]
    assert lineage["data_train.jsonl"] == "3" * 64
    assert package["ModelMetrics"]["ModelQuality"]["Statistics"]["S3Uri"] == REPORT


def test_given_a_registered_challenger_when_registered_again_then_it_is_the_same_package(
    release: ReleaseHarness,
) -> None:
    assert register(release) == register(release)
    assert len(release.sagemaker.packages) == 1


def test_given_data_without_a_card_when_registered_then_it_is_refused(release: ReleaseHarness) -> None:
    with pytest.raises(BadInputError, match="data_card"):
        release.invoke("register", challenger=NEW, champion=OLD, report_uri=REPORT, data_uri=DATA)


def test_given_automatic_approval_then_the_package_is_approved_and_nobody_is_asked(
    release: ReleaseHarness,
) -> None:
    arn = register(release)
    release.invoke("approve", package_arn=arn, status="Approved")
    assert release.sagemaker.packages[arn]["ModelApprovalStatus"] == "Approved"
    assert release.topic.received("publish") == []


def test_given_manual_approval_then_the_secret_is_sent_and_only_its_hash_is_kept(
    release: ReleaseHarness,
) -> None:
    arn, secret = ask(release)
    assert release.sagemaker.packages[arn]["ModelApprovalStatus"] == "PendingManualApproval"
    assert secret not in json.dumps(release.rows())
    assert len(secret) >= 43


@pytest.mark.parametrize(("decision", "status"), [("approve", "Approved"), ("reject", "Rejected")])
def test_given_a_question_when_a_person_decides_then_package_and_release_hear_of_it(
    release: ReleaseHarness, decision: str, status: str
) -> None:
    arn, secret = ask(release)
    release.invoke("decide", secret=secret, decision=decision)
    assert release.sagemaker.packages[arn]["ModelApprovalStatus"] == status
    assert not release.workflow.waiting
    operation = "send_task_success" if decision == "approve" else "send_task_failure"
    (told,) = release.workflow.received(operation)
    assert told["taskToken"] == "task-token"
    assert told.get("error", "ApprovalRefused") == "ApprovalRefused"
    assert release.story()[-1] == ("decide", decision)


def test_given_a_wrong_secret_when_somebody_decides_then_nothing_happens(release: ReleaseHarness) -> None:
    arn, _ = ask(release)
    with pytest.raises(ApprovalUnknownError):
        release.invoke("decide", secret="guess", decision="approve")
    assert release.sagemaker.packages[arn]["ModelApprovalStatus"] == "PendingManualApproval"
    assert release.workflow.waiting == {"task-token"}


def test_given_a_decision_when_the_opposite_comes_then_the_first_one_holds(release: ReleaseHarness) -> None:
    arn, secret = ask(release)
    release.invoke("decide", secret=secret, decision="reject")
    with pytest.raises(ApprovalUnknownError, match="already: reject"):
        release.invoke("decide", secret=secret, decision="approve")
    assert release.sagemaker.packages[arn]["ModelApprovalStatus"] == "Rejected"


def test_given_a_decision_that_broke_off_when_it_is_made_again_then_it_is_completed(
    release: ReleaseHarness,
) -> None:
    arn, secret = ask(release)
    refuse = release.sagemaker.update_model_package

    def broken(**parameters: Any) -> dict[str, Any]:
        raise ConnectionError

    release.sagemaker.update_model_package = broken  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        release.invoke("decide", secret=secret, decision="approve")
    release.sagemaker.update_model_package = refuse  # type: ignore[method-assign]
    release.invoke("decide", secret=secret, decision="approve")
    assert release.sagemaker.packages[arn]["ModelApprovalStatus"] == "Approved"
    assert not release.workflow.waiting


def test_given_a_release_that_stopped_waiting_when_a_person_decides_then_they_are_told(
    release: ReleaseHarness,
) -> None:
    _, secret = ask(release)
    release.workflow.waiting.clear()
    with pytest.raises(ApprovalUnknownError, match="stopped waiting"):
        release.invoke("decide", secret=secret, decision="approve")


def test_given_a_question_asked_again_then_the_older_secret_is_void(release: ReleaseHarness) -> None:
    _, first = ask(release)
    _, second = ask(release)
    with pytest.raises(ApprovalUnknownError):
        release.invoke("decide", secret=first, decision="approve")
    release.invoke("decide", secret=second, decision="approve")
