"""The gateway stack: routes, authorizer, error shape, functions and what each may do."""

from __future__ import annotations

import collections
import json
import math
import re
from collections.abc import Callable

import aws_cdk as cdk
import pytest

from contracts.errors import STATUS_OF_TYPE, ErrorReply, statuses_of
from contracts.guards import GuardSettings, ToxicitySettings
from contracts.jwt_issuers import TokenIssuer
from infra.compose import compose
from infra.constructs.web_acl import BODY_RULES
from infra.settings import load
from infra.settings.environment_settings import RecordSettings
from lambdas.api.openapi import document
from tests.support.environments import ISSUER

ENVIRONMENTS = ("local", "dev", "prod")
# Where settings offer the routes to callers with AWS credentials.
SIGNED = ("local",)
OF_JOBS = {
    "POST /v1/jobs",
    "GET /v1/jobs/{id}",
    "GET /v1/jobs/{id}/result",
    "POST /v1/jobs/{id}/cancel",
    "DELETE /v1/jobs/{id}",
    "POST /v1/files",
    "GET /v1/files",
    "GET /v1/files/{id}",
    "GET /v1/files/{id}/content",
    "DELETE /v1/files/{id}",
    "POST /v1/batches",
    "GET /v1/batches",
    "GET /v1/batches/{id}",
    "POST /v1/batches/{id}/cancel",
    "GET /v1/responses/{id}",
    "DELETE /v1/responses/{id}",
}
STREAMED = {
    "POST /v1/chat/completions",
    "POST /v1/responses",
    "POST /v1/messages",
    "POST /v1/completions",
    "POST /v1/embeddings",
    "POST /v1/rerank",
    "POST /v1/score",
    "POST /v1/classify",
    "POST /v1/moderations",
    *OF_JOBS,
}
OPEN = {f"{verb} {path}" for path in ("/health", "/playground") for verb in ("GET", "HEAD")}
MOST_POLICY_BYTES = 20_480
"""Of a function's resource policy, as Lambda counts it; see its quotas."""


def function(resources, env, name):
    """The function of the package `name`."""
    functions = resources(env, "gateway", "AWS::Lambda::Function").values()
    return next(
        f["Properties"] for f in functions if f["Properties"]["Handler"].startswith(f"lambdas.{name}.")
    )


def routes(resources, env):
    """`POST /v1/feedback` → the method's properties."""
    tree = resources(env, "gateway", "AWS::ApiGateway::Resource")

    def path(reference):
        if "Fn::GetAtt" in reference:
            return ""
        properties = tree[reference["Ref"]]["Properties"]
        return f"{path(properties['ParentId'])}/{properties['PathPart']}"

    methods = resources(env, "gateway", "AWS::ApiGateway::Method").values()
    return {
        f"{m['Properties']['HttpMethod']} {path(m['Properties']['ResourceId'])}": m["Properties"]
        for m in methods
        if m["Properties"]["HttpMethod"] != "OPTIONS"
    }


