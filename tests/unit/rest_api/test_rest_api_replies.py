"""What API Gateway answers itself: unknown routes, gateway responses, validators, preflights."""

from __future__ import annotations

import json

import pytest

from local.cloud.rest_api.gateway_responses import STATUS
from local.cloud.rest_api.http_messages import Request
from local.cloud.rest_api.mapping_templates import TemplateError, render
from local.cloud.rest_api.monitoring import access_log_line, log_group_of, metric_data
from tests.support.rest_api import header

SCHEMA = {
    "type": "object",
    "required": ["model"],
    "properties": {"model": {"type": "string"}, "n": {"type": "integer", "maximum": 1}},
}
PREFLIGHT = {
    "type": "MOCK",
    "requestTemplates": {"application/json": "{ statusCode: 200 }"},
    "integrationResponses": {
        "204": {
            "statusCode": "204",
            "responseParameters": {
                "method.response.header.Access-Control-Allow-Origin": "'https://a.example'",
                "method.response.header.Access-Control-Allow-Methods": "'GET,POST'",
            },
        }
    },
}
ORIGINS = """#set($origin = $input.params().header.get("Origin"))
#if($origin == "")
  #set($origin = $input.params().header.get("origin"))
#end
#if($origin.matches("https://b.example") || $origin.matches("https://c.example"))
  #set($context.responseOverride.header.Access-Control-Allow-Origin = $origin)
#end"""


def test_an_unknown_route_misses_an_authentication_token(rest_api):
    rest_api.route("GET", "/x")
    reply = rest_api.call("GET", "/y")
    assert (reply.status, reply.body) == (403, b'{"message":"Missing Authentication Token"}')
    assert header(reply, "x-amzn-ErrorType") == ["MissingAuthenticationTokenException"]
    assert len(header(reply, "x-amzn-RequestId")) == 1


def test_a_type_of_its_own_shapes_status_headers_and_body(rest_api):
    rest_api.gateway_responses.append(
        {
            "responseType": "MISSING_AUTHENTICATION_TOKEN",
            "statusCode": "404",
            "responseParameters": {
                "gatewayresponse.header.Access-Control-Allow-Origin": "'*'",
                "gatewayresponse.header.X-Echo": "method.request.header.x-sent",
                "gatewayresponse.header.X-Absent": "method.request.header.x-other",
            },
            "responseTemplates": {
                "application/json": '{"error":{"message":$context.error.messageString,"type":'
                '"$context.error.responseType","raw":"$context.error.message","id":"$context.requestId"}}'
            },
        }
    )
    reply = rest_api.call("GET", "/y", {"X-Sent": "1"})
    error = json.loads(reply.body)["error"]
    assert reply.status == 404
    assert error["message"] == error["raw"] == "Missing Authentication Token"
    assert error["type"] == "MISSING_AUTHENTICATION_TOKEN"
    assert [error["id"]] == header(reply, "x-amzn-RequestId")
    assert header(reply, "access-control-allow-origin") == ["*"]
    assert (header(reply, "x-echo"), header(reply, "x-absent")) == (["1"], [])


def test_a_family_shapes_its_types_but_leaves_their_status(rest_api):
    rest_api.gateway_responses += [
        {
            "responseType": "DEFAULT_4XX",
            "responseTemplates": {"application/json": "four"},
            "statusCode": "418",
        },
        {"responseType": "DEFAULT_5XX", "responseTemplates": {"application/json": "five"}},
    ]
    rest_api.route("GET", "/bad", rest_api.proxy(lambda event: None))
    assert (rest_api.call("GET", "/y").status, rest_api.call("GET", "/y").body) == (403, b"four")
    assert (rest_api.call("GET", "/bad").status, rest_api.call("GET", "/bad").body) == (502, b"five")


