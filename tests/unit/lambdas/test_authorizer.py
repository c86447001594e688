"""The authorizer through its entry point, and the command that makes and revokes keys."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from contracts.access import AccessKey, key_pk
from infra.settings import load
from lambdas.aws.dynamodb import from_item, to_item
from operations import keys as admin

SECRET = "eg-" + "s" * 43
METHOD_ARN = "arn:aws:execute-api:us-east-1:123456789012:api1/dev/POST/v1/chat/completions"
Admit = Callable[..., dict[str, Any]]


@pytest.fixture
def admit(tables: Any, monkeypatch: pytest.MonkeyPatch) -> Admit:
    """Ask the entry point with these headers."""
    monkeypatch.setenv("ENVIRONMENT", "test")
    monkeypatch.setenv("ACCESS_TABLE", "access")
    import lambdas.authorizer.handler as module

    module = importlib.reload(module)

    def ask(**headers: str) -> dict[str, Any]:
        event = {
            "methodArn": METHOD_ARN,
            "headers": {name.replace("_", "-"): value for name, value in headers.items()},
            "requestContext": {"requestId": "r"},
        }
        return dict(module.handler(event, None))

    return ask


def put_key(tables: Any, **changes: Any) -> None:
    key = AccessKey(
        pk=key_pk(SECRET),
        tenant="shop",
        name="web",
        usage_identifier="u" * 40,
        scopes=["inference", "choose-variant"],
        created_at=1,
    )
    tables.put_item(TableName="access", Item=to_item(key.model_copy(update=changes).model_dump()))


@pytest.mark.parametrize(
    "headers",
    [{"Authorization": f"Bearer {SECRET}"}, {"authorization": f"bearer  {SECRET}"}],
)
def test_a_valid_key_lets_its_tenant_in(admit: Admit, tables: Any, headers: dict[str, str]) -> None:
    put_key(tables)
    answer = admit(**headers)
    assert answer["context"] == {
        "tenant": "shop",
        "key_name": "web",
        "scopes": "inference choose-variant",
        "key_id": key_pk(SECRET)[4:16],
    }
    assert answer["usageIdentifierKey"] == "u" * 40
    (statement,) = answer["policyDocument"]["Statement"]
    assert (statement["Effect"], statement["Action"]) == ("Allow", "execute-api:Invoke")
    # The answer is cached for the key: it must hold on every route, of this stage only.
    assert statement["Resource"] == "arn:aws:execute-api:us-east-1:123456789012:api1/dev/*"
    assert SECRET not in json.dumps(answer)


@pytest.fixture
def admit_api_key(admit: Admit) -> Admit:
    """Ask the entry point as the authorizer of `x-api-key` does, which shows the header's value alone."""
    import lambdas.authorizer.handler as module

    def ask(value: str) -> dict[str, Any]:
        event = {"type": "TOKEN", "methodArn": METHOD_ARN, "authorizationToken": value}
        return dict(module.handler(event, SimpleNamespace(aws_request_id="r")))

    return ask


def test_the_authorizer_of_the_other_header_says_the_same_of_a_key(
    admit: Admit, admit_api_key: Admit, tables: Any
) -> None:
    put_key(tables)
    assert admit_api_key(SECRET) == admit(Authorization=f"Bearer {SECRET}")


@pytest.mark.parametrize("value", [f"Bearer {SECRET}", "eg-other", " ", f"{SECRET}\0", "x" * 10_000])
def test_there_the_key_stands_by_itself(admit_api_key: Admit, tables: Any, value: str) -> None:
    put_key(tables)
    with pytest.raises(Exception, match=r"^Unauthorized$"):
        admit_api_key(value)


def test_limits_of_a_key_reach_the_functions_behind(admit: Admit, tables: Any) -> None:
    put_key(tables, requests_per_day=5, tokens_per_day=1_000)
    context = admit(Authorization=f"Bearer {SECRET}")["context"]
    assert (context["requests_per_day"], context["tokens_per_day"]) == ("5", "1000")