def actions(resources, env, name):
    """What the role of function `name` allows: action → resource."""
    policies = resources(env, "gateway", "AWS::IAM::Policy")
    policy = next(p for key, p in policies.items() if key.startswith(f"{name}Role"))
    granted = {}
    for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
        listed = statement["Action"]
        for action in [listed] if isinstance(listed, str) else listed:
            granted.setdefault(action, []).append(json.dumps(statement["Resource"]))
    return granted


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_routes_are_the_agreed_ones(resources, env):
    buffered = {
        "GET /v1/models",
        "GET /v1/models/{model}",
        "POST /v1/feedback",
        "GET /v1/usage",
        "GET /v1/openapi.json",
    }
    buffered |= {route.replace("GET ", "HEAD ") for route in buffered}
    guarded = STREAMED | buffered
    signed = {route.replace(" ", " /iam", 1) for route in guarded if env in SIGNED}
    assert set(routes(resources, env)) == {*guarded, *signed, *OPEN}


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_what_api_gateway_may_call_fits_a_functions_policy(resources, env):
    """Each method has a statement of its own, which Lambda writes into one document per function."""
    permissions = resources(env, "gateway", "AWS::Lambda::Permission")
    sizes = collections.Counter()
    for name, permission in permissions.items():
        properties = permission["Properties"]
        source = re.sub(r"\$\{\w+\}|\{[^}]*\}", "0123456789ab", json.dumps(properties.get("SourceArn", "")))
        statement = {
            "Sid": f"evergreen-{env}-gateway-{name[:64]}-ABCDEFGHIJKL",
            "Effect": "Allow",
            "Principal": {"Service": properties["Principal"]},
            "Action": properties["Action"],
            "Resource": f"arn:aws:lambda:us-east-1:123456789012:function:evergreen-{env}-inference",
            "Condition": {"ArnLike": {"AWS:SourceArn": source}},
        }
        sizes[json.dumps(properties["FunctionName"])] += len(json.dumps(statement, separators=(",", ":")))
    assert max(sizes.values()) < MOST_POLICY_BYTES, sizes


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_routes_to_the_model_stream_and_the_rest_does_not(resources, env):
    for route, method in routes(resources, env).items():
        integration = method["Integration"]
        uri = integration["Uri"]["Fn::Join"][1]
        if route.replace(" /iam", " ", 1) in STREAMED:
            assert integration["ResponseTransferMode"] == "STREAM"
            assert integration["TimeoutInMillis"] == 600_000
            assert uri[-1] == "/response-streaming-invocations"
        else:
            assert "ResponseTransferMode" not in integration
            assert uri[-1] == "/invocations"


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_every_route_but_the_open_ones_needs_the_authorizer_and_a_usage_key(resources, env):
    authorizers = resources(env, "gateway", "AWS::ApiGateway::Authorizer")
    by_source = {each["Properties"]["IdentitySource"]: name for name, each in authorizers.items()}

    for route, method in routes(resources, env).items():
        if route in OPEN:
            assert (method["AuthorizationType"], method["ApiKeyRequired"]) == ("NONE", False)
        elif " /iam/" in route:
            assert (method["AuthorizationType"], method["ApiKeyRequired"]) == ("AWS_IAM", False)
            assert "AuthorizerId" not in method
        else:
            assert (method["AuthorizationType"], method["ApiKeyRequired"]) == ("CUSTOM", True)
            header = "x-api-key" if route == "POST /v1/messages" else "Authorization"
            assert method["AuthorizerId"] == {"Ref": by_source[f"method.request.header.{header}"]}


def test_the_usage_key_is_the_authorizers_answer_and_the_api_is_regional(template):
    template("prod", "gateway").has_resource_properties(
        "AWS::ApiGateway::RestApi",
        {"ApiKeySourceType": "AUTHORIZER", "EndpointConfiguration": {"Types": ["REGIONAL"]}},
    )


@pytest.mark.parametrize(("env", "seconds"), [("local", 0), ("dev", 0), ("prod", 60)])
def test_each_authorizer_caches_under_the_only_header_it_reads(resources, env, seconds):
    authorizers = resources(env, "gateway", "AWS::ApiGateway::Authorizer").values()
    read = {}
    for properties in (each["Properties"] for each in authorizers):
        assert properties["AuthorizerResultTtlInSeconds"] == seconds
        assert properties["AuthorizerUri"] == next(iter(authorizers))["Properties"]["AuthorizerUri"]
        read[properties["IdentitySource"]] = properties["Type"]
    # One of type TOKEN is shown its header's value and nothing else.
    assert read == {
        "method.request.header.Authorization": "REQUEST",
        "method.request.header.x-api-key": "TOKEN",
    }


def test_the_stage_logs_traces_and_throttles_but_never_logs_bodies(resources):
    (stage,) = resources("prod", "gateway", "AWS::ApiGateway::Stage").values()

    properties = stage["Properties"]
    assert properties["StageName"] == "prod"
    assert properties["TracingEnabled"] is True
    assert json.loads(properties["AccessLogSetting"]["Format"])["request_id"] == "$context.requestId"
    (methods,) = properties["MethodSettings"]
    assert methods["DataTraceEnabled"] is False
    assert (methods["ThrottlingRateLimit"], methods["ThrottlingBurstLimit"]) == (100, 200)


