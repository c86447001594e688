"""Adapters in a running container: the contract's `POST /adapters` and `DELETE /adapters/{name}`."""

from __future__ import annotations

from urllib.parse import quote

import httpx

from local.sagemaker.instances.instance import EndpointInstance
from local.sagemaker.instances.model_data import S3DataSource, s3_archive
from local.sagemaker.records import JsonObject

HEADER = "X-Amzn-SageMaker-Adapter-Identifier"
LOAD_SECONDS = 120.0
_SHOWN = 300


class AdapterError(Exception):
    """A container did not do what was asked; the message is its own."""


def adapter_source(specification: JsonObject) -> S3DataSource:
    """The files of an adapter: its container's artifact, a tar.gz."""
    return s3_archive(specification["Container"]["ArtifactUrl"])


async def load(client: httpx.AsyncClient, instance: EndpointInstance, name: str, folder: str) -> None:
    """Load an adapter under a name. Raises AdapterError."""
    await _ask(client, "POST", f"{instance.url}/adapters", {"name": name, "src": folder})


async def unload(client: httpx.AsyncClient, instance: EndpointInstance, name: str) -> None:
    """Forget an adapter. Raises AdapterError."""
    await _ask(client, "DELETE", f"{instance.url}/adapters/{quote(name)}", None)


async def _ask(client: httpx.AsyncClient, method: str, url: str, body: JsonObject | None) -> None:
    try:
        reply = await client.request(method, url, json=body, timeout=LOAD_SECONDS)
    except httpx.HTTPError as error:
        raise AdapterError(f"The container did not answer about the adapter: {error}") from error
    if not 200 <= reply.status_code < 300:
        raise AdapterError(
            f"The container refused the adapter with status {reply.status_code}: {reply.text[:_SHOWN]}"
        )