def test_headers_alone_keep_the_built_in_body(rest_api):
    """CDK's usual customisation: CORS headers on DEFAULT_4XX, nothing else."""
    rest_api.gateway_responses.append(
        {
            "responseType": "DEFAULT_4XX",
            "responseParameters": {"gatewayresponse.header.Access-Control-Allow-Origin": "'*'"},
        }
    )
    reply = rest_api.call("GET", "/y")
    assert reply.body == b'{"message":"Missing Authentication Token"}'
    assert header(reply, "access-control-allow-origin") == ["*"]


def test_a_default_response_from_the_control_plane_is_no_customisation(rest_api):
    rest_api.gateway_responses.append(
        {"responseType": "MISSING_AUTHENTICATION_TOKEN", "defaultResponse": True, "statusCode": "499"}
    )
    assert rest_api.call("GET", "/y").status == 403


def test_every_type_has_a_status_of_its_family():
    assert all(400 <= status <= 599 for status in STATUS.values())


@pytest.fixture
def validated(rest_api):
    """POST /v/{id} with parameters and a body model to satisfy."""
    rest_api.validators.append({"id": "v", "validateRequestParameters": True, "validateRequestBody": True})
    rest_api.models.append({"name": "Chat", "schema": json.dumps(SCHEMA)})
    rest_api.route(
        "POST",
        "/v/{id}",
        requestValidatorId="v",
        requestParameters={
            "method.request.header.X-Needed": True,
            "method.request.querystring.q": True,
            "method.request.querystring.optional": False,
        },
        requestModels={"application/json": "Chat"},
    )
    return rest_api


def test_missing_parameters_are_named(validated):
    reply = validated.call("POST", "/v/1", body=b'{"model":"m"}')
    assert reply.status == 400
    assert json.loads(reply.body) == {"message": "Missing required request parameters: [X-Needed, q]"}
    assert validated.events == []


@pytest.mark.parametrize("body", [b"", b"{", b"{}", b'{"model":1}', b'{"model":"m","n":2}', b"[]"])
def test_a_body_that_breaks_its_model_is_a_400(validated, body):
    reply = validated.call("POST", "/v/1?q=1", {"X-Needed": "1"}, body)
    assert (reply.status, json.loads(reply.body)) == (400, {"message": "Invalid request body"})
    assert header(reply, "x-amzn-ErrorType") == ["BadRequestException"]


def test_a_valid_request_passes(validated):
    assert validated.call("POST", "/v/1?q=1", {"X-Needed": "1"}, b'{"model":"m","n":1}').status == 200


def test_a_body_of_another_content_type_has_no_model(validated):
    headers = {"X-Needed": "1", "Content-Type": "text/plain"}
    assert validated.call("POST", "/v/1?q=1", headers, b"plain").status == 200


def test_a_validator_without_its_model_is_a_500(validated):
    validated.models.clear()
    assert validated.call("POST", "/v/1?q=1", {"X-Needed": "1"}, b"{}").status == 500


def test_a_preflight_is_answered_by_its_mock(rest_api):
    rest_api.route("OPTIONS", "/x", PREFLIGHT)
    reply = rest_api.call("OPTIONS", "/x", {"Origin": "https://a.example"})
    assert (reply.status, reply.body) == (204, b"")
    assert header(reply, "access-control-allow-origin") == ["https://a.example"]
    assert header(reply, "access-control-allow-methods") == ["GET,POST"]


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://b.example", "https://b.example"),
        ("https://c.example", "https://c.example"),
        ("https://evil.example", "https://a.example"),
        ("", "https://a.example"),
    ],
)
def test_a_preflight_of_several_origins_names_the_caller(rest_api, origin, allowed):
    response = {
        **PREFLIGHT["integrationResponses"]["204"],
        "responseTemplates": {"application/json": ORIGINS},
    }
    rest_api.route("OPTIONS", "/x", {**PREFLIGHT, "integrationResponses": {"204": response}})
    reply = rest_api.call("OPTIONS", "/x", {"Origin": origin} if origin else {})
    assert header(reply, "access-control-allow-origin") == [allowed]
    assert reply.body == b""


