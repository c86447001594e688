"""AWS clients for the functions: botocore without boto3, which would double the import time.

The region, credentials and any local endpoint come from the environment, as the SDK reads them.
"""

from __future__ import annotations

import logging
from typing import Any

import botocore.session
from botocore.config import Config

# The SDK logs whole request bodies at DEBUG; nothing may turn that on.
logging.getLogger("botocore").setLevel(logging.WARNING)
logging.getLogger("urllib3").setLevel(logging.WARNING)

_session: Any = None


def client(service: str, *, connect_timeout: float, read_timeout: float, attempts: int) -> Any:
    """A client with explicit limits: seconds to connect, seconds between bytes, attempts in all."""
    global _session
    if _session is None:
        _session = botocore.session.Session()
    config = Config(
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        retries={"total_max_attempts": attempts, "mode": "standard"},
    )
    return _session.create_client(service, config=config)


def dynamodb() -> Any:
    """The DynamoDB client every function uses: quick to give up, two attempts."""
    return client("dynamodb", connect_timeout=1, read_timeout=2, attempts=2)
