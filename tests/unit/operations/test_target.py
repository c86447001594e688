"""What an operator reads when account, credentials, region or network are wrong: one sentence."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from botocore import exceptions as sdk

from operations import keys
from operations.aws_errors import explain
from operations.target import open_target
from tests.support.fake_aws import fake_aws, identity, query_error

ACCOUNT = "111122223333"  # settings/staging.yaml as shipped
CREATE = ["create", "--env", "staging", "--tenant", "shop"]


@pytest.fixture(autouse=True)
def operator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials by environment variables, and nothing of the person who runs the tests."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "example")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """What the command said: one sentence on standard error, and nothing else."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.strip().startswith("evergreen: ")
    assert len(err.strip().splitlines()) == 1
    return err


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (identity("444455556666"), ["444455556666", f"names {ACCOUNT}", "AWS_PROFILE", "Nothing was"]),
        (query_error("ExpiredToken", "The security token is expired"), ["expired", "aws sso"]),
        (query_error("RequestExpired", "Request has expired", 400), ["expired", "renew"]),
        (query_error("InvalidClientTokenId", "The token is invalid"), ["does not accept", "AWS_PROFILE"]),
        (query_error("SignatureDoesNotMatch", "Signature not current"), ["does not accept", "keys"]),
        (query_error("AccessDenied", "not authorized to perform: sts:X"), ["may not", "sts:X", "ask for"]),
    ],
)
def test_credentials_that_do_not_fit_end_it_before_anything_else_is_called(
    reply, words, monkeypatch, capsys
) -> None:
    with fake_aws({"GetCallerIdentity": reply}) as aws:
        monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
        assert keys.main(CREATE) == 1
        assert set(aws.calls) == {"GetCallerIdentity"}
    text = said(capsys)
    assert all(word in text for word in words), text


def test_the_settings_account_is_accepted_and_its_region_used(monkeypatch) -> None:
    with fake_aws({"GetCallerIdentity": identity(ACCOUNT)}) as aws:
        monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
        target = open_target("staging")
    assert target.caller.endswith("user/ada")
    assert target.client("s3").meta.region_name == target.environment["AWS_REGION"] == "us-east-1"
    assert target.client("s3", "eu-west-1").meta.region_name == "eu-west-1"
    assert target.stack("data") == "evergreen-staging-data"


def test_without_credentials_it_says_how_to_sign_in(monkeypatch, capsys) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert keys.main(CREATE) == 1
    assert "no AWS credentials: sign in" in said(capsys)


def test_a_profile_that_does_not_exist_is_named(monkeypatch, capsys) -> None:
    monkeypatch.setenv("AWS_PROFILE", "stagin")
    assert keys.main(CREATE) == 1
    assert "stagin" in said(capsys)


def test_without_a_network_it_says_so(monkeypatch, capsys) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, and nobody listens
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
        assert keys.main(CREATE) == 1
    assert "cannot be reached" in said(capsys)


def test_a_region_of_the_shell_that_contradicts_the_settings_is_refused(monkeypatch, capsys) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert keys.main(CREATE) == 1
    text = said(capsys)
    assert "eu-west-1" in text
    assert "us-east-1" in text


def test_no_region_is_needed_beside_the_settings(monkeypatch, capsys) -> None:
    with fake_aws({"GetCallerIdentity": identity(ACCOUNT)}) as aws:
        monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
        assert keys.main(CREATE) == 1  # goes on to a stack that this endpoint does not have
        assert aws.calls[:2] == ["GetCallerIdentity", "DescribeStacks"]
    assert "region" not in said(capsys)


def test_a_laptop_cloud_that_does_not_run_is_named_with_the_command_that_starts_it(
    monkeypatch, tmp_path, capsys
) -> None:
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path))
    monkeypatch.setenv("EVERGREEN_PORT", "1")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    assert keys.main(["list", "--env", "local"]) == 1
    assert "make cloud" in said(capsys)


def test_an_environment_that_does_not_exist_is_told_with_those_that_do(capsys) -> None:
    assert keys.main(["list", "--env", "stagin"]) == 1
    _, err = capsys.readouterr()
    assert "settings/stagin.yaml" in err
    assert "staging" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (sdk.NoRegionError(), "environment.region"),
        (sdk.UnauthorizedSSOTokenError(), "renew"),
        (sdk.TokenRetrievalError(provider="sso", error_msg="Token has expired"), "renew"),
        (sdk.PartialCredentialsError(provider="env", cred_var="aws_secret_access_key"), "sign in"),
        (sdk.ConnectTimeoutError(endpoint_url="https://sts.eu-west-1.amazonaws.com"), "network"),
        (sdk.ClientError({"Error": {"Code": "RequestTimeTooSkewed"}}, "X"), "clock"),
        (sdk.ClientError({"Error": {"Code": "Throttling", "Message": "Rate exceeded"}}, "X"), "wait"),
    ],
)
def test_what_the_sdk_itself_raises_is_one_sentence_with_a_next_step(error, words) -> None:
    text = explain(error)
    assert words in text
    assert "\n" not in text
