"""What the probes share: the deployed functions, buckets and tables, asked as the operator."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from contracts.access import routing_pk
from tests.cloud.roles import grants
from tests.support.laptop import Laptop

PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Probe:
    """Something that works for a role while it has all of `grants`, and for each of them fails without it.

    What `given` makes is there before a grant is taken away: without it only `works` can fail.
    """

    role: str
    grants: tuple[str, ...]
    works: Callable[[World], bool]
    given: Callable[[World], None] | None = None


@dataclass(frozen=True)
class Answer:
    """What a function answered: its payload, or the type of its error."""

    payload: Any
    error: str | None


@dataclass
class World:
    """One running laptop cloud."""

    laptop: Laptop
    patience: float = PATIENCE_SECONDS  # for what may never happen, where that is what is to be seen
    kept: dict[str, str] = field(default_factory=dict)  # what several probes look at, by name

    @cached_property
    def roles(self) -> dict[str, grants.Role]:
        """Our roles by their names in the templates."""
        return {role.name: role for role in grants.roles(self.laptop)}

    def arn(self, role: str) -> str:
        """A role's ARN."""
        found = self.laptop.aws("iam").get_role(RoleName=self.roles[role].physical)["Role"]
        return str(found["Arn"])

    @contextmanager
    def lacking(self, role: str, grant: str) -> Iterator[None]:
        """A role without one of its grants."""
        with grants.lacking(self.laptop, self.roles[role], grant):
            yield

    def routing_kept(self) -> AbstractContextManager[None]:
        """Puts the routing item back as it was."""
        return self.access_item_kept(routing_pk(self.laptop.outputs["endpoint_name"]))

    @contextmanager
    def access_item_kept(self, pk: str) -> Iterator[None]:
        """Puts an item of the access table back as it was."""
        key = {"pk": {"S": pk}}
        tables, table = self.laptop.aws("dynamodb"), self.data["AccessTableName"]
        before = tables.get_item(TableName=table, Key=key).get("Item")
        try:
            yield
        finally:
            if before:
                tables.put_item(TableName=table, Item=before)
            else:
                tables.delete_item(TableName=table, Key=key)

    @cached_property
    def functions(self) -> dict[str, dict[str, Any]]:
        """Our functions' configurations by their handler's module."""
        listed = self.laptop.aws("lambda").list_functions()["Functions"]
        return {
            str(f["Handler"]).removesuffix(".handler"): f
            for f in listed
            if "lambdas." in f.get("Handler", "")
        }

    @cached_property
    def data(self) -> dict[str, str]:
        """Outputs of the data stack."""
        return self.laptop.stack_outputs("data")

    @cached_property
    def bucket(self) -> str:
        """The artefacts bucket."""
        return self.data["ArtefactsBucketName"]

    def invoke(self, module: str, event: dict[str, Any]) -> Answer:
        """Run a function to its end, its log included."""
        reply = self.laptop.aws("lambda").invoke(
            FunctionName=self.functions[module]["FunctionName"], Payload=json.dumps(event), LogType="Tail"
        )
        raw = reply["Payload"].read()
        if not raw.startswith((b"{", b"[")) or b"\0" in raw:  # nothing, or a stream with its prelude
            return Answer(raw, None)
        payload = json.loads(raw)
        return Answer(payload, payload.get("errorType") if reply.get("FunctionError") else None)

    def logged(self, module: str, marker: str) -> bool:
        """Whether a word stands in a function's log."""
        group = self.functions[module]["LoggingConfig"]["LogGroup"]
        found = self.laptop.aws("logs").filter_log_events(logGroupName=group, filterPattern=f'"{marker}"')
        return bool(found["events"])

    def put(self, key: str, body: bytes) -> str:
        """An object of the artefacts bucket; its URI."""
        self.laptop.aws("s3").put_object(Bucket=self.bucket, Key=key, Body=body)
        return f"s3://{self.bucket}/{key}"

    def item(self, table: str, item: dict[str, Any]) -> None:
        """Put a row, given in DynamoDB's own notation."""
        self.laptop.aws("dynamodb").put_item(TableName=self.data[table], Item=item)

    def rows(self, table: str, partition: str) -> list[dict[str, Any]]:
        """All rows of a partition."""
        reply = self.laptop.aws("dynamodb").query(
            TableName=self.data[table],
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": partition}},
        )
        return list(reply["Items"])

    def restart(self, module: str) -> None:
        """Give a function new processes: what the old ones remember is gone."""
        functions, function = self.laptop.aws("lambda"), self.functions[module]
        variables = function["Environment"]["Variables"] | {"RESTARTED": uuid.uuid4().hex}
        functions.update_function_configuration(
            FunctionName=function["FunctionName"], Environment={"Variables": variables}
        )

    def soon(self, condition: Callable[[], bool]) -> bool:
        """Whether the condition comes to hold within the patience there is."""
        deadline = time.monotonic() + self.patience
        while not condition():
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.1)
        return True

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """What the condition answers once it answers something."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (answer := condition()):
            assert time.monotonic() < deadline, f"never happened: {what}"
            time.sleep(0.1)
        return answer


def marker() -> str:
    """A word that nobody has written before."""
    return f"probe-{uuid.uuid4().hex[:16]}"
