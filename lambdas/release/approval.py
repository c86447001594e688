"""Approval of a registered package: by the settings at once, or by a person for whom the workflow waits."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from contracts.release_tasks import Approve, Decide
from lambdas.release.errors import ApprovalUnknownError, BadInputError

_SECRET_BYTES = 32


class PackageStatus(Protocol):
    """The approval status of packages in the model registry."""

    def decide(self, package_arn: str, status: str, reason: str) -> None:
        """Set the approval status."""


class ApprovalNotifier(Protocol):
    """Sends messages to the approvers."""

    def notify(self, subject: str, text: str) -> None:
        """Send a message."""


class TaskTokenClient(Protocol):
    """Completes tasks of the state machine that wait with a token."""

    def send_success(self, task_token: str) -> bool:
        """Let the task succeed; False where it no longer waits."""

    def send_failure(self, task_token: str, cause: str) -> bool:
        """Let the task fail; False where it no longer waits."""


class PendingApproval(BaseModel):
    """An approval that waits for a decision; of the secret only the SHA-256 is kept."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    secret_hash: str
    task_token: str
    package_arn: str


class PendingApprovals(Protocol):
    """Where pending approvals are kept."""

    def put(self, release_id: str, approval: PendingApproval) -> None:
        """Keep it; it replaces an older one of the release."""

    def find(self, release_id: str) -> PendingApproval | None:
        """The release's pending approval."""

    def record_decision(self, release_id: str, secret_hash: str, decision: str) -> str:
        """Record the decision unless there is one; the decision that holds."""


class PackageApproval:
    """Approvals of one endpoint's releases.

    Args:
        packages: sets the status of packages.
        notifier: reaches the approvers; None where only the settings decide.
        task_tokens: completes the task that waits for the decision.
        pending: keeps what awaits a decision.
        function_name: the function that approvers invoke.
    """

    def __init__(
        self,
        packages: PackageStatus,
        notifier: ApprovalNotifier | None,
        task_tokens: TaskTokenClient,
        pending: PendingApprovals,
        function_name: str,
    ) -> None:
        self._packages = packages
        self._notifier = notifier
        self._task_tokens = task_tokens
        self._pending = pending
        self._function_name = function_name

    def approve(self, task: Approve) -> None:
        """Decide at once, or notify the approvers and wait. Raises BadInputError without a topic."""
        if task.status != "PendingManualApproval":
            self._packages.decide(task.package_arn, task.status, "By the release loop's settings.")
            return
        if task.token is None or self._notifier is None:
            raise BadInputError("Manual approval needs a task token and a topic of approvers.")
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        approval = PendingApproval(
            secret_hash=_hash(secret), task_token=task.token, package_arn=task.package_arn
        )
        self._pending.put(task.release_id, approval)
        self._notifier.notify(f"Approve model release {task.release_id}?", self._message(task, secret))

    def _message(self, task: Approve, secret: str) -> str:
        """What approvers read. Nothing happens on a click: mail scanners open every link."""
        lines = [f"The release {task.release_id} waits for your word on {task.package_arn}.", ""]
        for decision in ("approve", "reject"):
            payload = {
                "task": "decide",
                "release_id": task.release_id,
                "secret": secret,
                "decision": decision,
            }
            lines += [
                f"To {decision}:",
                f"aws lambda invoke --function-name {self._function_name} "
                f"--cli-binary-format raw-in-base64-out --payload '{json.dumps(payload)}' /dev/stdout",
                "",
            ]
        return "\n".join(lines)

    def decide(self, task: Decide) -> None:
        """Record a person's decision, once. Raises ApprovalUnknownError for a wrong secret or too late."""
        approval = self._pending.find(task.release_id)
        given = _hash(task.secret)
        if approval is None or not hmac.compare_digest(approval.secret_hash, given):
            raise ApprovalUnknownError(
                f"The release {task.release_id} waits for no decision with this secret."
            )
        holds = self._pending.record_decision(task.release_id, approval.secret_hash, task.decision)
        if holds != task.decision:
            raise ApprovalUnknownError(f"The decision on {task.release_id} was made already: {holds}.")
        approved = task.decision == "approve"
        status = "Approved" if approved else "Rejected"
        self._packages.decide(approval.package_arn, status, "By a person.")
        acknowledged = (
            self._task_tokens.send_success(approval.task_token)
            if approved
            else self._task_tokens.send_failure(approval.task_token, "A person rejected the release.")
        )
        if not acknowledged:
            raise ApprovalUnknownError(f"The release {task.release_id} has stopped waiting for a decision.")


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
