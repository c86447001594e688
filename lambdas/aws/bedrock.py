"""Amazon Bedrock: a model as a fallback, and its guardrails.

The chat route is OpenAI-compatible and signed like any AWS call: it speaks the protocol the container speaks,
so its events pass on as they are; only the model's name and the form of errors differ. The caller's user id
stays here: Bedrock has no use for it.
Source: Amazon Bedrock user guide, "Invoke a model with the OpenAI Chat Completions API".
"""

from __future__ import annotations

import json
from typing import Any

from contracts import container
from contracts.guards import BedrockSettings, GuardrailChecks
from lambdas.aws import client as aws
from lambdas.aws import model_errors
from lambdas.aws.model_errors import ModelCallError
from lambdas.aws.sagemaker import CONNECT_TIMEOUT_SECONDS, SILENCE_TIMEOUT_SECONDS, ModelBytes
from lambdas.runtime.errors import ApiError

PATH = "/openai/v1/chat/completions"


class BedrockChat:
    """One model in one region. Knows chat only."""

    provider = "aws.bedrock"

    def __init__(self, model_id: str, region: str | None = None) -> None:
        self._model_id = model_id
        self._client = aws.Client(
            "bedrock-runtime",
            "bedrock-runtime",
            "bedrock",
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            read_timeout=SILENCE_TIMEOUT_SECONDS,
            region=region,
        )

    def invoke(self, body: bytes, attributes: str, variant: str | None) -> ModelBytes:
        """Open a reply. Raises ModelCallError. `variant` means nothing here."""
        known = container.decode_attributes(attributes)
        if container.ATTRIBUTE_ROUTE in known:
            raise ModelCallError(model_errors.unavailable("The model is not available.", 2))
        request = {**json.loads(body), "model": self._model_id}
        request.pop("user", None)
        headers = {
            "content-type": "application/json",
            "accept": "text/event-stream",
            **container.trace_headers(known),
        }
        try:
            reply = self._client.send("POST", PATH, headers, json.dumps(request).encode())
            if reply.status != 200:
                raise ModelCallError(_refusal(reply), retryable=reply.status >= 500)
        except aws.ReadTimeoutError as error:
            raise ModelCallError(model_errors.timed_out()) from error
        except (aws.ConnectionFailedError, aws.StreamInterruptedError) as error:
            raise model_errors.connection_failed() from error
        return ModelBytes(reply)


def _refusal(reply: aws.Reply) -> ApiError:
    """Only a fault of the request itself is told to the caller; what is wrong with the fallback is not."""
    detail = reply.json()
    inside = detail.get("error")
    message = inside.get("message") if isinstance(inside, dict) else None
    if reply.status == 400 and isinstance(message, str):
        return ApiError("invalid_request_error", message, code="refused_by_model")
    return model_errors.unavailable("The model is not available.", model_errors.RETRY_AFTER_BUSY)


class GuardrailApi:
    """Amazon Bedrock's ApplyGuardrail for one guardrail and one direction."""

    def __init__(self, settings: BedrockSettings, *, of_prompts: bool) -> None:
        self._path = f"/guardrail/{settings.guardrail_id}/version/{settings.version}/apply"
        self._source = "INPUT" if of_prompts else "OUTPUT"
        self._client = aws.Client(
            "bedrock-runtime", "bedrock-runtime", "bedrock", connect_timeout=1, read_timeout=5
        )

    def apply(self, text: str) -> dict[str, Any]:
        """The reply for one text. Raises GuardrailCallError, or what the client raises."""
        body = json.dumps({"source": self._source, "content": [{"text": {"text": text}}]}).encode()
        return _call(self._client, self._path, body)


class GuardrailChecksApi:
    """Amazon Bedrock's InvokeGuardrailChecks for one direction; attacks are looked for in prompts only."""

    def __init__(self, settings: GuardrailChecks, *, of_prompts: bool) -> None:
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
        """The reply for one text. Raises GuardrailCallError, or what the client raises."""
        message = {"role": self._role, "content": [{"text": text}]}
        body = json.dumps({"messages": [message], "checks": self.checks}).encode()
        return _call(self._client, "/guardrail-checks/invoke", body)


def _call(client: aws.Client, path: str, body: bytes) -> dict[str, Any]:
    reply = client.send("POST", path, {"content-type": "application/json"}, body)
    answer = reply.json()
    if reply.status != 200:
        raise GuardrailCallError(reply.status)
    return answer


class GuardrailCallError(Exception):
    """Bedrock did not check a text; holds its status."""
