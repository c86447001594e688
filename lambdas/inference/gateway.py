"""The only module of this function that talks to AWS: SageMaker Runtime and the two tables."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, EventStreamError, ReadTimeoutError
from botocore.exceptions import ConnectionError as ConnectFailed
from urllib3.exceptions import HTTPError as TransportError
from urllib3.exceptions import ReadTimeoutError as TransportTimeout

from contracts.access import routing_pk
from contracts.records import InferenceRecord
from contracts.routing import Routing
from lambdas.common import aws
from lambdas.common.dynamo import from_item, to_item
from lambdas.inference import model_errors
from lambdas.inference.model_errors import ModelFailure, VariantVanished
from lambdas.inference.stages.invoke import ModelStream

CONNECT_TIMEOUT_SECONDS = 2.0
SILENCE_TIMEOUT_SECONDS = 120.0
"""Longest wait for the next byte, the first one included: a queue plus the prefill of a long prompt."""


class SageMakerEndpoint:
    """An endpoint by name. Attempts are counted by the pipeline, so the client itself makes one."""

    def __init__(self, name: str, client: Any = None) -> None:
        self._name = name
        self._client = client or aws.client(
            "sagemaker-runtime",
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            read_timeout=SILENCE_TIMEOUT_SECONDS,
            attempts=1,
        )

    def invoke(self, body: bytes, attributes: str, variant: str | None) -> ModelStream:
        """Open a reply. Raises ModelFailure, or VariantVanished when `variant` is not there."""
        target = {"TargetVariant": variant} if variant else {}
        try:
            reply = self._client.invoke_endpoint_with_response_stream(
                EndpointName=self._name,
                ContentType="application/json",
                Accept="text/event-stream",
                CustomAttributes=attributes,
                Body=body,
                **target,
            )
        except ClientError as error:
            raise _decoded(error, variant) from error
        except ReadTimeoutError as error:
            raise ModelFailure(model_errors.timed_out()) from error
        except (ConnectFailed, BotoCoreError) as error:
            raise model_errors.connection_failed() from error
        return _Stream(reply)


class _Stream:
    """The event stream of one reply as plain bytes."""

    def __init__(self, reply: dict[str, Any]) -> None:
        self.variant: str | None = reply.get("InvokedProductionVariant")
        self._events = reply["Body"]

    def __iter__(self) -> Iterator[bytes]:
        """Raises ApiError when the stream reports an error, breaks or falls silent."""
        try:
            for event in self._events:
                if "PayloadPart" in event:
                    yield event["PayloadPart"]["Bytes"]
        except EventStreamError:
            raise model_errors.interrupted() from None
        except (ReadTimeoutError, TransportTimeout):
            raise model_errors.timed_out() from None
        except (BotoCoreError, TransportError, OSError):
            raise model_errors.interrupted() from None

    def close(self) -> None:
        """Close the connection unless the reply has been read to its end."""
        self._events.close()


def _decoded(error: ClientError, variant: str | None) -> Exception:
    reply: dict[str, Any] = error.response
    detail = reply.get("Error", {})
    code, message = str(detail.get("Code", "")), detail.get("Message")
    if variant and code in {"ValidationError", "ValidationException"}:
        return VariantVanished()
    return model_errors.from_service(
        code,
        int(reply.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)),
        message,
        reply.get("OriginalStatusCode"),
        reply.get("OriginalMessage"),
    )


class RoutingTable:
    """The routing item of an endpoint: the fields of `contracts.routing.Routing` as attributes."""

    def __init__(self, table: str, endpoint_name: str, client: Any) -> None:
        self._table = table
        self._key = {"pk": {"S": routing_pk(endpoint_name)}}
        self._client = client

    def read(self) -> Routing | None:
        """The item as it is now; None where there is none."""
        item = self._client.get_item(TableName=self._table, Key=self._key).get("Item")
        if item is None:
            return None
        fields = from_item(item)
        return Routing.model_validate({name: fields[name] for name in Routing.model_fields if name in fields})


class RecordsTable:
    """Rows that live for `ttl_days`: what feedback is tied to."""

    def __init__(self, table: str, ttl_days: int, client: Any) -> None:
        self._table = table
        self._ttl_seconds = ttl_days * 86_400
        self._client = client

    def store(self, record: InferenceRecord) -> None:
        """Put the row of a request. Raises what the client raises."""
        row = {
            "pk": record.request_id,
            "sk": "RECORD",
            "expires_at": int(time.time()) + self._ttl_seconds,
            **record.model_dump(),
        }
        self._client.put_item(TableName=self._table, Item=to_item(row))