def test_the_usage_plan_carries_quota_and_throttle(template):
    template("prod", "gateway").has_resource_properties(
        "AWS::ApiGateway::UsagePlan",
        {
            "Quota": {"Limit": 10_000_000, "Period": "MONTH"},
            "Throttle": {"RateLimit": 100, "BurstLimit": 200},
        },
    )


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_gateway_errors_have_the_openai_shape_and_keep_their_side(resources, env):
    responses = resources(env, "gateway", "AWS::ApiGateway::GatewayResponse").values()
    published = document()
    described = published["paths"]["/v1/chat/completions"]["post"]["responses"]

    seen = set()
    for response in (entry["Properties"] for entry in responses):
        seen.add(response["ResponseType"])
        body = response["ResponseTemplates"]["application/json"]
        filled = body.replace("$context.error.messageString", '"a message"')
        error = ErrorReply.model_validate_json(filled).error
        for_anthropic = json.loads(filled)
        assert (for_anthropic["type"], for_anthropic["request_id"]) == ("error", "$context.requestId")
        status = response.get("StatusCode")
        ours = STATUS_OF_TYPE[error.type] >= 500
        expected = "DEFAULT_5XX" if ours else "DEFAULT_4XX"
        assert (int(status) >= 500) is ours if status else response["ResponseType"] == expected
        if status and error.code != "media_type":  # a preflight's, and the document has none of these
            assert int(status) in statuses_of(error.type)
            assert status in described
        for header in ("x-request-id", "request-id"):
            named = f"gatewayresponse.header.{header}"
            assert response["ResponseParameters"][named] == "context.requestId"
    assert {"UNAUTHORIZED", "THROTTLED", "QUOTA_EXCEEDED", "DEFAULT_4XX", "DEFAULT_5XX"} <= seen
    assert len(seen) == len(responses)


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_function_environments_are_the_agreed_ones(resources, env):
    shared = {"ENVIRONMENT", "ACCESS_TABLE", "LOG_LEVEL"}
    answering = shared | {"ENDPOINT_NAME", "MODEL_NAME", "MODEL_VERSION", "MODELS"}
    answering |= {"RECORDS_TABLE", "RECORD_TTL_DAYS"}
    pages = {"CORS_ORIGINS"} if env != "prod" else set()  # the only one whose settings name no origin
    answering |= pages
    asking = answering | {"MAX_BODY_BYTES", "RESPONSES_KEPT_SECONDS"}
    places = {"WORK_TABLE", "WORK_BUCKET", "JOBS_QUEUE"}
    making = places | {"JOBS_OPEN_PER_KEY", "JOBS_DEADLINE_SECONDS", "JOBS_RETENTION_SECONDS"}
    limits = {"MAX_BODY_BYTES", "JOBS_MAX_FILE_BYTES", "JOBS_MAX_LINES"}
    streaming = {"AWS_LAMBDA_EXEC_WRAPPER"}
    expected = {
        "authorizer": shared,
        "api": answering,
        "inference": asking | making | streaming | {"CACHE_MAX_SECONDS"},
        "jobs": shared | making | limits | streaming | pages,
        "job_worker": asking | places | {"JOBS_PARALLEL", "JOBS_REQUEST_SECONDS"},
    }

    for name, names in expected.items():
        variables = function(resources, env, name)["Environment"]["Variables"]
        assert set(variables) == names
        assert variables["ENVIRONMENT"] == env


