"""The challenger's papers: its name and digest, its package in the registry, and people's word on it."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from typing import Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from contracts.artefact import MANIFEST_NAME, Manifest
from contracts.release_tasks import Approve, Decide, DescribeChallenger, Register, ServedModel
from contracts.training import DATA_CARD_FILE, DataCard
from lambdas.release.errors import ApprovalUnknownError, ArtefactIncompleteError, BadInputError

_LONGEST_VERSION = 63
_HASH_CHARACTERS = 12
_SECRET_BYTES = 32


class Files(Protocol):
    """The artefacts bucket."""

    def read(self, uri: str) -> bytes:
        """The whole object. Raises FileNotFoundError."""

    def sizes(self, prefix_uri: str) -> Mapping[str, int]:
        """Bytes of each object under a prefix, by relative path."""


class Registry(Protocol):
    """The model registry."""

    def register(
        self, model: ServedModel, *, image: str, report_uri: str, lineage: Mapping[str, str], token: str
    ) -> str:
        """Create a pending package, once per token; its ARN."""

    def decide(self, package_arn: str, status: str, reason: str) -> None:
        """Set the approval status."""


class People(Protocol):
    """Who is asked."""

    def ask(self, subject: str, text: str) -> None:
        """Send a message."""


class Waiting(Protocol):
    """Tasks of the state machine that wait for a word."""

    def go_on(self, task_token: str) -> bool:
        """Let it succeed; False where nobody waits any more."""

    def refuse(self, task_token: str, cause: str) -> bool:
        """Let it fail; False where nobody waits any more."""


class Question(BaseModel):
    """An open approval; of the secret only the SHA-256 is kept."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    secret_hash: str
    task_token: str
    package_arn: str


class Questions(Protocol):
    """Where open approvals are kept."""

    def keep(self, release_id: str, question: Question) -> None:
        """Keep it; an older question of the release is void then."""

    def find(self, release_id: str) -> Question | None:
        """The release's question."""

    def answer(self, release_id: str, secret_hash: str, decision: str) -> str:
        """Note the decision on this question unless there is one; the decision that holds."""


class Registering:
    """Papers of one endpoint's releases. `function_name` is what approvers invoke."""

    def __init__(
        self,
        files: Files,
        registry: Registry,
        people: People | None,
        waiting: Waiting,
        questions: Questions,
        function_name: str,
    ) -> None:
        self._files = files
        self._registry = registry
        self._people = people
        self._waiting = waiting
        self._questions = questions
        self._function_name = function_name

    def describe(self, task: DescribeChallenger) -> ServedModel:
        """The artefact as its manifest names it. Raises ArtefactIncompleteError, naming what is missing."""
        uri = task.model_uri.rstrip("/") + "/"
        try:
            manifest = Manifest.model_validate_json(self._files.read(uri + MANIFEST_NAME))
        except FileNotFoundError:
            raise ArtefactIncompleteError(f"{MANIFEST_NAME} is missing from {uri}") from None
        except ValidationError:
            raise ArtefactIncompleteError(f"{MANIFEST_NAME} in {uri} is not a manifest") from None
        sizes = self._files.sizes(uri)
        for entry in manifest.files:
            if entry.path not in sizes:
                raise ArtefactIncompleteError(f"{entry.path} is missing from {uri}")
            if sizes[entry.path] != entry.bytes:
                raise ArtefactIncompleteError(
                    f"{entry.path} in {uri} is not of the size that its manifest names"
                )
        version = version_name(manifest.name, task.release_id)
        return ServedModel(uri=uri, digest=manifest.digest, version=version)

    def register(self, task: Register, image: str) -> str:
        """Put the challenger into the registry with where it comes from; its package's ARN."""
        lineage = {
            "release_id": task.release_id,
            "version": task.challenger.version,
            "digest": task.challenger.digest,
            "base_version": task.champion.version,
            "base_digest": task.champion.digest,
            "base_uri": task.champion.uri,
            "data_uri": task.data_uri,
            "report_uri": task.report_uri,
            **self._data_digests(task.data_uri),
        }
        token = f"{task.release_id}/{task.challenger.digest}"
        return self._registry.register(
            task.challenger, image=image, report_uri=task.report_uri, lineage=lineage, token=token
        )

    def _data_digests(self, data_uri: str) -> dict[str, str]:
        """SHA-256 by file of the release's data, from its card."""
        try:
            card = DataCard.model_validate_json(self._files.read(f"{data_uri.rstrip('/')}/{DATA_CARD_FILE}"))
        except FileNotFoundError as missing:
            raise BadInputError(
                f"{missing} is not there: a model without its data's card is not registered."
            ) from None
        except ValidationError:
            raise BadInputError(f"{DATA_CARD_FILE} in {data_uri} cannot be read.") from None
        return {f"data_{file.name}": file.sha256 for file in card.files}

    def approve(self, task: Approve) -> None:
        """Decide at once, or ask and let the task wait. Raises BadInputError where nobody can be asked."""
        if task.status != "PendingManualApproval":
            self._registry.decide(task.package_arn, task.status, "By the release loop's settings.")
            return
        if task.token is None or self._people is None:
            raise BadInputError("Manual approval needs a task token and a topic of approvers.")
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        question = Question(secret_hash=_hash(secret), task_token=task.token, package_arn=task.package_arn)
        self._questions.keep(task.release_id, question)
        self._people.ask(f"Approve model release {task.release_id}?", self._text(task, secret))

    def _text(self, task: Approve, secret: str) -> str:
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
        """Take a person's word, once. Raises ApprovalUnknownError for a wrong secret or a word too late."""
        question = self._questions.find(task.release_id)
        given = _hash(task.secret)
        if question is None or not hmac.compare_digest(question.secret_hash, given):
            raise ApprovalUnknownError(
                f"The release {task.release_id} waits for no decision with this secret."
            )
        holds = self._questions.answer(task.release_id, question.secret_hash, task.decision)
        if holds != task.decision:
            raise ApprovalUnknownError(f"The decision on {task.release_id} was made already: {holds}.")
        approved = task.decision == "approve"
        status = "Approved" if approved else "Rejected"
        self._registry.decide(question.package_arn, status, "By a person.")
        heard = (
            self._waiting.go_on(question.task_token)
            if approved
            else self._waiting.refuse(question.task_token, "A person rejected the release.")
        )
        if not heard:
            raise ApprovalUnknownError(f"The release {task.release_id} has stopped waiting for a decision.")


def version_name(name: str, release_id: str) -> str:
    """`<model>-<release>`, at most 63 characters; a release id too long for it becomes a hash."""
    clean = re.sub(r"[^A-Za-z0-9._-]", "-", name).lstrip("._-") or "model"
    version = f"{clean}-{release_id}"
    if len(version) <= _LONGEST_VERSION:
        return version
    short = hashlib.sha256(release_id.encode()).hexdigest()[:_HASH_CHARACTERS]
    return f"{clean[: _LONGEST_VERSION - _HASH_CHARACTERS - 1]}-{short}"


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
