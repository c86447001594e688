"""The second region's champion: brought there after a promotion, once its copy has arrived.

A release that ends otherwise never comes here, so what callers did not accept is never in both regions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from contracts.release_tasks import ServedModel
from lambdas.release.aws.stack import StackState
from lambdas.release.errors import CopyPendingError, TopologyFailedError


class Stack(Protocol):
    """The second region's stack."""

    def describe(self) -> StackState:
        """The stack now."""

    def update(self, changes: Mapping[str, str], purpose: str) -> None:
        """Start an update of these parameters."""

    def failure(self) -> str:
        """The first cause in the latest update's events."""


class Copies(Protocol):
    """The first region's artefacts, which S3 copies."""

    def copied(self, prefix_uri: str) -> bool:
        """Whether every object under a prefix has arrived in the second region."""


class Following:
    """One second region. `bucket` is where S3 puts the copies."""

    def __init__(self, stack: Stack, copies: Copies, bucket: str) -> None:
        self._stack = stack
        self._copies = copies
        self._bucket = bucket

    def start(self, release_id: str, champion: ServedModel) -> None:
        """Begin to serve the champion's copy. Raises CopyPendingError until it is there."""
        if not self._copies.copied(champion.uri):
            raise CopyPendingError(f"{champion.uri} is not yet in the second region.")
        copy = self._there(champion)
        changes = {
            "ChampionModelUri": copy.uri,
            "ChampionModelDigest": copy.digest,
            "ChampionModelVersion": copy.version,
        }
        self._stack.update(changes, f"follow-{release_id}")

    def done(self, champion: ServedModel) -> bool:
        """Whether the second region serves the champion. Raises TopologyFailedError with the reason."""
        state = self._stack.describe()
        if state.is_changing:
            return False
        if state.champion != self._there(champion) or not state.is_at_rest:  # a roll-back left the last one
            cause = self._stack.failure() or state.reason or "no reason was given"
            raise TopologyFailedError(f"The second region's stack is in {state.status}: {cause}")
        return True

    def _there(self, champion: ServedModel) -> ServedModel:
        _, _, key = champion.uri.removeprefix("s3://").partition("/")
        return champion.model_copy(update={"uri": f"s3://{self._bucket}/{key}"})