def test_environment_values_come_from_settings_and_the_other_stacks(resources, template_json):
    variables = function(resources, "local", "inference")["Environment"]["Variables"]
    parameters = template_json("local", "gateway")["Parameters"]

    assert variables["ENDPOINT_NAME"] == "evergreen-local"
    assert variables["MODEL_NAME"] == "smollm2-135m-instruct"
    assert variables["RECORD_TTL_DAYS"] == "7"
    assert variables["MAX_BODY_BYTES"] == "1048576"
    assert variables["MODEL_VERSION"] == {"Ref": "ModelVersion"}
    assert parameters["ModelVersion"]["Type"] == "AWS::SSM::Parameter::Value<String>"
    assert parameters["ModelVersion"]["Default"] == "/evergreen-local/champion-version"
    assert "AccessTable" in variables["ACCESS_TABLE"]["Fn::ImportValue"]
    assert "RecordsTable" in variables["RECORDS_TABLE"]["Fn::ImportValue"]
    assert variables["AWS_LAMBDA_EXEC_WRAPPER"] == "/var/task/lambdas/runtime/stream_bootstrap"


def test_the_version_is_read_where_the_serving_stack_writes_it(template, template_json):
    name = template_json("prod", "gateway")["Parameters"]["ModelVersion"]["Default"]

    template("prod", "serving").has_resource_properties(
        "AWS::SSM::Parameter", {"Name": name, "Value": {"Ref": "ChampionModelVersion"}}
    )


def test_functions_run_where_the_settings_say(resources):
    for name in ("inference", "api", "authorizer", "jobs", "job_worker"):
        properties = function(resources, "prod", name)
        assert (properties["Runtime"], properties["Architectures"]) == ("python3.14", ["arm64"])
        assert properties["TracingConfig"] == {"Mode": "Active"}


def test_the_function_holds_what_the_machines_hold(resources):
    """Above that callers get our 503 with Retry-After; above the function's concurrency, a server error."""
    environment = load("staging")
    settings, (embeddings,) = environment.endpoint, environment.models
    assert settings.kind == "realtime"
    assert embeddings.endpoint.kind == "serverless"
    machines = settings.instances.max + settings.instances.min  # a challenger of two beside three
    each = settings.engine.max_running_requests + settings.engine.max_queued_requests

    reserved = function(resources, "staging", "inference")["ReservedConcurrentExecutions"]
    assert reserved == math.ceil(1.1 * (machines * each + embeddings.endpoint.max_concurrency))
    # Six machines of 192 requests are more than the account has to reserve.
    assert function(resources, "prod", "inference")["ReservedConcurrentExecutions"] == 900
    assert "ReservedConcurrentExecutions" not in function(resources, "dev", "inference")


LOGS = {"logs:CreateLogStream", "logs:PutLogEvents"}
TRACES = {"xray:PutTraceSegments", "xray:PutTelemetryRecords"}
ITEMS = {f"dynamodb:{action}Item" for action in ("Get", "Put", "Update", "Delete")}
OBJECTS = {f"s3:{action}Object" for action in ("Get", "Put", "Delete")}
WRITE_KEYS = {"kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Authorizer", LOGS | TRACES | {"dynamodb:GetItem", "kms:Decrypt"}),
        (
            "Api",
            LOGS
            | TRACES
            | WRITE_KEYS
            | {"dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:PutItem", "dynamodb:Query"},
        ),
        (
            "Inference",
            LOGS
            | TRACES
            | WRITE_KEYS
            | {
                "dynamodb:GetItem",
                "dynamodb:BatchGetItem",
                "dynamodb:PutItem",
                "dynamodb:UpdateItem",
                "dynamodb:DeleteItem",
                "dynamodb:Query",
                "s3:PutObject",
                "sqs:SendMessage",
                "sagemaker:InvokeEndpointWithResponseStream",
            },
        ),
        ("Jobs", LOGS | TRACES | WRITE_KEYS | ITEMS | OBJECTS | {"dynamodb:Query", "sqs:SendMessage"}),
        (
            "Worker",
            LOGS
            | TRACES
            | WRITE_KEYS
            | ITEMS
            | OBJECTS
            | {
                "dynamodb:BatchGetItem",
                "sqs:SendMessage",
                "sqs:ReceiveMessage",
                "sqs:DeleteMessage",
                "sqs:GetQueueAttributes",
                "sagemaker:InvokeEndpointWithResponseStream",
            },
        ),
    ],
)
@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_each_role_holds_exactly_its_actions(resources, env, name, expected):
    granted = actions(resources, env, name)
    # The laptop's further model is on a serverless endpoint, which gives whole answers.
    further = {"sagemaker:InvokeEndpoint"} if env == "local" and name in ("Inference", "Worker") else set()

    assert set(granted) == expected | further
    assert {action for action, on in granted.items() if '"*"' in on} == TRACES


