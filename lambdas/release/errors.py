"""What can go wrong in a release. The state machine catches and retries these by the names of the classes.

Messages are written for the person who reads why a release ended, so they may go into the ledger.
"""

from __future__ import annotations


class ReleaseError(Exception):
    """Any of them."""


class BadInputError(ReleaseError):
    """A task was called with fields that it does not know, or without ones it needs."""


class LockedError(ReleaseError):
    """Another release is running on this endpoint."""


class LockLostError(ReleaseError):
    """This release no longer holds the lock: it must not change anything any more."""


class ArtefactIncompleteError(ReleaseError):
    """The challenger's artefact lacks its manifest or a file of it."""


class ReportUnusableError(ReleaseError):
    """The evaluation report is not there or is not one."""


class ExperimentMissingError(ReleaseError):
    """The traffic is not split for this release, so there is nothing to judge."""


class TopologyFailedError(ReleaseError):
    """The stack rolled back or the endpoint failed."""


class RolledBackError(TopologyFailedError):
    """SageMaker took an update back though the stack says that it was made."""


class TopologyTimeoutError(ReleaseError):
    """An update did not come to rest in time."""


class StackBusyError(ReleaseError):
    """Something else is updating the stack: worth another try."""


class EndpointBusyError(ReleaseError):
    """The endpoint is still being updated: worth another try."""


class CopyPendingError(ReleaseError):
    """S3 has not yet copied the model to the second region: worth another try."""


class ApprovalUnknownError(ReleaseError):
    """A decision came without a question, twice, or with the wrong secret."""
