"""Jobs with their real parts: routes, table, bucket, queue and a worker over the real pipeline."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import Any

from contracts.jobs import Ticket
from contracts.tasks import Task
from lambdas.aws.dynamodb import DynamoDB
from lambdas.aws.s3 import Bucket
from lambdas.aws.sqs import TicketQueue
from lambdas.aws.work_table import WorkTable
from lambdas.job_worker.service import JobWorker, Run
from lambdas.runtime.logs import Logger
from lambdas.runtime.streaming import Context
from tests.support.fake_jobs_aws import FakeWork
from tests.support.front_door import AUTHORIZER, Door

VARIABLES = {
    "ENVIRONMENT": "test",
    "ACCESS_TABLE": "access",
    "WORK_TABLE": "work",
    "WORK_BUCKET": "work",
    "JOBS_QUEUE": "http://queue",
    "JOBS_OPEN_PER_KEY": "3",
    "JOBS_DEADLINE_SECONDS": "3600",
    "JOBS_RETENTION_SECONDS": "86400",
    "MAX_BODY_BYTES": "100000",
    "JOBS_MAX_FILE_BYTES": "50000",
    "JOBS_MAX_LINES": "50",
}
KEY = {**AUTHORIZER, "key_id": "abc"}
CHAT = "/v1/chat/completions"
BOUNDARY = "xyzzy"


@dataclass
class Jobs:
    """Asks the routes as API Gateway would, and lets a worker run."""

    handler: Any
    door: Door
    stores: FakeWork
    ended: list[Task] = field(default_factory=list)

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        caller: dict[str, str] = KEY,
        headers: dict[str, str] | None = None,
        arn: str = "",
        **query: str,
    ) -> tuple[int, Any]:
        """Status and parsed body; a body that is no JSON stays text. With an ARN: as the signed routes do."""
        text = body if isinstance(body, str) or body is None else json.dumps(body)
        event = {
            "httpMethod": method,
            "path": f"/iam{path}" if arn else path,
            "headers": headers or {},
            "queryStringParameters": query or None,
            "body": text,
            "isBase64Encoded": False,
            "requestContext": {
                "requestId": "req-9",
                **({"identity": {"userArn": arn}} if arn else {"authorizer": caller}),
            },
        }
        reply = self.handler(event, Context("aws-1", "arn", 0, None))
        content = b"".join(reply.body).decode()
        self.headers = dict(reply.headers)
        reply.after()
        try:
            return reply.status, json.loads(content)
        except ValueError:
            return reply.status, content

    def lines(self, file: str) -> list[Any]:
        """The parsed lines of a file."""
        path = f"/v1/files/{file}/content"
        status, content = self.ask("GET", path)
        assert (status, self.headers["content-type"]) == (200, "application/jsonl")
        return [content] if isinstance(content, dict) else [json.loads(each) for each in content.splitlines()]

    def submit(self, body: dict[str, Any], **more: Any) -> tuple[int, Any]:
        """Submit a chat request as a job."""
        return self.ask("POST", "/v1/jobs", {"url": CHAT, "body": body}, **more)

    def upload(self, content: str, purpose: str = "batch", **more: Any) -> tuple[int, Any]:
        """Upload a file as the official clients do."""
        head = "Content-Disposition: form-data; name="
        body = (
            f'--{BOUNDARY}\r\n{head}"purpose"\r\n\r\n{purpose}\r\n'
            f'--{BOUNDARY}\r\n{head}"file"; filename="in.jsonl"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
            f"{content}\r\n--{BOUNDARY}--\r\n"
        )
        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        return self.ask("POST", "/v1/files", body, headers=headers, **more)

    def batch(self, *lines: dict[str, Any], **more: Any) -> tuple[int, Any]:
        """Upload these lines and start a batch over them."""
        _, file = self.upload("".join(json.dumps(line) + "\n" for line in lines), **more)
        request = {"input_file_id": file["id"], "endpoint": CHAT, "completion_window": "24h"}
        return self.ask("POST", "/v1/batches", request, **more)

    def worker(self, *, parallel: int = 1, **more: Any) -> JobWorker:
        """A worker as a process of the function has it."""
        return JobWorker(
            WorkTable("work", DynamoDB()),
            Bucket("work"),
            TicketQueue("http://queue"),
            self.door.service,
            Logger("worker"),
            parallel=parallel,
            request_seconds=60,
            ended=self.ended.append,
            pause=lambda seconds: None,
            **more,
        )

    def deliver(self, worker: JobWorker | None = None, *, seconds_left: float = 600) -> int:
        """Give the oldest ticket to a worker; returns its delay."""
        text, delay = self.stores.messages.pop(0)
        run = Run(uuid.uuid4().hex, None, lambda: seconds_left)
        (worker or self.worker()).work(Ticket.model_validate_json(text), run)
        return delay

    def work(self) -> None:
        """Deliver until nothing is queued any more."""
        for _ in range(50):
            if not self.stores.messages:
                return
            self.deliver()
        raise AssertionError("tickets keep coming")


def line(custom_id: str, text: str = "Hi", **fields: Any) -> dict[str, Any]:
    """A line of a batch file."""
    body = {"model": "smollm2", "messages": [{"role": "user", "content": text}], **fields}
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body}