def test_the_inference_function_reads_keys_and_routing_and_writes_records_and_work(resources):
    granted = actions(resources, "prod", "Inference")

    def tables(action):
        return {
            name for on in granted[action] for name in ("Access", "Records", "Work") if f"{name}Table" in on
        }

    assert tables("dynamodb:BatchGetItem") == {"Access"}
    assert tables("dynamodb:GetItem") == {"Work"}
    assert tables("dynamodb:PutItem") == {"Records", "Work"}
    assert tables("dynamodb:UpdateItem") == {"Records"}
    assert tables("dynamodb:DeleteItem") == tables("dynamodb:Query") == {"Work"}
    assert all("WorkBucket" in on and "/tasks/*" in on for on in granted["s3:PutObject"])
    assert all(
        "endpoint/evergreen-prod" in on for on in granted["sagemaker:InvokeEndpointWithResponseStream"]
    )


def test_the_api_function_touches_records_only(resources):
    granted = actions(resources, "prod", "Api")

    for action in ("dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query"):
        assert all("RecordsTable" in on for on in granted[action])


def test_texts_are_kept_only_where_the_settings_say(resources, context, tmp_path):
    """Nowhere in the shipped settings; where asked for, the function may write them and nothing more."""
    kept = load("dev").model_copy(update={"records": RecordSettings(ttl_days=14, keep_text=True)})
    app = cdk.App(context=context, outdir=str(tmp_path))
    compose(app, kept)
    app.synth()
    template = json.loads((tmp_path / "evergreen-dev-gateway.template.json").read_text())

    def now(env, stack, kind):
        return {name: found for name, found in template["Resources"].items() if found["Type"] == kind}

    variables = function(now, "dev", "inference")["Environment"]["Variables"]
    granted, before = actions(now, "dev", "Inference"), actions(resources, "dev", "Inference")
    assert "RecordsBucket" in variables["TRANSCRIPTS_BUCKET"]["Fn::ImportValue"]
    assert set(granted) == set(before)
    (added,) = set(granted["s3:PutObject"]) - set(before["s3:PutObject"])
    assert "/transcripts/*" in added
    assert "TRANSCRIPTS_BUCKET" in function(now, "dev", "job_worker")["Environment"]["Variables"]
    assert "TRANSCRIPTS_BUCKET" not in function(resources, "dev", "inference")["Environment"]["Variables"]


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_tickets_are_encrypted_outlive_a_run_and_end_in_a_queue_of_their_own(resources, env):
    queues = resources(env, "gateway", "AWS::SQS::Queue")
    worker = function(resources, env, "job_worker")
    (mapping,) = resources(env, "gateway", "AWS::Lambda::EventSourceMapping").values()

    assert {queue["Properties"]["QueueName"] for queue in queues.values()} == {
        f"evergreen-{env}-jobs",
        f"evergreen-{env}-jobs-dead",
    }
    for queue in queues.values():
        assert "RecordsKey" in json.dumps(queue["Properties"]["KmsMasterKeyId"])
        assert queue["Properties"]["MessageRetentionPeriod"] > load(env).jobs.deadline_hours * 3600
    (tickets,) = [queue for queue in queues.values() if "RedrivePolicy" in queue["Properties"]]
    assert tickets["Properties"]["VisibilityTimeout"] > worker["Timeout"]
    assert mapping["Properties"]["BatchSize"] == 1
    assert mapping["Properties"]["ScalingConfig"] == {"MaximumConcurrency": load(env).jobs.workers}


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_uploads_reach_the_function_as_bytes(resources, env):
    (api,) = resources(env, "gateway", "AWS::ApiGateway::RestApi").values()

    assert api["Properties"]["BinaryMediaTypes"] == ["multipart/form-data"]


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_functions_use_no_managed_policy(resources, env):
    for name, role in resources(env, "gateway", "AWS::IAM::Role").items():
        assert "ManagedPolicyArns" not in role["Properties"], name


