"""The second region's champion: brought there after a promotion, once its copy has arrived.

A release that ends otherwise never comes here, so what callers did not accept is never in both regions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from contracts.release_tasks import ServedModel
from lambdas.release.errors import CopyPendingError, TopologyFailedError
from lambdas.release.serving_check import Serving, check_serving
from lambdas.release.topology import Stack


class Copies(Protocol):
    """The first region's artefacts, which S3 copies."""

    def copied(self, prefix_uri: str) -> bool:
        """Whether every object under a prefix has arrived in the second region."""


class StackUpdates(Protocol):
    """What alone may update the second region's stack."""

    def start(self, parameters: Mapping[str, str], purpose: str) -> str:
        """Start an update; what to ask for it by."""

    def done(self, execution_arn: str) -> bool:
        """Whether it has been made. Raises TopologyFailedError where it failed."""


class ModelReplication:
    """One second region. `bucket` is where S3 puts the copies, `serving` what its endpoint serves."""

    def __init__(
        self, stack: Stack, updates: StackUpdates, copies: Copies, bucket: str, serving: Serving
    ) -> None:
        self._stack = stack
        self._updates = updates
        self._serving = serving
        self._copies = copies
        self._bucket = bucket

    def start(self, release_id: str, champion: ServedModel) -> str:
        """Begin to serve the champion's copy; the ARN of the update's execution.

        Raises CopyPendingError until the copy is there.
        """
        if not self._copies.copied(champion.uri):
            raise CopyPendingError(f"{champion.uri} is not yet in the second region.")
        copy = self._copy_of(champion)
        changes = {
            "ChampionModelUri": copy.uri,
            "ChampionModelDigest": copy.digest,
            "ChampionModelVersion": copy.version,
        }
        return self._updates.start(changes, f"follow-{release_id}")

    def done(self, champion: ServedModel, execution_arn: str) -> bool:
        """Whether the second region serves the champion.

        Raises RolledBackError or TopologyFailedError with the reason.
        """
        try:
            if not self._updates.done(execution_arn):
                return False
        except TopologyFailedError as error:
            raise TopologyFailedError(f"The second region: {error}") from None
        state = self._stack.describe()
        if state.is_changing:
            return False
        if state.champion != self._copy_of(champion) or not state.is_at_rest:  # a roll-back left the last one
            cause = self._stack.failure() or state.reason or "no reason was given"
            raise TopologyFailedError(f"The second region's stack is in {state.status}: {cause}")
        check_serving(self._serving)
        return True

    def _copy_of(self, champion: ServedModel) -> ServedModel:
        _, _, key = champion.uri.removeprefix("s3://").partition("/")
        return champion.model_copy(update={"uri": f"s3://{self._bucket}/{key}"})
