"""Registration of a challenger: its name and digest, and its package in the model registry."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Protocol

from pydantic import ValidationError

from contracts.artefact import MANIFEST_NAME, Manifest
from contracts.release_tasks import DescribeChallenger, Register, ServedModel
from contracts.training import DATA_CARD_FILE, DataCard
from lambdas.release.errors import ArtefactIncompleteError, BadInputError

_LONGEST_VERSION = 63
_HASH_CHARACTERS = 12


class ArtefactReader(Protocol):
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


class ModelRegistration:
    """Registers the challengers of one endpoint's releases."""

    def __init__(self, files: ArtefactReader, registry: Registry) -> None:
        self._files = files
        self._registry = registry

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


def version_name(name: str, release_id: str) -> str:
    """`<model>-<release>`, at most 63 characters; a release id too long for it becomes a hash."""
    clean = re.sub(r"[^A-Za-z0-9._-]", "-", name).lstrip("._-") or "model"
    version = f"{clean}-{release_id}"
    if len(version) <= _LONGEST_VERSION:
        return version
    short = hashlib.sha256(release_id.encode()).hexdigest()[:_HASH_CHARACTERS]
    return f"{clean[: _LONGEST_VERSION - _HASH_CHARACTERS - 1]}-{short}"
