"""The front door with its real AWS client: a scripted SageMaker and DynamoDB, both over HTTP."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lambdas.aws.access_table import CatalogueTable
from lambdas.aws.dynamodb import DynamoDB
from lambdas.aws.records_table import RecordsTable
from lambdas.aws.usage_ledger import UsageLedger
from lambdas.pipeline.assembly import Service, connections
from lambdas.pipeline.environment import InferenceEnvironment
from tests.support import fake_dynamodb, fake_model_endpoint
from tests.support import fake_jobs_aws as fake_work
from tests.support.fake_jobs_aws import FakeWork
from tests.support.fake_model_endpoint import FakeSageMaker, Reply, chat_events, cut
from tests.support.front_door import ENDPOINT, SETTINGS, Door
from tests.support.jobs_api import VARIABLES, Jobs


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


_TABLES = {"access": ["pk"], "records": ["pk", "sk"], "work": ["pk", "sk"]}


@pytest.fixture(scope="package")
def dynamodb() -> Iterator[tuple[Any, str]]:
    """A DynamoDB for all tests of the package: a client of it, and its address."""
    with fake_dynamodb.running() as (client, url):
        yield client, url


@pytest.fixture
def tables(dynamodb: tuple[Any, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of a DynamoDB with the functions' tables, empty; the functions find it too."""
    client, url = dynamodb
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", url)
    existing = client.list_tables()["TableNames"]
    for name, keys in _TABLES.items():
        if name not in existing:  # the first test, or one that let its own mock reset everything
            _table(client, name, keys)
        for item in client.scan(TableName=name)["Items"]:
            client.delete_item(TableName=name, Key={key: item[key] for key in keys})
    return client


def _table(client: Any, name: str, keys: list[str]) -> None:
    client.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
        KeySchema=[
            {"AttributeName": key, "KeyType": kind}
            for key, kind in zip(keys, ["HASH", "RANGE"], strict=False)
        ],
    )


@pytest.fixture
def sagemaker() -> Iterator[FakeSageMaker]:
    with fake_model_endpoint.running() as running:
        yield running


@pytest.fixture
def work_stores(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeWork]:
    """An S3 and an SQS; the functions find them too."""
    with fake_work.running() as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", running.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", running.url)
        yield running


@pytest.fixture
def make_door(sagemaker: FakeSageMaker, tables: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Door]:
    """Doors with settings of their own, and somewhere to keep transcripts and answers, or to make jobs."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", sagemaker.url)
    sagemaker.replies = [Reply(parts=cut(chat_events("Hel", "lo"), 50))]

    def make(
        settings: InferenceEnvironment, transcripts: Any = None, connect: Any = None, **more: Any
    ) -> Door:
        service = Service(
            settings,
            connect or connections(),
            CatalogueTable("access", ENDPOINT, DynamoDB(read_timeout=60)),
            RecordsTable("records", 7, DynamoDB(read_timeout=60)),
            UsageLedger("records", DynamoDB(read_timeout=60)),
            transcripts,
            **more,
        )
        return Door(sagemaker, tables, service)

    return make


@pytest.fixture
def jobs(door: Door, work_stores: FakeWork, monkeypatch: pytest.MonkeyPatch) -> Jobs:
    """Routes and worker of jobs, with the door's model behind them."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    import lambdas.jobs.handler as module

    return Jobs(importlib.reload(module).handler, door, work_stores)


@pytest.fixture
def door(make_door: Callable[..., Door]) -> Door:
    return make_door(SETTINGS)
