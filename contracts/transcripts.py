"""What was said, masked: one JSON line per request in the records bucket, for evaluation and for audits.

Keys are partitioned by day first, for jobs that read a period, and carry a hash of the user, so that
everything of one user can be found and deleted.
"""

from __future__ import annotations

import hashlib

from pydantic import BaseModel, ConfigDict

from contracts.records import InferenceRecord

PREFIX = "transcripts/"


class Turn(BaseModel):
    """One turn of the prompt; a text completion has one of role `user`."""

    model_config = ConfigDict(defer_build=True, frozen=True, extra="forbid")

    role: str
    text: str


class Transcript(BaseModel):
    """A request's record with prompt and answer; personal data is replaced by `[LABEL]` or `[LABEL_1]`.

    `findings` are the guards' as `<guard>:<label>:<action>`.
    """

    model_config = ConfigDict(defer_build=True, frozen=True, extra="forbid")

    operation: str
    record: InferenceRecord
    prompt: list[Turn]
    answer: str
    findings: list[str]
    cost_usd: float | None


def user_hash(tenant: str, user: str | None) -> str:
    """Stands for a tenant's user in keys; requests without a user share one."""
    return hashlib.sha256(f"{tenant}\0{user or ''}".encode()).hexdigest()[:16]


def day_prefix(day: str, tenant: str, user: str | None) -> str:
    """Where the transcripts of a user on a day (`YYYY-MM-DD`) lie."""
    return f"{PREFIX}day={day}/tenant={tenant}/user={user_hash(tenant, user)}/"


def transcript_key(day: str, record: InferenceRecord) -> str:
    """The object key of one request's transcript."""
    return f"{day_prefix(day, record.tenant, record.user)}{record.request_id}.jsonl"
