"""Whether there is anything to learn: source data that no finished release has been trained on yet.

A release that the calendar or an alarm starts without it ends at once, as kept; one that an operator starts
goes on, as long as there is any data.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from contracts.release_tasks import CheckData, DataFound
from lambdas.release.aws.artefacts import ArtefactFiles
from lambdas.release.errors import BadInputError
from lambdas.release.store import TrainedData, TrainedDataTable

_BY_ITSELF = ("aws.events", "aws.cloudwatch")
"""Sources of EventBridge's events: the calendar, and alarms."""


class SourceData:
    """The objects that training data is made from, and what was made of them."""

    def __init__(self, files: ArtefactFiles, table: TrainedDataTable) -> None:
        self._files = files
        self._table = table

    def check(self, task: CheckData) -> DataFound:
        """Whether to go on. Raises BadInputError where an operator starts a release without any data."""
        tags = self._files.tags(task.source_uri)
        by_itself = _by_itself(task.trigger)
        if not tags:
            if not by_itself:
                raise BadInputError(
                    f"There is no data under {task.source_uri}: upload prompts and answers first."
                )
            return DataFound(decision="keep", reason=f"No new data: nothing is under {task.source_uri} yet.")
        digest = hashlib.sha256(json.dumps(tags, sort_keys=True).encode()).hexdigest()
        last = self._table.read()
        if by_itself and last is not None and last.finished and last.digest == digest:
            reason = f"No new data: release {last.release_id} was trained on what is under {task.source_uri}."
            return DataFound(decision="keep", reason=reason)
        self._table.write(TrainedData(digest=digest, release_id=task.release_id, finished=False))
        return DataFound(decision="train", reason=f"{len(tags)} objects.")

    def finish(self, release_id: str) -> None:
        """The release came to a decision: its data needs no further release."""
        last = self._table.read()
        if last is not None and last.release_id == release_id:
            self._table.write(last.model_copy(update={"finished": True}))


def _by_itself(trigger: str | dict[str, Any] | None) -> bool:
    return isinstance(trigger, dict) and trigger.get("source") in _BY_ITSELF
