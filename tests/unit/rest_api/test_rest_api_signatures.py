"""Signatures of IAM callers: only whole, fresh and matching ones."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from local.cloud.rest_api.gateway_responses import GatewayError
from local.cloud.rest_api.http_messages import Request
from local.cloud.rest_api.signatures import check_secret, signature_of

PATH = "/_aws/execute-api/api1/live"


def signed(target="/v1/x", body=b"", service="execute-api", verb="POST", **changed):
    """A request signed with the secret `right` by botocore itself; `changed` is applied after signing."""
    whole = AWSRequest(verb, f"http://127.0.0.1:4566{PATH}{target}", {"Host": "127.0.0.1:4566"}, body)
    SigV4Auth(Credentials("123456789012", "right"), service, "us-east-1").add_auth(whole)
    headers = {name.lower(): value for name, value in whole.headers.items()} | changed.pop("headers", {})
    parts = urlsplit(target)
    fields = {"method": verb, "path": parts.path, "query": parts.query, "body": body} | changed
    return Request(headers=list(headers.items()), **fields)


def check(request, secret="right", full_path=None):
    check_secret(signature_of(request), request, full_path or PATH + request.path, secret)


@pytest.mark.parametrize("target", ["/v1/x", "/v1/a%2Fb", "/v1/a%20b?x=1&y=%2F&x=0", "/"])
def test_a_signature_by_the_sdk_holds(target):
    check(signed(target, b'{"a":1}'))


@pytest.mark.parametrize(
    "request_",
    [
        signed(body=b"other", **{"path": "/v1/y"}),
        signed(headers={"x-amz-date": "20200101T000000Z"}),
        signed(headers={"host": "elsewhere"}),
        signed(query="x=2"),
        Request(**{**vars(signed(body=b"one")), "body": b"two"}),
    ],
)
def test_a_changed_request_does_not_hold(request_):
    with pytest.raises(GatewayError) as caught:
        check(request_)
    assert caught.value.type == "INVALID_SIGNATURE"


def test_another_secret_does_not_hold():
    with pytest.raises(GatewayError):
        check(signed(), secret="wrong")


@pytest.mark.parametrize(
    ("request_", "type_"),
    [
        (Request("GET", "/"), "MISSING_AUTHENTICATION_TOKEN"),
        (Request("GET", "/", headers=[("authorization", "Bearer x")]), "MISSING_AUTHENTICATION_TOKEN"),
        (Request("GET", "/", headers=[("authorization", "AWS4-HMAC-SHA256 x")]), "DEFAULT_4XX"),
        (signed(service="sts"), "INVALID_SIGNATURE"),
        (signed(headers={"x-amz-date": ""}), "DEFAULT_4XX"),
        (signed(query="X-Amz-Credential=a"), "DEFAULT_4XX"),
        (signed(query="x-amz-signature=a"), "DEFAULT_4XX"),
    ],
)
def test_what_is_not_a_whole_signature_is_refused(request_, type_):
    with pytest.raises(GatewayError) as caught:
        signature_of(request_)
    assert (caught.value.type, caught.value.status) == (type_, 403)


def test_two_credentials_in_one_header_are_refused():
    header = signed().header("authorization")
    with pytest.raises(GatewayError):
        signature_of(
            signed(headers={"authorization": f"{header}, Credential=other/20260101/r/s/aws4_request"})
        )