def test_the_accounts_log_role_is_bootstraps_unless_the_settings_ask_for_it(resources, everything):
    """Environments of one account that each set it would take it from one another."""
    for env in ENVIRONMENTS:
        assert resources(env, "gateway", "AWS::ApiGateway::Account") == {}
    (account,) = everything.resources("prod", "gateway", "AWS::ApiGateway::Account").values()
    assert account["DeletionPolicy"] == "Retain"


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_every_log_group_is_encrypted_and_ends(resources, env):
    for stack in ("serving", "gateway"):
        groups = resources(env, stack, "AWS::Logs::LogGroup")
        assert groups
        for group in groups.values():
            assert "KmsKeyId" in group["Properties"]
            assert group["Properties"]["RetentionInDays"] in (7, 30, 90)


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_prompts_pass_the_web_acl_and_floods_do_not(resources, env):
    (acl,) = resources(env, "gateway", "AWS::WAFv2::WebACL").values()
    assert resources(env, "gateway", "AWS::WAFv2::WebACLAssociation")

    rules = {rule["Name"]: rule for rule in acl["Properties"]["Rules"]}
    common, size = rules["CommonRules"], rules["BodySize"]
    inspected = acl["Properties"]["AssociationConfig"]["RequestBody"]["API_GATEWAY"]
    assert inspected == {"DefaultSizeInspectionLimit": "KB_64"}
    # A body limit above what WAF can see is the function's; here it only counts.
    assert (size["Action"], size["Statement"]["SizeConstraintStatement"]["Size"]) == ({"Count": {}}, 65_535)
    overrides = common["Statement"]["ManagedRuleGroupStatement"]["RuleActionOverrides"]
    assert {rule["Name"] for rule in overrides} == set(BODY_RULES)
    assert all(rule["ActionToUse"] == {"Count": {}} for rule in overrides)
    assert len({rule["Priority"] for rule in acl["Properties"]["Rules"]}) == len(rules) == 5


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_the_web_acl_counts_by_key_and_by_address_above_what_the_throttle_allows(resources, env):
    (acl,) = resources(env, "gateway", "AWS::WAFv2::WebACL").values()
    (plan,) = resources(env, "gateway", "AWS::ApiGateway::UsagePlan").values()
    allowed = 300 * plan["Properties"]["Throttle"]["RateLimit"]

    limits = {
        rule["Name"]: rule["Statement"]["RateBasedStatement"]
        for rule in acl["Properties"]["Rules"]
        if "RateBasedStatement" in rule["Statement"]
    }
    by_address = limits.pop("RatePerAddress")
    counted = {name: one["CustomKeys"][0]["Header"]["Name"] for name, one in limits.items()}
    assert counted == {"RatePerKey": "authorization", "RatePerApiKey": "x-api-key"}
    assert all(
        one["AggregateKeyType"] == "CUSTOM_KEYS" and one["Limit"] == 2 * allowed for one in limits.values()
    )
    # Another key for each request changes nothing for an address.
    assert (by_address["AggregateKeyType"], by_address["Limit"]) == ("IP", 4 * allowed)


@pytest.mark.parametrize(("env", "cors"), [("prod", False), ("dev", True)])
def test_a_flood_gets_429_as_clients_know_it(resources, env, cors):
    (acl,) = resources(env, "gateway", "AWS::WAFv2::WebACL").values()
    bodies = acl["Properties"]["CustomResponseBodies"]
    blocks = [
        rule["Action"]["Block"]["CustomResponse"]
        for rule in acl["Properties"]["Rules"]
        if "RateBasedStatement" in rule["Statement"]
    ]

    assert len(blocks) == 3
    for block in blocks:
        assert block["ResponseCode"] == 429
        headers = {one["Name"]: one["Value"] for one in block["ResponseHeaders"]}
        assert 0 < int(headers.pop("Retry-After")) <= 60
        assert headers == ({"Access-Control-Allow-Origin": "*"} if cors else {})
        body = bodies[block["CustomResponseBodyKey"]]
        assert body["ContentType"] == "APPLICATION_JSON"
        assert len(body["Content"]) < 4096  # what WAF takes
        error = ErrorReply.model_validate_json(body["Content"]).error
        assert (error.type, error.code) == ("rate_limit_error", "rate_limit_exceeded")


