"""The REST data plane through a real deployment: CloudFormation in, HTTP out.

The rules one by one are held by tests/unit/rest_api; here stands what only a running cloud can show.
"""

from __future__ import annotations

import http.client
import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.support.laptop import REPOSITORY, Laptop

FIXTURES = REPOSITORY / "tests" / "fixtures" / "rest_api"
STACK, BUCKET, USAGE_KEY = "rest-data-plane", "rest-data-plane-code", "k" * 32


@dataclass
class Door:
    """The deployed API: its address and the stack's outputs."""

    laptop: Laptop
    outputs: dict[str, str]

    @property
    def base(self) -> str:
        """The path of the stage."""
        return f"/_aws/execute-api/{self.outputs['ApiId']}/test"

    def open(self, verb: str, path: str, headers: dict[str, str] | None = None, body: bytes | None = None):
        """Send a request; the reply's body is not read yet."""
        connection = http.client.HTTPConnection("127.0.0.1", self.laptop.port, timeout=120)
        connection.request(verb, self.base + path, body, headers or {})
        return connection.getresponse()

    def call(self, verb: str, path: str, **more: Any) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Send a request and read the whole reply."""
        reply = self.open(verb, path, **more)
        return reply.status, reply.headers, reply.read()

    def signed(self, user: str, *, secret: str | None = None) -> int:
        """The status of GET /signed as an IAM user, by its output's name."""
        iam, name = self.laptop.aws("iam"), self.outputs[user]
        key = iam.create_access_key(UserName=name)["AccessKey"]
        request = AWSRequest("GET", f"http://127.0.0.1:{self.laptop.port}{self.base}/signed")
        credentials = Credentials(key["AccessKeyId"], secret or key["SecretAccessKey"])
        SigV4Auth(credentials, "execute-api", "us-east-1").add_auth(request)
        status = self.call("GET", "/signed", headers=dict(request.headers.items()))[0]
        # A user that still has keys cannot be deleted, nor then its stack.
        iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
        return status


def bundle() -> bytes:
    """The functions and the streaming runtime as a Lambda archive."""
    buffer = io.BytesIO()
    files = {path.relative_to(REPOSITORY): path for path in (REPOSITORY / "lambdas/runtime").iterdir()}
    files |= {
        Path("functions.py"): FIXTURES / "functions.py",
        Path("lambdas/__init__.py"): REPOSITORY / "lambdas/__init__.py",
    }
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, path in files.items():
            if path.is_file():
                entry = zipfile.ZipInfo(name.as_posix())
                entry.external_attr = 0o755 << 16
                archive.writestr(entry, path.read_bytes())
    return buffer.getvalue()


@pytest.fixture(scope="module")
def door(laptop: Laptop) -> Iterator[Door]:
    """The API of `template.yaml`, deployed for this module and deleted after it."""
    s3, stacks = laptop.aws("s3"), laptop.aws("cloudformation")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="functions.zip", Body=bundle())
    stacks.create_stack(
        StackName=STACK,
        TemplateBody=(FIXTURES / "template.yaml").read_text(),
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[
            {"ParameterKey": "Bucket", "ParameterValue": BUCKET},
            {"ParameterKey": "UsageKey", "ParameterValue": USAGE_KEY},
        ],
    )
    stacks.get_waiter("stack_create_complete").wait(
        StackName=STACK, WaiterConfig={"Delay": 1, "MaxAttempts": 300}
    )
    outputs = stacks.describe_stacks(StackName=STACK)["Stacks"][0]["Outputs"]
    yield Door(laptop, {item["OutputKey"]: item["OutputValue"] for item in outputs})
    stacks.delete_stack(StackName=STACK)
    stacks.get_waiter("stack_delete_complete").wait(
        StackName=STACK, WaiterConfig={"Delay": 1, "MaxAttempts": 300}
    )


def test_a_stream_reaches_the_client_while_the_function_still_writes(door):
    """The function's second piece says whether the client had its first one before."""
    reply = door.open("POST", "/live?sign=first-read")
    assert reply.status == 207
    assert reply.readline() == b"first\n"
    door.laptop.aws("s3").put_object(Bucket=BUCKET, Key="first-read", Body=b"")
    assert reply.read() == b"answered\n"


def test_a_function_that_fails_midway_cuts_the_stream(door):
    reply = door.open("POST", "/live?fail=midway")
    with pytest.raises(http.client.IncompleteRead):
        reply.read()


def test_a_function_that_fails_before_its_first_byte_is_a_502(door):
    status, _headers, body = door.call("POST", "/live?fail=before")
    assert (status, json.loads(body)) == (502, {"message": "Internal server error"})


def test_an_open_route_passes_everything_on(door):
    status, headers, body = door.call("GET", "/open?x=1&x=2")
    assert (status, headers.get_all("Set-Cookie")) == (200, ["a=1", "b=2"])
    event = json.loads(body)
    assert event["multiValueQueryStringParameters"] == {"x": ["1", "2"]}
    assert event["requestContext"]["requestId"] == headers["x-amzn-RequestId"]


def test_the_deployed_body_model_is_enforced(door):
    assert door.call("POST", "/open", body=b"{}")[0] == 400
    assert door.call("POST", "/open", body=b'{"a": 1}')[0] == 200


def test_the_authorizer_admits_refuses_and_names_the_key_whose_quota_ends(door):
    good = {"Authorization": "Bearer good"}
    assert door.call("GET", "/open/a%2Fb")[0] == 401
    assert door.call("GET", "/open/x", headers={"Authorization": "Bearer stranger"})[0] == 401
    assert door.call("GET", "/open/x", headers={"Authorization": "Bearer bad"})[0] == 403
    status, _headers, body = door.call("GET", "/open/a%2Fb", headers=good)
    event = json.loads(body)
    assert (status, event["pathParameters"]) == (200, {"item": "a/b"})
    assert event["requestContext"]["authorizer"]["admin"] == "true"
    assert event["requestContext"]["identity"]["apiKey"] == USAGE_KEY
    assert [door.call("GET", "/open/x", headers=good)[0] for _ in range(4)] == [200] * 4
    status, headers, body = door.call("GET", "/open/x", headers=good)
    assert (status, headers["Retry-After"], json.loads(body)) == (429, "3600", {"error": "Limit Exceeded"})


def test_a_route_without_permission_on_its_function_is_a_500(door):
    assert door.call("GET", "/forbidden")[0] == 500


def test_a_preflight_is_answered_without_a_function(door):
    status, headers, _body = door.call("OPTIONS", "/live", headers={"Origin": "https://a.example"})
    assert (status, headers["Access-Control-Allow-Origin"]) == (204, "*")


def test_iam_callers_need_a_signature_that_holds_and_a_policy_that_allows(door):
    assert door.call("GET", "/signed")[0] == 403
    forged = "AWS4-HMAC-SHA256 Credential=123456789012/20260101/us-east-1/execute-api/aws4_request"
    forged = f"{forged}, SignedHeaders=host;x-amz-date, Signature={'0' * 64}"
    stamp = {"Authorization": forged, "X-Amz-Date": "20260101T000000Z"}
    assert door.call("GET", "/signed", headers=stamp)[0] == 403
    assert door.signed("Caller") == 200
    assert door.signed("Caller", secret="wrong") == 403
    assert door.signed("Stranger") == 403


def test_requests_are_logged_in_the_stages_format(door):
    _status, headers, _body = door.call("GET", "/nowhere")
    logs = door.laptop.aws("logs").filter_log_events(logGroupName=STACK)["events"]
    assert f"{headers['x-amzn-RequestId']} 403" in [event["message"] for event in logs]
