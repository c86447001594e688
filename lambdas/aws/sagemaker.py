"""Where this function talks to AWS: SageMaker Runtime, guardrails, tables, a bucket (see also `bedrock`)."""

from __future__ import annotations

import hashlib
import json
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

from contracts.access import routing_pk
from contracts.guards import BedrockChecks, BedrockSettings
from contracts.records import InferenceRecord
from contracts.routing import Routing
from lambdas.aws import client as aws
from lambdas.aws import model_errors
from lambdas.aws.dynamodb import Dynamo, from_item, to_item
from lambdas.aws.event_stream import BadEventStream, messages
from lambdas.aws.model_errors import ModelFailure, VariantVanished
from lambdas.pipeline.cache import KeptAnswer

CONNECT_TIMEOUT_SECONDS = 2.0
SILENCE_TIMEOUT_SECONDS = 120.0
"""Longest wait for the next byte, the first one included: a queue plus the prefill of a long prompt."""


class SageMakerEndpoint:
    """An endpoint by name, in this region or another. One attempt per call: callers decide about more."""

    def __init__(
        self, name: str, region: str | None = None, *, component: str | None = None, streamed: bool = True
    ) -> None:
        """`component` is the inference component to call; without `streamed` the answer comes whole."""
        self._component = component
        self._accept = "x-amzn-sagemaker-accept" if streamed else "accept"  # each operation has its own name
        self._path = f"/endpoints/{name}/invocations{'-response-stream' if streamed else ''}"
        self._opened = SageMakerStream if streamed else ModelBytes
        self._client = aws.Client(
            "sagemaker-runtime",
            "runtime.sagemaker",
            "sagemaker",
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            read_timeout=SILENCE_TIMEOUT_SECONDS,
            region=region,
        )

    def invoke(self, body: bytes, attributes: str, variant: str | None) -> SageMakerStream | ModelBytes:
        """Open a reply. Raises ModelFailure, or VariantVanished when `variant` is not there."""
        headers = {
            "content-type": "application/json",
            self._accept: "text/event-stream",
            "x-amzn-sagemaker-custom-attributes": attributes,
        }
        if variant:
            headers["x-amzn-sagemaker-target-variant"] = variant
        if self._component:
            headers["x-amzn-sagemaker-inference-component"] = self._component
        try:
            reply = self._client.send("POST", self._path, headers, body)
            if reply.status != 200:
                raise _refusal(reply, variant)
        except aws.Silent as error:
            raise ModelFailure(model_errors.timed_out()) from error
        except (aws.NotReached, aws.Broken) as error:
            raise model_errors.connection_failed() from error
        return self._opened(reply)


class ModelBytes:
    """A model's bytes as they come: of an answer that SageMaker has collected, or of another service."""

    def __init__(self, reply: aws.Reply) -> None:
        self.variant = reply.header("x-amzn-invoked-production-variant")
        self._reply = reply

    def __iter__(self) -> Iterator[bytes]:
        """Raises ApiError when the answer breaks off or falls silent."""
        try:
            yield from self._reply
        except aws.Silent:
            raise model_errors.timed_out() from None
        except aws.Broken:
            raise model_errors.interrupted() from None

    def close(self) -> None:
        """Let go of the connection."""
        self._reply.close()


class SageMakerStream:
    """The model's bytes out of an event stream."""

    def __init__(self, reply: aws.Reply) -> None:
        self.variant = reply.header("x-amzn-invoked-production-variant")
        self._reply = reply

    def __iter__(self) -> Iterator[bytes]:
        """Raises ApiError when the stream reports an error, breaks or falls silent."""
        try:
            for message in messages(self._reply):
                if message.headers.get(":message-type") != "event":
                    raise model_errors.interrupted()
                yield message.payload
        except aws.Silent:
            raise model_errors.timed_out() from None
        except (aws.Broken, BadEventStream):
            raise model_errors.interrupted() from None

    def close(self) -> None:
        """Let go of the connection; the model stops generating."""
        self._reply.close()


def _refusal(reply: aws.Reply, variant: str | None) -> Exception:
    detail = reply.json()
    code = (reply.header("x-amzn-errortype") or str(detail.get("__type", ""))).partition(":")[0]
    if variant and code in {"ValidationError", "ValidationException"}:
        return VariantVanished()
    return model_errors.from_service(
        code,
        reply.status,
        detail.get("Message") or detail.get("message"),
        detail.get("OriginalStatusCode"),
        detail.get("OriginalMessage"),
    )


class GuardrailApi:
    """Amazon Bedrock's ApplyGuardrail for one guardrail and one direction."""

    def __init__(self, settings: BedrockSettings, *, of_prompts: bool) -> None:
        self._path = f"/guardrail/{settings.guardrail_id}/version/{settings.version}/apply"
        self._source = "INPUT" if of_prompts else "OUTPUT"
        self._client = aws.Client(
            "bedrock-runtime", "bedrock-runtime", "bedrock", connect_timeout=1, read_timeout=5
        )

    def apply(self, text: str) -> dict[str, Any]:
        """The reply for one text. Raises GuardrailRefused, or what the client raises."""
        body = json.dumps({"source": self._source, "content": [{"text": {"text": text}}]}).encode()
        return _asked(self._client, self._path, body)


