"""The operator's catalogue: what may be put, what is refused before it is written, what is taken back."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from moto import mock_aws

from contracts.access import ModelBudget
from contracts.catalogue import ENTRIES_ATTRIBUTE, Catalogue, ModelEntry, catalogue_pk, read_entries
from infra.settings import load
from operations import keys, models
from operations.models import ModelsAdmin, parsed
from operations.progress import CommandError

SETTINGS = load("dev")
OWN = SETTINGS.model.name


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        client = boto3.client("dynamodb", region_name="us-east-1")
        client.create_table(
            TableName="access",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        )
        yield client


@pytest.fixture
def admin(tables: Any) -> ModelsAdmin:
    outputs = [{"OutputKey": "AccessTableName", "OutputValue": "access"}]
    stacks = SimpleNamespace(describe_stacks=lambda **_: {"Stacks": [{"Outputs": outputs}]})
    ssm = boto3.client("ssm", region_name="us-east-1")
    clients = {"dynamodb": tables, "ssm": ssm, "cloudformation": stacks}
    return ModelsAdmin("dev", SETTINGS, clients.__getitem__)


def hosted(name: str, *aliases: str, **target: Any) -> ModelEntry:
    place = {"kind": "openai", "base_url": "https://api.example.com/v1", "model": "far", **target}
    return ModelEntry.model_validate({"name": name, "aliases": aliases, "target": place})


def written(tables: Any) -> list[str]:
    item = tables.get_item(TableName="access", Key={"pk": {"S": catalogue_pk(SETTINGS.endpoint_name)}})[
        "Item"
    ]
    return [entry.name for entry in read_entries(item[ENTRIES_ATTRIBUTE]["S"])]


def test_entries_are_put_replaced_and_taken_back(admin: ModelsAdmin, tables: Any) -> None:
    admin.put(hosted("far"))
    admin.put(hosted("near"))
    admin.put(hosted("far", "gpt"))
    assert written(tables) == ["near", "far"]
    assert [entry.aliases for entry in admin.added()] == [(), ("gpt",)]
    admin.remove("near")
    assert written(tables) == ["far"]
    with pytest.raises(CommandError, match="No model 'near' was put"):
        admin.remove("near")


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (hosted("far", OWN), "two models answer to"),
        (hosted("other", "taken"), "two models answer to 'taken'"),
        (hosted("far", secret="prod/database"), "cannot read the secret"),
        (hosted("far", secret="arn:aws:secretsmanager:us-east-1:1:secret:db-a"), "the settings name none"),
    ],
)
def test_what_the_functions_could_not_use_is_not_written(
    admin: ModelsAdmin, tables: Any, entry: ModelEntry, why: str
) -> None:
    admin.put(hosted("first", "taken"))
    with pytest.raises(CommandError, match=why):
        admin.put(entry)
    assert written(tables) == ["first"]


def test_a_secret_of_the_settings_may_be_used_again(
    admin: ModelsAdmin, tables: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed = Catalogue([hosted("deployed", secret="provider")])
    monkeypatch.setattr(admin, "settings_catalogue", lambda: deployed)
    admin.put(hosted("far", secret="provider"))
    assert written(tables) == ["far"]


def test_a_change_by_somebody_else_is_not_overwritten(
    admin: ModelsAdmin, tables: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin.put(hosted("first"))
    stale = admin._text()
    admin.put(hosted("second"))
    monkeypatch.setattr(admin, "_text", lambda: stale)
    with pytest.raises(CommandError, match="Somebody else"):
        admin.put(hosted("third"))
    assert written(tables) == ["first", "second"]


def test_the_list_says_where_each_model_comes_from(
    admin: ModelsAdmin, capsys: pytest.CaptureFixture[str]
) -> None:
    admin.put(hosted("far", "gpt"))
    models._list(admin, argparse.Namespace())
    own, *_, far = capsys.readouterr().out.splitlines()
    assert (own.split()[0], own.split()[-1]) == (OWN, "settings")
    assert far == "far (gpt)  chat  openai api.example.com/far  openai/far  put"


def test_what_is_shown_can_be_put_again(
    admin: ModelsAdmin, tables: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    models._show(admin, argparse.Namespace(name=OWN))
    text = capsys.readouterr().out
    admin.put(parsed(json.dumps(json.loads(text) | {"aliases": ["gpt-4o"]})))
    assert written(tables) == [OWN]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "Invalid JSON"),
        ('{"name": "a"}', "target"),
        ('{"name": "a", "target": {"kind": "openai", "base_url": "http://x.de", "model": "m"}}', "use https"),
        ('{"name": "a b", "target": {"kind": "bedrock", "model_id": "openai.x"}}', "name"),
    ],
)
def test_an_entry_that_is_wrong_is_named_by_its_field(text: str, why: str) -> None:
    with pytest.raises(CommandError, match=why):
        parsed(text)


# --- keys ------------------------------------------------------------------------------------------------


def test_a_key_is_held_to_models_and_has_budgets_of_them() -> None:
    words = "create --env dev --models chat far:1 --model-budget far:1:requests-per-day=5,tokens-per-day=70"
    options = keys._parser().parse_args(words.split())
    assert keys._scopes(options) == ["inference", "model:chat", "model:far:1"]
    budget = ModelBudget(requests_per_day=5, tokens_per_day=70)
    assert keys._limits(options)["model_budgets"] == {"far:1": budget}


@pytest.mark.parametrize(
    "text", ["chat", "chat:", ":tokens-per-day=1", "chat:tokens=1", "chat:tokens-per-day=x"]
)
def test_a_budget_that_cannot_be_read_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        keys._parser().parse_args(["create", "--env", "dev", "--model-budget", text])
    assert "is not like" in capsys.readouterr().err
