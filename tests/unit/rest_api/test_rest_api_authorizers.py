"""Lambda authorizers: who is asked, what is cached, and every way to be refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.access import AccessKey, key_pk
from lambdas.authorizer.claims import AuthorizationError
from lambdas.authorizer.service import Authorizer
from local.cloud.rest_api.policies import PolicyError, decide
from tests.support.rest_api import header, uri

ARN = "arn:aws:execute-api:us-east-1:123456789012:api1/live/"


def allow(event, resource=None, **more):
    statement = {
        "Effect": "Allow",
        "Action": "execute-api:Invoke",
        "Resource": resource or event["methodArn"],
    }
    return {"principalId": "tenant", "policyDocument": {"Statement": [statement]}, **more}


@pytest.fixture
def guard(rest_api):
    """Give the API an authorizer: `guard(function, ttl=…)` protects GET /x and POST /y."""

    def install(function, *, type="REQUEST", source="method.request.header.Authorization", ttl=300, **more):
        rest_api.proxy(function)
        rest_api.authorizers.append(
            {
                "id": "auth",
                "type": type,
                "authorizerUri": uri(f"f{len(rest_api.functions_by_name) - 1}"),
                "identitySource": source,
                "authorizerResultTtlInSeconds": ttl,
                **more,
            }
        )
        rest_api.route("GET", "/x", authorizationType="CUSTOM", authorizerId="auth")
        rest_api.route("POST", "/y", authorizationType="CUSTOM", authorizerId="auth")

    return install


CALLER = {"Authorization": "Bearer secret"}


def test_a_missing_identity_source_is_a_401_that_asks_nobody(rest_api, guard):
    guard(allow)
    reply = rest_api.call("GET", "/x")
    assert (reply.status, reply.body) == (401, b'{"message":"Unauthorized"}')
    assert header(reply, "x-amzn-ErrorType") == ["UnauthorizedException"]
    assert rest_api.events == []


def test_every_identity_source_must_be_there(rest_api, guard):
    guard(allow, source="method.request.header.Authorization, method.request.querystring.tenant")
    assert rest_api.call("GET", "/x", CALLER).status == 401
    assert rest_api.call("GET", "/x?tenant=a", CALLER).status == 200


def test_an_allowed_caller_reaches_the_function_with_the_context_as_strings(rest_api, guard):
    guard(lambda event: allow(event, context={"tenant": "a", "admin": True, "limit": 5, "none": None}))
    context = json.loads(rest_api.call("GET", "/x", CALLER).body)["requestContext"]["authorizer"]
    assert context.pop("integrationLatency") >= 0
    assert context == {"tenant": "a", "admin": "true", "limit": "5", "principalId": "tenant"}
    assert rest_api.events[0]["type"] == "REQUEST"
    assert rest_api.events[0]["methodArn"] == ARN + "GET/x"
    assert rest_api.events[0]["headers"]["authorization"] == "Bearer secret"
    assert "body" not in rest_api.events[0]


def test_a_token_authorizer_gets_the_token(rest_api, guard):
    guard(allow, type="TOKEN", source=None, identityValidationExpression="Bearer .+")
    assert rest_api.call("GET", "/x", {"Authorization": "nonsense"}).status == 401
    assert rest_api.events == []
    assert rest_api.call("GET", "/x", CALLER).status == 200
    assert rest_api.events[0] == {
        "type": "TOKEN",
        "methodArn": ARN + "GET/x",
        "authorizationToken": "Bearer secret",
    }


def test_the_answer_is_cached_by_the_identity_values(rest_api, guard):
    guard(lambda event: allow(event, resource="*"))
    for headers in (CALLER, CALLER, {"Authorization": "other"}):
        assert rest_api.call("GET", "/x", headers).status == 200
    assert [event.get("type") for event in rest_api.events].count("REQUEST") == 2


class Keys(dict):
    """Access keys by tenant, found as in the access table."""

    def find(self, pk):
        return next((key for key in self.values() if key.pk == pk), None)

    def add(self, tenant):
        secret = f"eg-{tenant:x<43}"
        self[tenant] = AccessKey(
            pk=key_pk(secret),
            tenant=tenant,
            name="web",
            usage_identifier=tenant,
            scopes=["inference"],
            created_at=1,
        )
        return secret


@pytest.mark.parametrize("authorization", ["Basic Zm9v", "Token a", "ApiKey x", "Bearer", "Bearer "])
@pytest.mark.parametrize("other", ["x-api-key", "X-Api-Key", "api-key", "proxy-authorization", "cookie"])
def test_our_authorizer_decides_by_what_its_answer_is_cached_under(rest_api, guard, authorization, other):
    keys = Keys()
    alpha, beta = keys.add("alpha"), keys.add("beta")
    authorizer = Authorizer(keys)

    def admit(event):
        try:
            return authorizer.admit(event)
        except AuthorizationError as refusal:
            raise ArithmeticError("Unauthorized") from refusal

    guard(admit, ttl=60)
    shared = {"Authorization": authorization}
    for own in ({}, {other: alpha}, {}, {other: beta}, {other: f"Bearer {alpha}"}):
        assert rest_api.call("GET", "/x", shared | own).status == 401
    for tenant, secret in (("alpha", alpha), ("beta", beta), ("alpha", alpha)):
        reply = rest_api.call("GET", "/x", {"Authorization": f"Bearer {secret}", other: beta})
        assert json.loads(reply.body)["requestContext"]["authorizer"]["tenant"] == tenant


def test_an_authorizer_without_identity_sources_is_always_asked(rest_api, guard):
    guard(allow, source="", ttl=0)
    for headers in ({}, CALLER):
        assert rest_api.call("GET", "/x", headers).status == 200
    assert [event.get("type") for event in rest_api.events].count("REQUEST") == 2


def test_a_ttl_of_zero_asks_every_time(rest_api, guard):
    guard(allow, ttl=0)
    for _ in range(2):
        assert rest_api.call("GET", "/x", CALLER).status == 200
    assert [event.get("type") for event in rest_api.events].count("REQUEST") == 2


def test_a_cached_policy_is_judged_for_the_method_it_meets(rest_api, guard):
    """The classic trap: a policy for one method, cached, refuses the same caller on another."""
    guard(allow)
    assert rest_api.call("GET", "/x", CALLER).status == 200
    reply = rest_api.call("POST", "/y", CALLER)
    assert (reply.status, reply.body) == (
        403,
        b'{"Message":"User is not authorized to access this resource"}',
    )
    assert header(reply, "x-amzn-ErrorType") == ["AccessDeniedException"]


def test_an_explicit_deny_says_so(rest_api, guard):
    deny = {"Effect": "Deny", "Action": "*", "Resource": "*"}
    guard(lambda event: {"principalId": "t", "policyDocument": {"Statement": [deny]}})
    reply = rest_api.call("GET", "/x", CALLER)
    assert reply.status == 403
    assert b"with an explicit deny" in reply.body


def test_raising_unauthorized_is_a_401(rest_api, guard):
    def refuse(event):
        raise ArithmeticError("Unauthorized")

    guard(refuse)
    reply = rest_api.call("GET", "/x", CALLER)
    assert (reply.status, reply.body) == (401, b'{"message":"Unauthorized"}')


def test_any_other_failure_is_a_500(rest_api, guard):
    guard(lambda event: 1 / 0)
    reply = rest_api.call("GET", "/x", CALLER)
    assert (reply.status, reply.body) == (500, b'{"message":null}')
    assert header(reply, "x-amzn-ErrorType") == ["AuthorizerConfigurationException"]


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "allow",
        {},
        {"principalId": "t", "policyDocument": "text"},
        {"principalId": "t", "policyDocument": {}},
        {"principalId": "t", "policyDocument": {"Statement": [{"Effect": "Maybe"}]}},
        {"policyDocument": {"Statement": []}, "context": {"nested": {"a": 1}}},
        {"policyDocument": {"Statement": []}, "context": "text"},
    ],
)
def test_a_malformed_answer_is_a_500_and_is_not_let_through(rest_api, guard, answer):
    guard(lambda event: answer)
    reply = rest_api.call("GET", "/x", CALLER)
    assert (reply.status, reply.body) == (500, b'{"message": "Internal server error"}')
    assert header(reply, "x-amzn-ErrorType") == ["AuthorizerConfigurationException"]


def test_an_authorizer_that_may_not_be_invoked_is_a_500(rest_api, guard):
    guard(allow)
    rest_api.denied_functions.add("f0")
    assert rest_api.call("GET", "/x", CALLER).status == 500


def test_an_iam_method_takes_only_a_verified_caller(rest_api):
    rest_api.route("GET", "/x", authorizationType="AWS_IAM")
    reply = rest_api.call("GET", "/x", {"Authorization": "AWS4-HMAC-SHA256 made up"})
    assert (reply.status, reply.body) == (403, b'{"message":"Missing Authentication Token"}')
    rest_api.signed_by = "arn:aws:iam::123456789012:role/caller"
    identity = json.loads(rest_api.call("GET", "/x").body)["requestContext"]["identity"]
    assert (identity["userArn"], identity["accountId"]) == (rest_api.signed_by, "123456789012")


def test_a_resource_policy_guards_every_method(rest_api):
    rest_api.api["policy"] = json.dumps(
        {
            "Statement": {
                "Effect": "Allow",
                "Principal": "*",
                "Action": "execute-api:Invoke",
                "Resource": ARN + "GET/*",
            }
        }
    )
    rest_api.route("GET", "/x")
    rest_api.route("POST", "/x")
    assert rest_api.call("GET", "/x").status == 200
    assert rest_api.call("POST", "/x").status == 403


def statement(effect, resource, action="execute-api:Invoke"):
    return {"Effect": effect, "Action": action, "Resource": resource}


@pytest.mark.parametrize(
    ("statements", "decision"),
    [
        ([statement("Allow", ARN + "GET/x")], "Allow"),
        ([statement("Allow", ARN + "*/x")], "Allow"),
        ([statement("Allow", ARN.replace("live", "*") + "GE?/x")], "Allow"),
        ([statement("Allow", [ARN + "POST/x", ARN + "GET/*"])], "Allow"),
        ([statement("Allow", "*", "EXECUTE-API:*")], "Allow"),
        ([statement("Allow", "*", "lambda:*")], "None"),
        ([statement("Allow", ARN + "GET/X")], "None"),
        ([statement("Allow", ARN + "[G]ET/x")], "None"),
        ([statement("Allow", "*"), statement("Deny", ARN + "GET/*")], "Deny"),
        ([{"Effect": "Allow", "Action": "*", "NotResource": ARN + "GET/x"}], "None"),
        ([{"Effect": "Allow", "NotAction": "lambda:*", "Resource": "*"}], "Allow"),
        ([], "None"),
    ],
)
def test_a_policy_document_decides(statements, decision):
    assert decide({"Statement": statements}, ARN + "GET/x") == decision


@pytest.mark.parametrize(
    "document",
    [
        None,
        {},
        {"Statement": ["text"]},
        {"Statement": [{"Effect": "Allow", "Action": "*"}]},
        {"Statement": [{**statement("Allow", "*"), "Condition": {"Bool": {"aws:SecureTransport": "true"}}}]},
    ],
)
def test_what_cannot_be_evaluated_is_refused(document):
    with pytest.raises(PolicyError):
        decide(document, ARN + "GET/x")


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_resource_without_wildcards_allows_itself_alone(resource, other):
    plain = "r" + resource.replace("*", "").replace("?", "")
    document = {"Statement": [statement("Allow", plain)]}
    assert decide(document, plain) == "Allow"
    assert (decide(document, "r" + other) == "Allow") == ("r" + other == plain)
