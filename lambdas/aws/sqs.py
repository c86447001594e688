"""The queue of tickets. At least one worker gets each; the task's lease makes it one at a time."""

from __future__ import annotations

import json

from contracts.jobs import Ticket
from lambdas.aws import client as aws
from lambdas.aws.client import with_retries
from lambdas.aws.s3 import StoreError, is_transient

LONGEST_DELAY_SECONDS = 900
"""SQS holds a message back no longer."""


class TicketQueue:
    """A queue by its URL."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = aws.Client("sqs", "sqs", "sqs", connect_timeout=2, read_timeout=10)

    def send(self, ticket: Ticket, delay: int = 0) -> None:
        """Queue a ticket; nobody gets it before `delay` seconds are over. Raises StoreError."""
        body = json.dumps(
            {
                "QueueUrl": self._url,
                "MessageBody": ticket.model_dump_json(),
                "DelaySeconds": max(0, min(delay, LONGEST_DELAY_SECONDS)),
            }
        ).encode()
        headers = {"content-type": "application/x-amz-json-1.0", "x-amz-target": "AmazonSQS.SendMessage"}

        def attempt() -> None:
            reply = self._client.send("POST", "/", headers, body)
            reply.read()
            if reply.status != 200:
                raise StoreError(reply.status)

        # Sent twice is harmless: the second ticket finds the task held or over.
        with_retries(attempt, is_transient)