def test_browsers_may_call_from_the_origins_of_the_settings_only(resources):
    def preflights(env):
        methods = resources(env, "gateway", "AWS::ApiGateway::Method").values()
        return [m["Properties"] for m in methods if m["Properties"]["HttpMethod"] == "OPTIONS"]

    assert preflights("prod") == []
    allowed = json.dumps(preflights("dev"))
    assert "http://localhost:3000" in allowed
    assert "'*'" not in re.findall(r"Access-Control-Allow-Origin\": \"([^\"]*)\"", allowed)


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_outputs_are_the_agreed_ones_and_the_url_ends_in_v1(template_json, env):
    outputs = template_json(env, "gateway")["Outputs"]

    assert set(outputs) == {"RestApiId", "StageName", "ApiUrl", "UsagePlanId"}
    assert outputs["ApiUrl"]["Value"]["Fn::Join"][1][-1] == "/v1"


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_no_stack_needs_a_custom_resource(template_json, env):
    for stack in ("data", "serving", "gateway"):
        kinds = {resource["Type"] for resource in template_json(env, stack)["Resources"].values()}
        assert not {kind for kind in kinds if kind.startswith("Custom::") or "CustomResource" in kind}


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_everything_that_can_be_tagged_is(resources, env):
    expected = {"project": "evergreen", "environment": env}
    taggable = {
        "data": ["AWS::S3::Bucket", "AWS::DynamoDB::Table", "AWS::KMS::Key"],
        "serving": ["AWS::SageMaker::Endpoint", "AWS::SageMaker::EndpointConfig", "AWS::SageMaker::Model"],
        "gateway": ["AWS::Lambda::Function", "AWS::ApiGateway::RestApi", "AWS::IAM::Role"],
    }
    for stack, kinds in taggable.items():
        for kind in kinds:
            for resource in resources(env, stack, kind).values():
                tags = {tag["Key"]: tag["Value"] for tag in resource["Properties"]["Tags"]}
                assert expected.items() <= tags.items()


# --- what settings switch on -----------------------------------------------------------------------------


def added(everything, resources: Callable, name: str) -> dict[str, list[str]]:
    """What a role holds with everything on that it does not hold without."""
    before = actions(resources, "prod", name)
    granted = actions(everything.resources, "prod", name)
    return {action: on for action, on in granted.items() if before.get(action) != on}


def test_prices_and_tracing_reach_the_functions_only_where_they_are_set(everything, resources):
    for name in ("inference", "job_worker"):
        unset = function(resources, "prod", name)["Environment"]["Variables"]
        given = function(everything.resources, "prod", name)["Environment"]["Variables"]
        assert not {"INPUT_TOKEN_PRICE", "OUTPUT_TOKEN_PRICE", "TRACING"} & set(unset)
        assert (given["INPUT_TOKEN_PRICE"], given["OUTPUT_TOKEN_PRICE"]) == ("0.1", "0.4")
        assert json.loads(given["TRACING"]) == {"kind": "xray"}


def test_each_option_brings_its_permission_and_no_other(everything, resources):
    granted = added(everything, resources, "Inference")

    assert set(granted) == {
        "bedrock:ApplyGuardrail",
        "bedrock:InvokeGuardrailChecks",
        "bedrock:InvokeModel",
        "bedrock:InvokeModelWithResponseStream",
        "dynamodb:GetItem",
        "sagemaker:InvokeEndpointWithResponseStream",
        "xray:PutSpans",
    }
    assert "AccessTable" in granted["dynamodb:GetItem"][-1]
    # Nobody who signs a request reaches the worker.
    assert added(everything, resources, "Worker").keys() == granted.keys() - {"dynamodb:GetItem"}
    assert all("guardrail/gr1" in on for on in granted["bedrock:ApplyGuardrail"])
    assert all("foundation-model/openai.gpt-oss-20b-1:0" in on for on in granted["bedrock:InvokeModel"])
    (endpoints,) = granted["sagemaker:InvokeEndpointWithResponseStream"]
    assert endpoints.count("endpoint/") == 2
    assert "endpoint/evergreen-prod" in endpoints
    assert re.search(r":us-west-2:[^\]]*endpoint/small", endpoints)
    assert "AccessTable" in added(everything, resources, "Api")["dynamodb:GetItem"][-1]
    assert added(everything, resources, "Authorizer") == {}


