"""Counts the modules on the way of a streamed chat request, and the generators that each chunk passes.

    python -m bench.gateway.request_path [--max-modules 20] [--max-changes 120]

Asks the front door of the unit tests three times and profiles the third call: calls into source files of
`lambdas/` and `contracts/`, in all threads. Exits with 1 where a bound is exceeded.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = (f"{ROOT}/lambdas/", f"{ROOT}/contracts/")


class Profile:
    """Modules in the order in which calls enter them. Resuming a generator is a call."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> None:
        """A `sys.setprofile` function."""
        if event == "call" and frame.f_code.co_filename.startswith(_PACKAGES):
            self.calls.append(str(Path(frame.f_code.co_filename).relative_to(ROOT)))

    @property
    def changes(self) -> int:
        """How often a call enters another module than the call before it."""
        return sum(a != b for a, b in zip(self.calls, self.calls[1:], strict=False))


def profile() -> Profile:
    """The profile of the third streamed chat request of one process."""
    from lambdas.aws.access_table import CatalogueTable
    from lambdas.aws.dynamodb import DynamoDB
    from lambdas.aws.records_table import RecordsTable
    from lambdas.aws.usage_ledger import UsageLedger
    from lambdas.pipeline.assembly import Service, connections
    from tests.support import fake_dynamodb, fake_model_endpoint
    from tests.support.fake_model_endpoint import Reply, chat_events, payload_part
    from tests.support.front_door import ENDPOINT, SETTINGS, Door, chat

    # The fakes check no signature.
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        os.environ[name] = "test"
    os.environ["AWS_DEFAULT_REGION"] = "us-east-1"
    with fake_dynamodb.running() as (client, url), fake_model_endpoint.running() as sagemaker:
        os.environ["AWS_ENDPOINT_URL_DYNAMODB"] = url
        os.environ["AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"] = sagemaker.url
        for name, keys in {"access": ["pk"], "records": ["pk", "sk"]}.items():
            client.create_table(
                TableName=name,
                BillingMode="PAY_PER_REQUEST",
                AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
                KeySchema=[
                    {"AttributeName": key, "KeyType": kind}
                    for key, kind in zip(keys, ["HASH", "RANGE"], strict=False)
                ],
            )
        # An event is a message, as SageMaker passes on what a container flushes event by event.
        events = chat_events("Hel", "lo", "!").removesuffix(b"\n\n").split(b"\n\n")
        sagemaker.replies = [Reply(parts=[payload_part(event + b"\n\n") for event in events])]
        service = Service(
            SETTINGS,
            connections(),
            CatalogueTable("access", ENDPOINT, DynamoDB()),
            RecordsTable("records", 7, DynamoDB()),
            UsageLedger("records", DynamoDB()),
        )
        door = Door(sagemaker, client, service)
        for _ in range(2):
            door.ask(chat(stream=True))
        found = Profile()
        threading.setprofile(found)
        sys.setprofile(found)
        try:
            door.ask(chat(stream=True))
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    return found


def main() -> int:
    """Prints the numbers; 1 where a bound is exceeded."""
    parser = argparse.ArgumentParser(prog="python -m bench.gateway.request_path", description=__doc__)
    parser.add_argument("--max-modules", type=int)
    parser.add_argument("--max-changes", type=int)
    options = parser.parse_args()
    found = profile()
    modules = Counter(found.calls)
    for module, calls in modules.most_common():
        print(f"{calls:5}  {module}", file=sys.stderr)
    print(
        f"{len(found.calls)} calls in {len(modules)} modules, {found.changes} changes of module",
        file=sys.stderr,
    )
    too_many = options.max_modules is not None and len(modules) > options.max_modules
    return int(too_many or (options.max_changes is not None and found.changes > options.max_changes))


if __name__ == "__main__":
    sys.exit(main())
