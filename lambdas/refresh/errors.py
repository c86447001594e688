"""What can go wrong in a release. The state machine catches and retries these by the names of the classes.

Messages are written for the person who reads why a release ended, so they may go into the ledger.
"""

from __future__ import annotations


class RefreshError(Exception):
    """Any of them."""


class BadInput(RefreshError):
    """A task was called with fields that it does not know, or without ones it needs."""


class Locked(RefreshError):
    """Another release is running on this endpoint."""


class LockLost(RefreshError):
    """This release no longer holds the lock: it must not change anything any more."""


class ArtefactIncomplete(RefreshError):
    """The challenger's artefact lacks its manifest or a file of it."""


class ReportUnusable(RefreshError):
    """The evaluation report is not there or is not one."""


class ExperimentMissing(RefreshError):
    """The traffic is not split for this release, so there is nothing to judge."""


class TopologyFailed(RefreshError):
    """The stack rolled back or the endpoint failed."""


class StackBusy(RefreshError):
    """Something else is updating the stack: worth another try."""


class EndpointBusy(RefreshError):
    """The endpoint is still being updated: worth another try."""


class CopyPending(RefreshError):
    """S3 has not yet copied the model to the second region: worth another try."""


class ApprovalUnknown(RefreshError):
    """A decision came without a question, twice, or with the wrong secret."""