def test_a_mock_picks_its_response_by_pattern(rest_api):
    responses = {
        "200": {
            "statusCode": "200",
            "selectionPattern": "2\\d{2}",
            "responseTemplates": {"application/json": "ok"},
        },
        "500": {"statusCode": "500", "responseTemplates": {"application/json": "$context.requestId failed"}},
    }
    for status, expected in ((200, b"ok"), (418, b" failed")):
        template = {"application/json": f'{{"statusCode": {status}}}'}
        rest_api.route(
            "GET", "/x", {"type": "MOCK", "requestTemplates": template, "integrationResponses": responses}
        )
        assert rest_api.call("GET", "/x").body.endswith(expected)


@pytest.mark.parametrize(
    "integration",
    [
        {"type": "MOCK", "integrationResponses": {"200": {"statusCode": "200"}}},
        {"type": "MOCK", "requestTemplates": {"application/json": "{statusCode: 200}"}},
        {
            **PREFLIGHT,
            "integrationResponses": {
                "204": {
                    "statusCode": "204",
                    "responseTemplates": {"application/json": "#foreach($x in $y)$x#end"},
                }
            },
        },
        {"type": "HTTP_PROXY", "uri": "https://example.org"},
        {"type": "AWS", "uri": "arn:aws:apigateway:us-east-1:sqs:path/1/q"},
    ],
)
def test_what_is_not_offered_is_a_500_and_never_an_empty_answer(rest_api, integration):
    rest_api.route("GET", "/x", integration)
    assert rest_api.call("GET", "/x").status == 500


def test_a_media_type_without_template_is_a_415_when_the_mock_says_never(rest_api):
    rest_api.route("POST", "/x", {**PREFLIGHT, "passthroughBehavior": "NEVER"})
    assert rest_api.call("POST", "/x", {"Content-Type": "text/plain"}).status == 415


@pytest.mark.parametrize(
    "template", ['#if($a == "1")', "#end", "#set(nothing)", "$input.json('$')", "#set($x = $util.now())"]
)
def test_a_template_beyond_what_is_offered_is_refused(template):
    with pytest.raises(TemplateError):
        render(template, {}, Request("GET", "/"))


def test_each_request_is_measured_for_the_api_and_its_stage(rest_api):
    rest_api.route("GET", "/x")
    rest_api.call("GET", "/x")
    rest_api.call("GET", "/nowhere")
    served, refused = (metric_data(outcome) for outcome in rest_api.completed_requests)
    by_name = {item["MetricName"]: item["Value"] for item in served if len(item["Dimensions"]) == 2}
    assert (by_name["Count"], by_name["4XXError"], by_name["5XXError"]) == (1, 0, 0)
    assert by_name["Latency"] >= by_name["IntegrationLatency"] > 0
    assert served[0]["Dimensions"] == [{"Name": "ApiName", "Value": "evergreen"}]
    assert served[-1]["Dimensions"][1] == {"Name": "Stage", "Value": "live"}
    assert [item["Value"] for item in refused if item["MetricName"] == "4XXError"] == [1, 1]
    assert not [item for item in refused if item["MetricName"] == "IntegrationLatency"]


def test_the_access_log_line_follows_the_stages_format(rest_api):
    rest_api.stage["accessLogSettings"] = {
        "destinationArn": "arn:aws:logs:us-east-1:123456789012:log-group:access",
        "format": "$context.httpMethod $context.resourcePath $context.status $context.error.responseType"
        " $context.nope",
    }
    rest_api.route("GET", "/x/{id}")
    rest_api.call("GET", "/x/1")
    rest_api.call("GET", "/nowhere")
    assert [access_log_line(outcome) for outcome in rest_api.completed_requests] == [
        "GET /x/{id} 200 - -",
        "GET - 403 MISSING_AUTHENTICATION_TOKEN -",
    ]
    assert log_group_of(rest_api.completed_requests[0].call.stage.access_log_arn) == "access"
    assert log_group_of("arn:aws:firehose:us-east-1:123456789012:deliverystream/x") == ""
