"""Both functions of a release against fakes; the tables are made once and emptied between tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from tests.support.release_loop import ReleaseHarness, create_tables, empty_tables


@pytest.fixture(scope="package")
def dynamodb() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        client = boto3.client("dynamodb")
        create_tables(client)
        yield client


@pytest.fixture
def release(dynamodb: Any) -> Iterator[ReleaseHarness]:
    yield ReleaseHarness(dynamodb)
    empty_tables(dynamodb)
