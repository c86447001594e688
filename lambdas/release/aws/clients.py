"""boto3 clients with a time limit and a budget of retries each."""

from __future__ import annotations

from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

_CONFIG = Config(connect_timeout=5, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 4})


def client(service: str, region: str | None = None) -> Any:
    """A client by the SDK's name of the service, in the function's own region or in another."""
    return boto3.client(service, region_name=region, config=_CONFIG)


def code_of(error: ClientError) -> str:
    """The service's name for what went wrong."""
    return str(error.response["Error"].get("Code", ""))


def message_of(error: ClientError) -> str:
    """The service's own words."""
    return str(error.response["Error"].get("Message", ""))