@pytest.mark.parametrize(
    ("changes", "headers"),
    [
        pytest.param({}, {}, id="no header"),
        pytest.param({}, {"Authorization": "Basic abc"}, id="another scheme"),
        pytest.param({}, {"x_api_key": SECRET}, id="a header that is no identity source"),
        pytest.param(
            {}, {"Authorization": "Basic abc", "x_api_key": SECRET}, id="that beside another scheme"
        ),
        pytest.param({}, {"Authorization": "Bearer "}, id="empty key"),
        pytest.param({}, {"Authorization": "Bearer eg-other"}, id="unknown key"),
        pytest.param({}, {"Authorization": "Bearer " + "x" * 10_000}, id="enormous key"),
        pytest.param({}, {"Authorization": f"Bearer {SECRET}\0"}, id="control characters"),
        pytest.param({"revoked": True}, {"Authorization": f"Bearer {SECRET}"}, id="revoked"),
        pytest.param({"expires_at": 5}, {"Authorization": f"Bearer {SECRET}"}, id="expired"),
    ],
)
def test_everything_else_is_refused_in_the_same_words(
    admit: Admit,
    tables: Any,
    changes: dict[str, Any],
    headers: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    put_key(tables, **changes)
    with pytest.raises(Exception, match=r"^Unauthorized$") as caught:
        admit(**headers)
    assert type(caught.value) is Exception
    assert SECRET not in capsys.readouterr().out


def test_a_key_that_expires_later_is_valid(admit: Admit, tables: Any) -> None:
    put_key(tables, expires_at=int(time.time()) + 3600)
    assert admit(Authorization=f"Bearer {SECRET}")["principalId"] == "shop"


def test_a_table_that_fails_is_no_refusal(admit: Admit, tables: Any) -> None:
    tables.delete_table(TableName="access")
    # API Gateway answers 401 to `Unauthorized`, 500 to anything else: an outage is no bad key.
    with pytest.raises(Exception) as caught:
        admit(Authorization=f"Bearer {SECRET}")
    assert str(caught.value) != "Unauthorized"


# --- the command -----------------------------------------------------------------------------------------


class Operator:
    """Clients for the command: the real table in moto, stubs for API Gateway and CloudFormation."""

    def __init__(self, tables: Any) -> None:
        self.dynamodb = tables
        self.apigateway = boto3.client("apigateway")
        self.cloudformation = boto3.client("cloudformation")
        self.gateway = Stubber(self.apigateway)
        self.stacks = Stubber(self.cloudformation)
        self.stacks.activate()
        self.gateway.activate()

    def __call__(self, service: str) -> Any:
        return getattr(self, service)

    def stack(self, name: str, **outputs: str) -> None:
        described = {
            "StackName": name,
            "CreationTime": "2026-01-01T00:00:00Z",
            "StackStatus": "UPDATE_COMPLETE",
            "Outputs": [{"OutputKey": key, "OutputValue": value} for key, value in outputs.items()],
        }
        self.stacks.add_response("describe_stacks", {"Stacks": [described]}, {"StackName": name})

    def no_gateway_key_yet(self) -> None:
        self.gateway.add_response("get_api_keys", {"items": []})
        self.gateway.add_response(
            "create_api_key", {"id": "k1", "name": "evergreen-dev-shop", "value": "v" * 40}
        )
        self.gateway.add_response(
            "create_usage_plan_key", {}, {"usagePlanId": "plan", "keyId": "k1", "keyType": "API_KEY"}
        )

    def gateway_key_under_the_plan(self) -> None:
        items = [
            {"id": "k0", "name": "evergreen-dev-shop-two", "value": "w" * 40},
            {"id": "k1", "name": "evergreen-dev-shop", "value": "v" * 40},
        ]
        self.gateway.add_response("get_api_keys", {"items": items})
        self.gateway.add_client_error("create_usage_plan_key", "ConflictException", http_status_code=409)


@pytest.fixture
def operator(tables: Any, monkeypatch: pytest.MonkeyPatch) -> Operator:
    made = Operator(tables)
    target = SimpleNamespace(name="dev", client=made, settings=load("dev"))
    monkeypatch.setattr(admin, "open_target", lambda env: target)  # identity: tests/unit/operations
    made.stack("evergreen-dev-data", AccessTableName="access")
    return made


def test_a_new_key_opens_the_door(
    operator: Operator, admit: Admit, capsys: pytest.CaptureFixture[str]
) -> None:
    operator.no_gateway_key_yet()
    operator.stack("evergreen-dev-gateway", UsagePlanId="plan")
    assert admin.main(["create", "--env", "dev", "--tenant", "shop", "--name", "web", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)

    assert made["tenant"] == "shop"
    answer = admit(Authorization=f"Bearer {made['api_key']}")
    assert answer["context"] == {
        "tenant": "shop",
        "key_name": "web",
        "scopes": "inference",
        "key_id": key_pk(made["api_key"])[4:16],
    }
    assert answer["usageIdentifierKey"] == "v" * 40
    operator.gateway.assert_no_pending_responses()


def test_the_secret_is_not_kept(operator: Operator, capsys: pytest.CaptureFixture[str]) -> None:
    operator.no_gateway_key_yet()
    operator.stack("evergreen-dev-gateway", UsagePlanId="plan")
    admin.main(["create", "--env", "dev", "--json"])
    secret = json.loads(capsys.readouterr().out)["api_key"]
    assert secret not in json.dumps(operator.dynamodb.scan(TableName="access")["Items"])


@pytest.mark.parametrize("content", [f"{SECRET}\n", json.dumps({"api_key": SECRET, "tenant": "shop"})])
def test_a_given_key_is_registered_and_a_tenants_gateway_key_is_used_again(
    operator: Operator, admit: Admit, tmp_path: Path, content: str
) -> None:
    kept = tmp_path / "key.json"
    kept.write_text(content)
    operator.gateway_key_under_the_plan()
    operator.stack("evergreen-dev-gateway", UsagePlanId="plan")
    arguments = ["create", "--env", "dev", "--tenant", "shop", "--expires-days", "1"]
    arguments += ["--key-file", str(kept)]
    assert admin.main(arguments) == 0
    assert admit(Authorization=f"Bearer {SECRET}")["usageIdentifierKey"] == "v" * 40
    (item,) = operator.dynamodb.scan(TableName="access")["Items"]
    key = from_item(item)
    assert key["expires_at"] - key["created_at"] == 86_400


def test_keys_are_listed_and_revoked_by_id(
    operator: Operator, admit: Admit, tables: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    put_key(tables)
    shown = AccessKey.model_validate(from_item(tables.scan(TableName="access")["Items"][0])).id
    assert admin.main(["list", "--env", "dev"]) == 0
    listed = capsys.readouterr().out
    assert shown in listed
    assert "valid" in listed

    operator.stack("evergreen-dev-data", AccessTableName="access")
    assert admin.main(["revoke", "--env", "dev", "--id", shown]) == 0
    with pytest.raises(Exception, match=r"^Unauthorized$"):
        admit(Authorization=f"Bearer {SECRET}")


def test_an_id_that_names_no_key_is_an_error(operator: Operator, capsys: pytest.CaptureFixture[str]) -> None:
    assert admin.main(["revoke", "--env", "dev", "--id", "ffff"]) == 1
    assert "0 keys" in capsys.readouterr().err


def test_no_key_is_made_with_a_budget_that_nothing_would_ever_be_spent_of(
    operator: Operator, tables: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert admin.main(["create", "--env", "dev", "--usd-per-month", "10"]) == 1
    assert "model.input_token_price" in capsys.readouterr().err
    assert tables.scan(TableName="access")["Items"] == []


def test_a_missing_stack_is_one_clear_sentence(
    tables: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Operator(tables)
    target = SimpleNamespace(name="dev", client=made, settings=load("dev"))
    monkeypatch.setattr(admin, "open_target", lambda env: target)
    made.stacks.add_client_error("describe_stacks", "ValidationError", "Stack with id x does not exist")
    assert admin.main(["list", "--env", "dev"]) == 1
    assert (
        capsys.readouterr().err == "\nevergreen: stack evergreen-dev-data: Stack with id x does not exist\n"
    )
