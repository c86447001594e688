"""The last lines of an endpoint's containers, from CloudWatch or from the file that a deploy kept of them.

CloudFormation removes a new endpoint's log group when its first create fails: a deploy follows the log into a
file while it runs, so that `why` has it afterwards.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from infra.settings import Settings
from operations.target import Target

_STREAMS, _LINES = 4, 200
_POLL_SECONDS = 5.0


def log_groups(endpoint_name: str, components: Sequence[str]) -> list[str]:
    """SageMaker's names of the log groups of an endpoint and its inference components."""
    groups = [f"/aws/sagemaker/InferenceComponents/{name}" for name in components]
    return [f"/aws/sagemaker/Endpoints/{endpoint_name}", *groups]


def kept_file(folder: Path, env: str) -> Path:
    """Where a deploy keeps what the containers of an environment wrote while it ran."""
    return folder / f"container-{env}.log"


def last_lines(logs: Any, group: str, since: datetime | None) -> list[tuple[datetime, str, str]]:
    """Time, stream and text of the last lines since a moment, oldest first; empty where there is no group."""
    try:
        streams = logs.describe_log_streams(
            logGroupName=group, orderBy="LastEventTime", descending=True, limit=_STREAMS
        )["logStreams"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            return []
        raise
    window = {"startTime": int(since.timestamp() * 1000)} if since else {}
    lines = []
    for stream in streams:
        name = stream["logStreamName"]
        events = logs.get_log_events(
            logGroupName=group, logStreamName=name, limit=_LINES, startFromHead=False, **window
        )["events"]
        lines += [
            (datetime.fromtimestamp(event["timestamp"] / 1000, UTC), name, event["message"].rstrip())
            for event in events
        ]
    return sorted(lines)


def follow(target: Target, folder: Path) -> ContainerLogFollower:
    """A follower of the environment's containers that keeps their lines in `folder`."""
    groups = environment_groups(target.settings)
    return ContainerLogFollower(target.client("logs"), groups, kept_file(folder, target.name))


def environment_groups(settings: Settings) -> list[str]:
    """The groups of every endpoint, the environment's own first."""
    return [
        group
        for one in (settings, *settings.further_endpoints)
        for group in log_groups(one.endpoint_name, one.component_names)
    ]


class ContainerLogFollower:
    """Writes new lines of the log groups to a file, as a context manager around a deploy.

    It never fails the deploy: what cannot be read is tried again.
    """

    def __init__(self, logs: Any, groups: Sequence[str], file: Path) -> None:
        self._logs, self._groups, self._file = logs, groups, file
        self._since = datetime.now(UTC)
        self._seen: set[tuple[datetime, str, str]] = set()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="container-log", daemon=True)

    def __enter__(self) -> ContainerLogFollower:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text("")
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join(timeout=3 * _POLL_SECONDS)

    def _follow(self) -> None:
        while not self._done.wait(_POLL_SECONDS):
            self._append()
        self._append()

    def _append(self) -> None:
        for group in self._groups:
            try:
                lines = last_lines(self._logs, group, self._since)
            except (BotoCoreError, ClientError):
                continue
            new = [line for line in lines if line not in self._seen]
            self._seen.update(new)
            with self._file.open("a", encoding="utf-8") as file:
                file.writelines(f"{at.isoformat()} {stream} {text}\n" for at, stream, text in new)


def kept_lines(file: Path, since: datetime | None) -> list[tuple[datetime, str, str]]:
    """The lines that a follower kept, as `last_lines` gives them; empty where there is no file."""
    if not file.exists():
        return []
    lines = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines()[-_STREAMS * _LINES :]:
        moment, _, rest = line.partition(" ")
        stream, _, text = rest.partition(" ")
        try:
            at = datetime.fromisoformat(moment)
        except ValueError:  # the further lines of a message
            continue
        if since is None or at >= since:
            lines.append((at, stream, text))
    return lines
