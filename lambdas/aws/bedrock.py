"""A model in Amazon Bedrock as a stand-in: its OpenAI-compatible chat route, signed like any AWS call.

It speaks the protocol the container speaks, so its events pass on as they are; only the model's name and the
way errors are told differ. The caller's user id stays here: Bedrock has no use for it.
Source: Amazon Bedrock user guide, "Invoke a model with the OpenAI Chat Completions API".
"""

from __future__ import annotations

import json

from contracts import container
from lambdas.aws import client as aws
from lambdas.aws import model_errors
from lambdas.aws.model_errors import ModelFailure
from lambdas.aws.sagemaker import CONNECT_TIMEOUT_SECONDS, SILENCE_TIMEOUT_SECONDS, ModelBytes
from lambdas.runtime.errors import ApiError

PATH = "/openai/v1/chat/completions"


class BedrockChat:
    """One model in one region. Knows chat only."""

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
        """Open a reply. Raises ModelFailure. `variant` means nothing here."""
        if container.ATTRIBUTE_ROUTE in container.decode_attributes(attributes):
            raise ModelFailure(model_errors.unavailable("The model is not available.", 2))
        request = {**json.loads(body), "model": self._model_id}
        request.pop("user", None)
        headers = {"content-type": "application/json", "accept": "text/event-stream"}
        try:
            reply = self._client.send("POST", PATH, headers, json.dumps(request).encode())
            if reply.status != 200:
                raise ModelFailure(_refusal(reply), retryable=reply.status >= 500)
        except aws.Silent as error:
            raise ModelFailure(model_errors.timed_out()) from error
        except (aws.NotReached, aws.Broken) as error:
            raise model_errors.connection_failed() from error
        return ModelBytes(reply)


def _refusal(reply: aws.Reply) -> ApiError:
    """Only a fault of the request itself is told to the caller; what is wrong with the stand-in is not."""
    detail = reply.json()
    inside = detail.get("error")
    message = inside.get("message") if isinstance(inside, dict) else None
    if reply.status == 400 and isinstance(message, str):
        return ApiError("invalid_request_error", message, code="refused_by_model")
    return model_errors.unavailable("The model is not available.", model_errors.RETRY_AFTER_BUSY)
