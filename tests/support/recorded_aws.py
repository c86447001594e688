"""An AWS account of recorded answers: boto3's own clients, whose calls end before the network.

An answer is checked against botocore's model of the operation, so a recording with a field that the service
does not have fails the test. It is a dictionary, an error, or a function of the parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore.awsrequest import AWSResponse
from botocore.validate import validate_parameters


@dataclass(frozen=True)
class Refusal:
    """An error that a service answers with."""

    code: str
    message: str = ""


Answer = Mapping[str, Any] | Refusal | Callable[[dict[str, Any]], "Mapping[str, Any] | Refusal"]


@dataclass
class RecordedAccount:
    """Stands where a boto3 session does: `answers` by `service.Operation`, `calls` as they were made."""

    answers: dict[str, Answer]
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def client(self, service_name: str, **options: Any) -> Any:
        """A client whose calls are answered from the recording; an operation without one fails the test."""
        client = boto3.client(
            service_name,
            region_name=options.get("region_name", "us-east-1"),
            aws_access_key_id="recorded",
            aws_secret_access_key="recorded",
        )
        asked: dict[str, Any] = {}

        def remember(params: dict[str, Any], **_: Any) -> None:
            asked.clear()
            asked.update(params)

        def answer(model: Any, **_: Any) -> tuple[AWSResponse, dict[str, Any]]:
            name = f"{service_name}.{model.name}"
            self.calls.append((name, dict(asked)))
            found = self.answers.get(name, Refusal("NotRecorded", name))
            if callable(found):
                found = found(dict(asked))
            if isinstance(found, Refusal):
                error = {"Code": found.code, "Message": found.message}
                return _status(400), {"Error": error, "ResponseMetadata": {"HTTPStatusCode": 400}}
            if model.output_shape is not None:
                validate_parameters(dict(found), model.output_shape)
            return _status(200), {**found, "ResponseMetadata": {"HTTPStatusCode": 200}}

        client.meta.events.register_first("before-parameter-build", remember)
        client.meta.events.register_first("before-call", answer)
        return client

    def made(self, name: str) -> list[dict[str, Any]]:
        """Parameters of the calls of one operation."""
        return [parameters for made, parameters in self.calls if made == name]


def _status(code: int) -> AWSResponse:
    return AWSResponse("https://recorded", code, {}, None)
