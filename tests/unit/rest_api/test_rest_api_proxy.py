"""Lambda proxy integrations: the event, and what each answer becomes."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest

from local.cloud.lambda_service.results import StreamError, StreamResult
from local.cloud.rest_api.http_messages import Request
from local.cloud.rest_api.lambda_proxy import STREAM_CONTENT_TYPE
from tests.support.rest_api import MAX_EVENT_BYTES, header


def test_the_event_is_the_rest_proxy_event(rest_api):
    # Given a route with a path parameter and a stage variable
    rest_api.stage["variables"] = {"colour": "green"}
    rest_api.route("GET", "/v1/models/{model}")
    # When it is called with repeated headers and parameters
    headers = {"User-Agent": "curl", "Host": "h:80", "X-Forwarded-For": "10.0.0.1", "Content-Length": "0"}
    reply = rest_api.call("GET", "/v1/models/a%2Fb?x=1&x=2&y=", headers)
    event = json.loads(reply.body)
    # Then every part of it is where a function expects it
    assert event["resource"] == "/v1/models/{model}"
    assert event["httpMethod"] == "GET"
    assert event["pathParameters"] == {"model": "a/b"}
    assert event["queryStringParameters"] == {"x": "2", "y": ""}
    assert event["multiValueQueryStringParameters"] == {"x": ["1", "2"], "y": [""]}
    assert event["stageVariables"] == {"colour": "green"}
    assert event["headers"]["user-agent"] == "curl"
    assert event["multiValueHeaders"]["user-agent"] == ["curl"]
    assert event["headers"]["Host"] == "h:80"
    assert event["headers"]["X-Forwarded-For"] == "10.0.0.1, 127.0.0.1"
    assert not event["headers"].keys() & {"host", "x-forwarded-for", "content-length"}
    assert event["headers"]["X-Amzn-Trace-Id"].startswith("Root=1-")
    assert event["body"] is None
    assert event["isBase64Encoded"] is False
    assert "version" not in event
    context = event["requestContext"]
    assert context["accountId"] == "123456789012"
    assert context["apiId"] == "api1"
    assert context["stage"] == "live"
    assert context["path"] == "/live/v1/models/a%2Fb"
    assert context["resourcePath"] == "/v1/models/{model}"
    assert context["protocol"] == "HTTP/1.1"
    assert context["identity"]["sourceIp"] == "127.0.0.1"
    assert context["identity"]["userAgent"] == "curl"
    assert header(reply, "x-amzn-RequestId") == [context["requestId"]]
    assert header(reply, "x-amz-apigw-id") == [context["extendedRequestId"]]


def test_a_binary_body_arrives_as_base64(rest_api):
    rest_api.api["binaryMediaTypes"] = ["image/*"]
    rest_api.route("POST", "/x")
    event = json.loads(rest_api.call("POST", "/x", {"Content-Type": "image/png"}, b"\x89\xff").body)
    assert (base64.b64decode(event["body"]), event["isBase64Encoded"]) == (b"\x89\xff", True)


def test_a_text_body_arrives_as_it_is(rest_api):
    rest_api.route("POST", "/x")
    event = json.loads(rest_api.call("POST", "/x", {"Content-Type": "application/json"}, b'{"a":1}').body)
    assert (event["body"], event["isBase64Encoded"]) == ('{"a":1}', False)


def test_status_headers_and_several_cookies_reach_the_client(rest_api):
    rest_api.route(
        "GET",
        "/x",
        rest_api.proxy(
            lambda event: {
                "statusCode": 201,
                "headers": {"X-One": 1, "set-cookie": "dropped", "WWW-Authenticate": "Bearer"},
                "multiValueHeaders": {"Set-Cookie": ["a=1", "b=2"]},
                "body": "done",
            }
        ),
    )
    reply = rest_api.call("GET", "/x")
    assert (reply.status, reply.body) == (201, b"done")
    assert header(reply, "set-cookie") == ["a=1", "b=2"]
    assert header(reply, "x-one") == ["1"]
    assert header(reply, "content-type") == ["application/json"]
    assert header(reply, "x-amzn-remapped-www-authenticate") == ["Bearer"]
    assert header(reply, "www-authenticate") == []


def test_a_base64_answer_is_decoded_when_the_api_takes_binary(rest_api):
    answer = {"statusCode": 200, "isBase64Encoded": True, "body": base64.b64encode(b"\x00\x01").decode()}
    rest_api.route("GET", "/x", rest_api.proxy(lambda event: answer))
    assert rest_api.call("GET", "/x", {"Accept": "image/png"}).body == answer["body"].encode()
    rest_api.api["binaryMediaTypes"] = ["*/*"]
    assert rest_api.call("GET", "/x", {"Accept": "image/png"}).body == b"\x00\x01"


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "text",
        {"body": "no status"},
        {"statusCode": "abc"},
        {"statusCode": 99},
        {"statusCode": 200, "body": {"not": "a string"}},
        {"statusCode": 200, "headers": {"X": {"nested": 1}}},
        {"statusCode": 200, "headers": ["X"]},
        {"statusCode": 200, "multiValueHeaders": {"X": "not a list"}},
        {"statusCode": 200, "headers": {"X": "split\r\nY: 1"}},
    ],
)
def test_a_malformed_answer_is_a_502(rest_api, answer):
    rest_api.route("GET", "/x", rest_api.proxy(lambda event: answer))
    reply = rest_api.call("GET", "/x")
    assert (reply.status, reply.body) == (502, b'{"message": "Internal server error"}')
    assert header(reply, "x-amzn-ErrorType") == ["InternalServerErrorException"]


def test_a_function_that_fails_is_a_502(rest_api):
    rest_api.route("GET", "/x", rest_api.proxy(lambda event: 1 / 0))
    assert rest_api.call("GET", "/x").status == 502


def test_a_function_that_is_gone_is_a_500(rest_api):
    rest_api.route(
        "GET", "/x", {"type": "AWS_PROXY", "uri": rest_api.proxy(dict)["uri"].replace("f0", "gone")}
    )
    reply = rest_api.call("GET", "/x")
    assert (reply.status, reply.body) == (500, b'{"message": "Internal server error"}')


def test_a_function_without_permission_is_a_500_and_never_runs(rest_api):
    rest_api.route("GET", "/x")
    rest_api.denied_functions.add("echo")
    assert rest_api.call("GET", "/x").status == 500
    assert rest_api.events == []


def test_a_throttled_function_is_a_500(rest_api):
    rest_api.route("GET", "/x")
    rest_api.throttled_functions.add("echo")
    assert rest_api.call("GET", "/x").status == 500


def test_a_slow_integration_is_a_504_and_the_function_runs_on(rest_api):
    async def run():
        answered, finished = asyncio.Event(), asyncio.Event()

        async def slow(event):
            await answered.wait()
            finished.set()
            return {"statusCode": 200}

        rest_api.route("GET", "/x", rest_api.proxy(slow, timeoutInMillis=50))
        reply = await rest_api.gateway.handle(Request("GET", "/x"), rest_api.deployment())
        answered.set()
        await asyncio.wait_for(finished.wait(), 60)
        return reply

    reply = asyncio.run(run())
    assert (reply.status, reply.body) == (504, b'{"message":"Endpoint request timed out"}')


def test_a_body_over_ten_megabytes_is_a_413(rest_api):
    rest_api.route("POST", "/x")
    reply = rest_api.call("POST", "/x", body=b"x" * (10 * 1024 * 1024 + 1))
    assert (reply.status, reply.body) == (413, b'{"message":"Request Too Long"}')


def test_a_body_a_function_cannot_take_is_a_413(rest_api):
    rest_api.route("POST", "/x")
    assert rest_api.call("POST", "/x", body=b"x" * (MAX_EVENT_BYTES + 1)).status == 413
    assert rest_api.call("POST", "/x", body=b"x" * (MAX_EVENT_BYTES - 10_000)).status == 200


def test_a_stream_takes_status_headers_and_cookies_from_its_prelude(rest_api):
    prelude = {"statusCode": 207, "headers": {"Content-Type": "text/event-stream"}, "cookies": ["a=1", "b=2"]}
    rest_api.route(
        "GET", "/x", rest_api.proxy(lambda event: (prelude, [b"one", b"two"]), responseTransferMode="STREAM")
    )
    reply = rest_api.call("GET", "/x")
    assert (reply.status, reply.body) == (207, b"onetwo")
    assert header(reply, "content-type") == ["text/event-stream"]
    assert header(reply, "set-cookie") == ["a=1", "b=2"]
    assert len(header(reply, "x-amzn-RequestId")) == 1


@pytest.mark.parametrize("prelude", [None, {}, {"statusCode": 1}, {"statusCode": 200, "headers": 5}])
def test_a_stream_without_a_valid_prelude_is_a_502(rest_api, prelude):
    rest_api.route(
        "GET", "/x", rest_api.proxy(lambda event: (prelude, [b"x"]), responseTransferMode="STREAM")
    )
    assert rest_api.call("GET", "/x").status == 502


def test_a_stream_that_fails_before_its_first_byte_is_a_502(rest_api):
    def fail(event):
        raise StreamError("Runtime.ExitError", "{}")

    rest_api.route("GET", "/x", rest_api.proxy(fail, responseTransferMode="STREAM"))
    assert rest_api.call("GET", "/x").status == 502


def test_a_stream_that_fails_midway_is_cut_not_ended(rest_api):
    pieces = [b"one", StreamError("ValueError", "{}"), b"never"]
    rest_api.route(
        "GET",
        "/x",
        rest_api.proxy(lambda event: ({"statusCode": 200}, pieces), responseTransferMode="STREAM"),
    )
    with pytest.raises(StreamError):
        rest_api.call("GET", "/x")
    assert [outcome.status for outcome in rest_api.completed_requests] == [200]


def test_pieces_arrive_before_the_function_is_done(rest_api):
    """Given a function that writes on only once its first piece was read, a collected body would hang."""
    rest_api.route("GET", "/x", rest_api.proxy(dict, responseTransferMode="STREAM"))

    async def run():
        read = asyncio.Event()

        async def body():
            yield b"first"
            await asyncio.wait_for(read.wait(), 30)
            yield b"second"

        async def invoke_stream(arn, event):
            return StreamResult("1", STREAM_CONTENT_TYPE, {"statusCode": 200}, body())

        rest_api.invoke_stream = invoke_stream
        reply = await rest_api.gateway.handle(Request("GET", "/x"), rest_api.deployment())
        assert await anext(reply.body) == b"first"
        read.set()
        assert await anext(reply.body) == b"second"
        await reply.body.aclose()

    asyncio.run(run())


def test_a_client_that_leaves_closes_the_functions_stream(rest_api):
    rest_api.route("GET", "/x", rest_api.proxy(dict, responseTransferMode="STREAM"))
    closed = []

    async def run():
        async def body():
            try:
                while True:
                    yield b"tick"
            finally:
                closed.append(True)

        async def invoke_stream(arn, event):
            return StreamResult("1", STREAM_CONTENT_TYPE, {"statusCode": 200}, body())

        rest_api.invoke_stream = invoke_stream
        reply = await rest_api.gateway.handle(Request("GET", "/x"), rest_api.deployment())
        assert await anext(reply.body) == b"tick"
        await reply.body.aclose()

    asyncio.run(run())
    assert closed == [True]
    assert len(rest_api.completed_requests) == 1


def test_a_stream_that_does_not_begin_in_time_is_a_504(rest_api):
    rest_api.route("GET", "/x", rest_api.proxy(dict, responseTransferMode="STREAM", timeoutInMillis=50))

    async def invoke_stream(arn, event):
        await asyncio.sleep(30)

    rest_api.invoke_stream = invoke_stream
    assert rest_api.call("GET", "/x").status == 504


def test_a_stream_past_its_time_is_cut_and_closed(rest_api):
    rest_api.route("GET", "/x", rest_api.proxy(dict, responseTransferMode="STREAM", timeoutInMillis=1000))
    closed = []

    async def body():
        try:
            yield b"first"
            await asyncio.sleep(60)
        finally:
            closed.append(True)

    async def invoke_stream(arn, event):
        return StreamResult("1", STREAM_CONTENT_TYPE, {"statusCode": 200}, body())

    rest_api.invoke_stream = invoke_stream
    with pytest.raises(TimeoutError):
        rest_api.call("GET", "/x")
    assert closed == [True]
