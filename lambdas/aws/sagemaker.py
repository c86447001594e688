"""SageMaker Runtime: an endpoint by name, and the two forms in which it answers."""

from __future__ import annotations

from collections.abc import Iterator

from lambdas.aws import client as aws
from lambdas.aws import model_errors
from lambdas.aws.event_stream import InvalidEventStreamError, messages
from lambdas.aws.model_errors import ModelCallError, VariantNotFoundError

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
        """Open a reply. Raises ModelCallError, or VariantNotFoundError when `variant` is not there."""
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
        except aws.ReadTimeoutError as error:
            raise ModelCallError(model_errors.timed_out()) from error
        except (aws.ConnectionFailedError, aws.StreamInterruptedError) as error:
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
        except aws.ReadTimeoutError:
            raise model_errors.timed_out() from None
        except aws.StreamInterruptedError:
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
        except aws.ReadTimeoutError:
            raise model_errors.timed_out() from None
        except (aws.StreamInterruptedError, InvalidEventStreamError):
            raise model_errors.interrupted() from None

    def close(self) -> None:
        """Let go of the connection; the model stops generating."""
        self._reply.close()


def _refusal(reply: aws.Reply, variant: str | None) -> Exception:
    detail = reply.json()
    code = (reply.header("x-amzn-errortype") or str(detail.get("__type", ""))).partition(":")[0]
    if variant and code in {"ValidationError", "ValidationException"}:
        return VariantNotFoundError()
    return model_errors.from_service(
        code,
        reply.status,
        detail.get("Message") or detail.get("message"),
        detail.get("OriginalStatusCode"),
        detail.get("OriginalMessage"),
    )
