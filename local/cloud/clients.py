"""How the laptop cloud's own modules call its AWS APIs: boto3, with the operator's credentials."""

from __future__ import annotations

import threading
from typing import Any

import boto3
from botocore.config import Config

from local.cloud.config import CloudConfig
from local.home import SECRET

_CONFIG = Config(connect_timeout=5, read_timeout=30, retries={"max_attempts": 2})


class OperatorClients:
    """Clients of one cloud by service name. Each is made once, since making one is slow and, unlike using
    one, not safe from several threads."""

    def __init__(self, config: CloudConfig) -> None:
        self._config = config
        self._session = boto3.Session(config.account, SECRET, region_name=config.region)
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()

    def __call__(self, service: str) -> Any:
        """The client of a service."""
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self._session.client(
                    service, endpoint_url=self._config.endpoint_url, config=_CONFIG
                )
            return self._clients[service]