def test_options_reach_the_functions_as_they_read_them(everything):
    variables = function(everything.resources, "prod", "inference")["Environment"]["Variables"]

    guards = GuardSettings.model_validate_json(variables["GUARDS"])
    assert (guards.mask_pii, guards.toxicity, guards.bedrock.version) == (True, ToxicitySettings(), "2")
    kinds = [target["kind"] for target in json.loads(variables["FALLBACKS"])]
    assert kinds == ["endpoint", "bedrock"]
    authorizer = function(everything.resources, "prod", "authorizer")["Environment"]["Variables"]
    (issuer,) = json.loads(authorizer["JWT_ISSUERS"])
    assert TokenIssuer.model_validate(issuer).jwks_url == ISSUER["jwks_url"]


def test_other_accounts_reach_the_signed_routes_only(everything):
    (api,) = everything.resources("prod", "gateway", "AWS::ApiGateway::RestApi").values()

    everybody, others = api["Properties"]["Policy"]["Statement"]
    assert everybody["Principal"] == {"AWS": "*"}
    assert "execute-api:/prod/GET/health" in everybody["Resource"]
    # A star reaches over slashes: none may stand before the route.
    assert not [on for on in everybody["Resource"] if "iam" in on or "*" in on.removesuffix("*")]
    assert "444455556666" in json.dumps(others["Principal"])
    assert all("/iam/v1/" in on for on in others["Resource"])


def test_a_domain_speaks_the_tls_asked_for_and_closes_the_other_name(everything):
    (domain,) = everything.resources("prod", "gateway", "AWS::ApiGateway::DomainName").values()
    (api,) = everything.resources("prod", "gateway", "AWS::ApiGateway::RestApi").values()

    assert domain["Properties"]["SecurityPolicy"] == "SecurityPolicy_TLS13_1_3_2025_09"
    assert domain["Properties"]["EndpointConfiguration"] == {"Types": ["REGIONAL"]}
    assert api["Properties"]["DisableExecuteApiEndpoint"] is True
    assert everything.template["Outputs"]["ApiUrl"]["Value"] == "https://api.example.com/v1"
    assert "DomainTarget" in everything.template["Outputs"]


def test_a_body_limit_that_waf_can_see_is_held_there(everything):
    (acl,) = everything.resources("prod", "gateway", "AWS::WAFv2::WebACL").values()

    (size,) = [rule for rule in acl["Properties"]["Rules"] if rule["Name"] == "BodySize"]
    constraint = size["Statement"]["SizeConstraintStatement"]
    assert (size["Action"], constraint["Size"]) == ({"Block": {}}, 32_768)
    assert constraint["FieldToMatch"] == {"Body": {"OversizeHandling": "MATCH"}}


def test_a_met_fence_says_which_and_when(resources):
    responses = resources("prod", "gateway", "AWS::ApiGateway::GatewayResponse").values()
    by_type = {entry["Properties"]["ResponseType"]: entry["Properties"] for entry in responses}

    throttled, quota = by_type["THROTTLED"], by_type["QUOTA_EXCEEDED"]
    assert "100 requests per second" in throttled["ResponseTemplates"]["application/json"]
    assert throttled["ResponseParameters"]["gatewayresponse.header.Retry-After"] == "'1'"
    assert "10000000 requests per month" in quota["ResponseTemplates"]["application/json"]
    limit = quota["ResponseParameters"]["gatewayresponse.header.x-ratelimit-limit-requests"]
    assert limit == "'10000000'"
