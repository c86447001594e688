"""What the runner needs to know of a kind of job: what goes into its folder, what it runs, what goes out."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from local.sagemaker.jobs.folder import JobFolder
from local.sagemaker.jobs.transfer import Transfer


class JobLayout(Protocol):
    """One job's folder. `fetch`, `sync_checkpoints` and `deliver` block: call them on a thread."""

    folder: JobFolder

    @property
    def work_folder(self) -> Path:
        """Where the process starts."""

    def fetch(self, transfer: Transfer) -> None:
        """Fill the folder from S3 and write the configuration files.

        Args:
            transfer: S3 with the job's role.

        Raises:
            TransferError: An input is missing or may not be read.
        """

    def command(self, python: str) -> list[str]:
        """What to run; call after `fetch`.

        Args:
            python: The path of the image's interpreter.

        Raises:
            TransferError: The request names nothing to run.
        """

    def environment(self) -> dict[str, str]:
        """The variables of this kind of job."""

    def sync_checkpoints(self, transfer: Transfer) -> None:
        """Upload new checkpoints; called every few seconds while the process runs.

        Args:
            transfer: S3 with the job's role.

        Raises:
            TransferError: The checkpoints could not be uploaded.
        """

    def deliver(self, transfer: Transfer, *, usable: bool) -> dict[str, object]:
        """Upload what the process left.

        Args:
            transfer: S3 with the job's role.
            usable: Whether it ended well or was stopped, so that its results count.

        Returns:
            Further members of the job's record.

        Raises:
            TransferError: The results could not be uploaded.
        """
