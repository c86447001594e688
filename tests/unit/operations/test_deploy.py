"""Which artefact a deploy serves, when it sets the champion, and what it asks for at a terminal."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.response import StreamingBody

from contracts.artefact import ArtefactFile, Manifest
from infra.settings import load
from operations import deploy
from operations.artefacts import UploadedModel
from operations.deploy import Deployment, first_model
from operations.progress import CommandError, Steps
from operations.target import Target
from tests.support.recorded_aws import Answer, RecordedAccount, Refusal

BUCKET = "evergreen-prod-data-artefacts"
MANIFEST = Manifest(name="llama", files=[ArtefactFile(path="config.json", bytes=2, sha256="0" * 64)])
URI = f"s3://{BUCKET}/models/llama/{MANIFEST.digest}/"
UPLOADED = UploadedModel(name="llama", digest=MANIFEST.digest, version="llama-1a", uris={"us-east-1": URI})


def stacks(**statuses: str | None) -> Any:
    """CloudFormation's answer for the stacks of `prod` that there are."""

    def describe(asked: dict[str, Any]) -> dict[str, Any] | Refusal:
        status = statuses.get(str(asked["StackName"]).removeprefix("evergreen-prod-"))
        if status is None:
            return Refusal("ValidationError", f"Stack with id {asked['StackName']} does not exist")
        stack = {"StackName": asked["StackName"], "CreationTime": datetime.now(UTC), "StackStatus": status}
        output = {"OutputKey": "ArtefactsBucketName", "OutputValue": BUCKET}
        return {"Stacks": [stack | {"Outputs": [output]}]}

    return describe


def target(
    uploaded: UploadedModel | None = UPLOADED, manifest: Manifest | None = MANIFEST, **statuses: str | None
) -> Target:
    def stored(_: dict[str, Any]) -> dict[str, Any] | Refusal:
        if manifest is None:
            return Refusal("NoSuchKey", "no such key")
        body = manifest.canonical()
        return {"Body": StreamingBody(io.BytesIO(body), len(body))}

    answers: dict[str, Answer] = {
        "cloudformation.DescribeStacks": stacks(**statuses),
        "ssm.GetParameter": {"Parameter": {"Value": uploaded.model_dump_json()}}
        if uploaded
        else Refusal("ParameterNotFound", "none"),
        "s3.GetObject": stored,
    }
    settings = load("prod")
    without = settings.model_copy(update={"model": settings.model.model_copy(update={"source": None})})
    return Target(without, RecordedAccount(answers), "", {})  # type: ignore[arg-type]


def test_the_artefact_that_was_uploaded_last_is_deployed() -> None:
    assert first_model(target(data="CREATE_COMPLETE")) == UPLOADED


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (target(uploaded=None), "no model yet.*make model ENV=prod"),
        (target(uploaded=None, serving="ROLLBACK_COMPLETE"), "no model yet"),
        (target(manifest=None, data="CREATE_COMPLETE"), "not complete.*make model"),
        (target(), "data stack is gone"),
        (
            target(
                UPLOADED.model_copy(update={"uris": {"us-east-1": "s3://another/models/"}}),
                data="CREATE_COMPLETE",
            ),
            "not in the environment's bucket",
        ),
        (target(UPLOADED.model_copy(update={"uris": {"eu-west-1": URI}})), "not uploaded to us-east-1"),
    ],
)
def test_what_could_not_be_served_is_refused_before_anything_is_deployed(given: Target, words: str) -> None:
    with pytest.raises(CommandError, match=words):
        first_model(given)


def test_without_an_upload_what_serves_goes_on() -> None:
    assert first_model(target(uploaded=None, serving="UPDATE_COMPLETE")) is None


@pytest.mark.parametrize(
    ("status", "replace", "given"),
    [
        (None, False, True),
        ("ROLLBACK_COMPLETE", False, True),
        ("REVIEW_IN_PROGRESS", False, True),
        ("UPDATE_COMPLETE", False, False),  # releases set the champion from now on
        ("UPDATE_COMPLETE", True, True),
    ],
)
def test_the_champion_is_set_on_a_first_deploy_or_when_asked_for(
    tmp_path: Path, status: str | None, replace: bool, given: bool
) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"artifacts": {}}))
    place = target(serving=status)
    words = Deployment(place, tmp_path, Steps(tmp_path / "logs"))._champion(
        UPLOADED, replace_champion=replace
    )
    expected = [
        f"evergreen-prod-serving:ChampionModelUri={URI}",
        f"evergreen-prod-serving:ChampionModelDigest={MANIFEST.digest}",
        "evergreen-prod-serving:ChampionModelVersion=llama-1a",
    ]
    assert words == ([word for value in expected for word in ("--parameters", value)] if given else [])


@pytest.mark.parametrize(
    ("terminal", "environment", "expected"),
    [(True, {}, "broadening"), (False, {}, "never"), (True, {"CI": "true"}, "never")],
)
def test_broader_rights_are_asked_about_only_where_somebody_can_answer(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, environment: dict[str, str], expected: str
) -> None:
    for stream in ("stdin", "stdout"):
        monkeypatch.setattr(f"sys.{stream}", type("Stream", (), {"isatty": lambda _: terminal})())
    account: Any = RecordedAccount({})
    assert deploy._approval(Target(load("prod"), account, "", environment)) == expected
    assert deploy._approval(Target(load("local"), account, "", environment)) == "never"
