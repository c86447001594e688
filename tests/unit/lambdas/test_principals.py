"""Callers with AWS credentials: from the ARN API Gateway has checked to a tenant, at both functions."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from contracts.access import AccessKey, principal_pk
from lambdas.aws.access_table import AccessTable
from lambdas.aws.dynamodb import DynamoDB, to_item
from lambdas.pipeline.principals import admit_principal
from lambdas.runtime import http_event as requests
from lambdas.runtime.errors import ApiError
from tests.support.front_door import SETTINGS, Door, chat
from tests.support.jobs_api import Jobs, line

ROLE = "arn:aws:iam::123456789012:role/team/web"
SESSION = "arn:aws:sts::123456789012:assumed-role/web/session-1"


def admit(tables: Any, arn: str = ROLE, **changes: Any) -> None:
    fields = {"tenant": "shop", "name": "iam", "scopes": ["inference"], "created_at": 1, **changes}
    row = AccessKey(pk=principal_pk(arn), **fields)
    tables.put_item(TableName="access", Item=to_item(row.model_dump()))


@pytest.mark.parametrize(
    ("arn", "pk"),
    [
        (ROLE, "PRINCIPAL#123456789012:role/web"),
        (SESSION, "PRINCIPAL#123456789012:role/web"),
        ("arn:aws:iam::123456789012:user/ops/ann", "PRINCIPAL#123456789012:user/ann"),
        ("arn:aws-cn:iam::123456789012:user/ann", "PRINCIPAL#123456789012:user/ann"),
        ("arn:aws:iam::123456789012:root", "PRINCIPAL#123456789012:root/"),
    ],
)
def test_a_role_and_its_sessions_are_one_principal(arn: str, pk: str) -> None:
    assert principal_pk(arn) == pk


@pytest.mark.parametrize("arn", ["", "web", "arn:aws:iam::1:role/web", "arn:aws:s3:::bucket", ROLE + "\n"])
def test_what_is_no_principal_has_no_key(arn: str) -> None:
    with pytest.raises(ValueError, match="is not the ARN"):
        principal_pk(arn)


def test_a_session_calls_for_the_tenant_of_its_role(tables: Any) -> None:
    admit(tables, tokens_per_day=100)
    context = admit_principal(SESSION, AccessTable("access", DynamoDB()))
    assert (context["tenant"], context["key_name"], context["tokens_per_day"]) == ("shop", "iam", "100")


@pytest.mark.parametrize("changes", [{"revoked": True}, {"expires_at": 5}, None])
def test_whoever_is_not_let_in_hears_the_same(tables: Any, changes: dict[str, Any] | None) -> None:
    if changes is not None:
        admit(tables, **changes)
    with pytest.raises(ApiError) as refused:
        admit_principal(SESSION, AccessTable("access", DynamoDB()))
    assert (refused.value.status, refused.value.code) == (403, "unknown_principal")


def test_a_table_that_fails_is_no_refusal(tables: Any) -> None:
    tables.delete_table(TableName="access")
    with pytest.raises(ApiError) as failed:
        admit_principal(SESSION, AccessTable("access", DynamoDB()))
    assert failed.value.status == 503


def test_an_authorizers_word_is_never_replaced_by_an_arn() -> None:
    """On other routes API Gateway leaves the ARN empty; were it not, the authorizer would still decide."""
    event = {"requestContext": {"authorizer": {"tenant": "a"}, "identity": {"userArn": SESSION}}}
    assert requests.principal(event) == ""
    assert requests.principal({"requestContext": {"identity": {"userArn": SESSION}}}) == SESSION
    assert requests.principal({"requestContext": {}}) == ""


# --- through the entry points ----------------------------------------------------------------------------


@pytest.fixture
def invoke(
    door: Door, tables: Any, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Ask the streaming function's entry point as the IAM routes do."""
    import importlib

    for name, value in SETTINGS.model_dump(mode="json", exclude_defaults=True).items():
        monkeypatch.setenv(name.upper(), str(value))
    import lambdas.inference.handler as module
    from lambdas.runtime.streaming import Context

    module = importlib.reload(module)

    def ask(arn: str | None) -> tuple[int, dict[str, Any]]:
        event = {
            "path": "/iam/v1/chat/completions",
            "headers": {},
            "body": json.dumps(chat()),
            "requestContext": {"requestId": "req-1", "identity": {"userArn": arn}},
        }
        reply = module.handler(event, Context("a", "b", 0, None))
        body = b"".join(reply.body)
        reply.after()
        return reply.status, json.loads(body)

    return ask


def test_an_admitted_principal_gets_an_answer_and_is_booked(
    invoke: Callable[..., tuple[int, dict[str, Any]]], tables: Any
) -> None:
    admit(tables)
    status, body = invoke(SESSION)
    assert (status, body["choices"][0]["message"]["content"]) == (200, "Hello")
    rows = [item["pk"]["S"] for item in tables.scan(TableName="records")["Items"]]
    assert "USAGE#shop" in rows


@pytest.mark.parametrize(("arn", "status"), [(SESSION, 403), (None, 401), ("nonsense", 403)])
def test_nobody_else_does(
    invoke: Callable[..., tuple[int, dict[str, Any]]], arn: str | None, status: int
) -> None:
    assert invoke(arn)[0] == status


# --- jobs ------------------------------------------------------------------------------------------------

OTHER = "arn:aws:iam::123456789012:role/other"


def test_a_principal_has_jobs_of_its_own(jobs: Jobs, tables: Any) -> None:
    """A role's sessions share them; another role of the same tenant finds nothing."""
    admit(tables)
    admit(tables, OTHER)
    status, job = jobs.submit(chat(), arn=SESSION)
    assert (status, job["status"], job["result_url"]) == (202, "queued", None)
    jobs.work()
    _, job = jobs.ask("GET", f"/v1/jobs/{job['id']}", arn=ROLE)
    assert (job["status"], job["result_url"]) == ("completed", f"/iam/v1/jobs/{job['id']}/result")
    status, answer = jobs.ask("GET", job["result_url"].removeprefix("/iam"), arn=SESSION)
    assert (status, answer["choices"][0]["message"]["content"]) == (200, "Hello")
    assert jobs.ask("GET", f"/v1/jobs/{job['id']}", arn=OTHER)[0] == 404
    assert jobs.ask("GET", f"/v1/jobs/{job['id']}")[0] == 404
    assert [
        item["pk"]["S"] for item in tables.scan(TableName="records")["Items"] if "DAY#" in item["sk"]["S"]
    ]


def test_a_principal_has_files_and_batches_of_its_own(jobs: Jobs, tables: Any) -> None:
    admit(tables)
    admit(tables, OTHER)
    _, batch = jobs.batch(line("a"), arn=ROLE)
    jobs.work()
    _, batch = jobs.ask("GET", f"/v1/batches/{batch['id']}", arn=SESSION)
    assert (batch["status"], batch["request_counts"]["completed"]) == ("completed", 1)
    assert len(jobs.ask("GET", "/v1/files", arn=ROLE)[1]["data"]) == 2
    assert jobs.ask("GET", "/v1/files", arn=OTHER)[1]["data"] == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        (None, "unknown_principal"),
        ({"revoked": True}, "unknown_principal"),
        ({"scopes": []}, "insufficient_scope"),
    ],
)
def test_nobody_else_makes_jobs(jobs: Jobs, tables: Any, changes: dict[str, Any] | None, code: str) -> None:
    if changes is not None:
        admit(tables, **changes)
    status, body = jobs.submit(chat(), arn=SESSION)
    assert (status, body["error"]["code"]) == (403, code)
    assert jobs.stores.messages == []
