"""Where a release is on record: the keys of the ledger's table, and the lock of an endpoint.

Rows of a release lie under `RELEASE#<id>`, in order of their sort key; the lock under `LOCK#<endpoint name>`,
and what the last release was trained on under `DATA#<endpoint name>`.
Written by the release function, and by an operator who goes back to an earlier release.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from contracts.release_tasks import ServedModel

RELEASE_PREFIX = "RELEASE#"
LOCK_SORT_KEY = "LOCK"
DATA_SORT_KEY = "DATA"


def release_pk(release_id: str) -> str:
    """Partition of a release's rows."""
    return f"{RELEASE_PREFIX}{release_id}"


def lock_key(endpoint_name: str) -> dict[str, str]:
    """Key of an endpoint's lock."""
    return {"pk": f"LOCK#{endpoint_name}", "sk": LOCK_SORT_KEY}


def data_key(endpoint_name: str) -> dict[str, str]:
    """Key of what the last release was trained on."""
    return {"pk": f"DATA#{endpoint_name}", "sk": DATA_SORT_KEY}


class Lock(BaseModel):
    """Who may change an endpoint, since when, and what served before it began.

    Times are seconds since the epoch. A release's lock holds as long as its execution runs; an operator's
    holds until `expires_at`.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    release_id: str
    execution_arn: str
    acquired_at: float
    champion: ServedModel
    expires_at: float | None = None
