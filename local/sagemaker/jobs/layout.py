"""What the runner needs to know of a kind of job: what goes into its folder, what it runs, what goes out."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from local.sagemaker.jobs.folder import JobFolder
from local.sagemaker.jobs.transfer import Transfer


class JobLayout(Protocol):
    """One job's folder. `fetch`, `sync_checkpoints` and `deliver` block; they raise TransferError."""

    folder: JobFolder

    @property
    def work_folder(self) -> Path:
        """Where the process starts."""

    def fetch(self, transfer: Transfer) -> None:
        """Fill the folder from S3 and write the configuration files."""

    def command(self, python: str) -> list[str]:
        """What to run; call after `fetch`. `python` is the image's interpreter."""

    def environment(self) -> dict[str, str]:
        """The kind's own variables."""

    def sync_checkpoints(self, transfer: Transfer) -> None:
        """Called every few seconds while the process runs."""

    def deliver(self, transfer: Transfer, *, usable: bool) -> dict[str, object]:
        """Upload what the process left. `usable`: it ended well or was stopped, so that its results count.
        Answers fields for the job's record."""
