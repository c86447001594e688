"""One operator at a time changes an environment: a lock in the bootstrap bucket, renewed while it is held.

S3's conditional writes decide: create only where nothing is, replace only what was read. A holder that was
killed stops renewing, so its lock ends by itself; on the same machine it is taken over at once. The service's
clock is used on both sides, so machines need not agree on the time.
"""

from __future__ import annotations

import contextlib
import datetime
import email.utils
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from operations.aws_errors import code_of
from operations.bootstrap import assets_bucket
from operations.progress import CommandError
from operations.target import Target

HOLD_SECONDS = 180.0
"""How long a lock that nobody renews is still held."""
RENEW_SECONDS = 45.0
_LOST = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "404", "412", "409")


@dataclass(frozen=True)
class _Held:
    """A lock as it was read: who holds it, and how long ago it was renewed, in seconds."""

    who: dict[str, Any]
    etag: str
    age_seconds: float


class EnvironmentLock:
    """The lock of one environment for one command. Use `locked`."""

    def __init__(self, target: Target, purpose: str) -> None:
        self._s3 = target.client("s3")
        self._place = {"Bucket": assets_bucket(target), "Key": f"evergreen/{target.name}.lock"}
        self._environment = target.name
        self._body = json.dumps(
            {
                "who": target.caller,
                "host": socket.gethostname(),
                "process": os.getpid(),
                "purpose": purpose,
                "since": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            }
        ).encode()
        self._etag = ""
        self._done = threading.Event()
        self._renewing: threading.Thread | None = None

    def acquire(self) -> None:
        """Takes the lock. Raises CommandError that says who holds it and since when."""
        for _ in range(3):  # a lock may end, or change hands, between two looks
            held = self._read()
            if held is not None and not _is_over(held):
                raise CommandError(self._taken(held))
            if self._write(None if held is None else held.etag):
                self._renewing = threading.Thread(target=self._renew, daemon=True)
                self._renewing.start()
                return
        raise CommandError(f"Several commands start on {self._environment} at once: run this one again.")

    def release(self) -> None:
        """Gives it back, where it is still held."""
        self._done.set()
        if self._renewing:
            self._renewing.join(timeout=60)
        held = self._read()
        if held is not None and held.etag == self._etag:
            self._s3.delete_object(**self._place)

    def _read(self) -> _Held | None:
        try:
            found = self._s3.get_object(**self._place)
        except ClientError as error:
            if code_of(error) in ("NoSuchKey", "404"):
                return None
            raise
        now = email.utils.parsedate_to_datetime(found["ResponseMetadata"]["HTTPHeaders"]["date"])
        age = (now - found["LastModified"]).total_seconds()
        return _Held(json.loads(found["Body"].read()), str(found["ETag"]), age)

    def _write(self, replaces: str | None) -> bool:
        """Writes the lock where nothing is, or over what was read; says whether it was first."""
        condition = {"IfNoneMatch": "*"} if replaces is None else {"IfMatch": replaces}
        # Equal bytes have an equal ETag: a random part makes each lock one of its own.
        body = self._body[:-1] + f', "renewed": "{os.urandom(8).hex()}"}}'.encode()
        try:
            self._etag = str(self._s3.put_object(**self._place, Body=body, **condition)["ETag"])
        except ClientError as error:
            if code_of(error) in _LOST:
                return False
            raise
        return True

    def _renew(self) -> None:
        while not self._done.wait(RENEW_SECONDS):
            # One renewal that fails is made good by the next; until then the lock is still held.
            with contextlib.suppress(ClientError, BotoCoreError):
                self._write(self._etag)

    def _taken(self, held: _Held) -> str:
        who = held.who
        left = max(1, round((HOLD_SECONDS - held.age_seconds) / 60))
        return (
            f"{who['who']} has been running `{who['purpose']}` on {self._environment} since {who['since']} "
            f"(host {who['host']}, process {who['process']}): wait for it to end, and run this again. Where "
            f"that process was killed, the lock ends by itself within {left} min."
        )


@contextmanager
def locked(target: Target, purpose: str) -> Iterator[None]:
    """Holds the environment's lock for the block. Raises CommandError where somebody else has it."""
    lock = EnvironmentLock(target, purpose)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _is_over(held: _Held) -> bool:
    """Whether its holder is gone: it did not renew, or its process on this machine has ended."""
    if held.age_seconds > HOLD_SECONDS:
        return True
    return held.who.get("host") == socket.gethostname() and not _runs(int(held.who.get("process", 0)))


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # A killed process whose parent was killed too stays listed until somebody collects its status.
    with contextlib.suppress(OSError):  # only Linux tells
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        return state not in ("Z", "X")
    return True