class GuardrailChecksApi:
    """Amazon Bedrock's InvokeGuardrailChecks for one direction; attacks are looked for in prompts only."""

    def __init__(self, settings: BedrockChecks, *, of_prompts: bool) -> None:
        self._role = "user" if of_prompts else "assistant"
        content = [{"category": category} for category in settings.content]
        attacks = [{"category": category} for category in settings.attacks if of_prompts]
        entities = [{"type": entity} for entity in settings.personal_data]
        self.checks: dict[str, Any] = {
            **({"contentFilter": {"categories": content}} if content else {}),
            **({"promptAttack": {"categories": attacks}} if attacks else {}),
            **({"sensitiveInformation": {"entities": entities}} if entities else {}),
        }
        self._client = aws.Client(
            "bedrock-runtime", "bedrock-runtime", "bedrock", connect_timeout=1, read_timeout=5
        )

    def invoke(self, text: str) -> dict[str, Any]:
        """The reply for one text. Raises GuardrailRefused, or what the client raises."""
        message = {"role": self._role, "content": [{"text": text}]}
        body = json.dumps({"messages": [message], "checks": self.checks}).encode()
        return _asked(self._client, "/guardrail-checks/invoke", body)


def _asked(client: aws.Client, path: str, body: bytes) -> dict[str, Any]:
    reply = client.send("POST", path, {"content-type": "application/json"}, body)
    answer = reply.json()
    if reply.status != 200:
        raise GuardrailRefused(reply.status)
    return answer


class GuardrailRefused(Exception):
    """Bedrock did not check a text; holds its status."""


class TranscriptBucket:
    """Objects in the records bucket; encryption is the bucket's own default."""

    def __init__(self, bucket: str) -> None:
        self._bucket = bucket
        self._client = aws.Client("s3", "s3", "s3", connect_timeout=1, read_timeout=5)

    def store(self, key: str, line: bytes) -> None:
        """Put one object. Raises TranscriptRefused, or what the client raises."""
        path = urllib.parse.quote(f"/{self._bucket}/{key}", safe="/-_.~")
        headers = {
            "content-type": "application/x-ndjson",
            "x-amz-content-sha256": hashlib.sha256(line).hexdigest(),
        }
        reply = self._client.send("PUT", path, headers, line)
        for _ in reply:
            pass  # an empty body, or the reason in XML; read, so that the connection can be used again
        if reply.status != 200:
            raise TranscriptRefused(reply.status)


class TranscriptRefused(Exception):
    """S3 did not take a transcript; holds its status."""


class RoutingTable:
    """The routing item of an endpoint: the fields of `contracts.routing.Routing` as attributes."""

    def __init__(self, table: str, endpoint_name: str, tables: Dynamo) -> None:
        self._table = table
        self._key = {"pk": {"S": routing_pk(endpoint_name)}}
        self._tables = tables

    def read(self) -> Routing | None:
        """The item as it is now; None where there is none."""
        item = self._tables.call("GetItem", TableName=self._table, Key=self._key).get("Item")
        if item is None:
            return None
        fields = from_item(item)
        return Routing.model_validate({name: fields[name] for name in Routing.model_fields if name in fields})


class RecordsTable:
    """Rows that live for `ttl_days`: what feedback is tied to."""

    def __init__(self, table: str, ttl_days: int, tables: Dynamo) -> None:
        self._table = table
        self._ttl_seconds = ttl_days * 86_400
        self._tables = tables

    def store(self, record: InferenceRecord) -> None:
        """Put the row of a request. Raises what the tables raise."""
        row = {
            "pk": record.request_id,
            "sk": "RECORD",
            "expires_at": int(time.time()) + self._ttl_seconds,
            **record.model_dump(),
        }
        self._tables.call("PutItem", TableName=self._table, Item=to_item(row))


class AnswersTable:
    """Answers that may be given again, in the work table under the key that asked for them."""

    def __init__(self, table: str, tables: Dynamo) -> None:
        self._table = table
        self._tables = tables

    def find(self, owner: str, digest: str) -> KeptAnswer | None:
        """See cache.Answers.find. The table itself forgets a row only some time after it has run out."""
        key = {"pk": {"S": owner}, "sk": {"S": f"ANSWER#{digest}"}}
        row = from_item(self._tables.call("GetItem", TableName=self._table, Key=key).get("Item") or {})
        return KeptAnswer.model_validate(row) if row.get("expires_at", 0) > time.time() else None

    def keep(self, owner: str, digest: str, answer: KeptAnswer, seconds: int) -> None:
        """See cache.Answers.keep."""
        row = {
            "pk": owner,
            "sk": f"ANSWER#{digest}",
            "expires_at": int(answer.made_at) + seconds,
            **answer.model_dump(),
        }
        self._tables.call("PutItem", TableName=self._table, Item=to_item(row))
