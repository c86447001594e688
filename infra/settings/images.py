"""The table of container images (`images.yaml`) as typed rows, and the URI of one in a region.

The table is data with a date: replace it, or add a row, without touching code. Reads its own file only.
"""

from __future__ import annotations

import datetime
from functools import cache
from pathlib import Path
from typing import Literal

import yaml

from infra.settings.base import SettingsModel

EngineKind = Literal["vllm", "neuron", "transformers", "training"]
TABLE = Path(__file__).with_name("images.yaml")
OWN_REGISTRY = "account"


class Image(SettingsModel):
    """One pinned image: where it is published, which engine it runs and which host images can start it."""

    registry: str
    repository: str
    tag: str
    engine: EngineKind
    cuda: int | None = None
    inference_ami_versions: list[str] = []

    @property
    def private(self) -> bool:
        """Whether the image lies in the deploying account's own registry."""
        return self.registry == OWN_REGISTRY


class ImageTable(SettingsModel):
    """All images, the registries' accounts per region, and the day somebody looked."""

    checked: datetime.date
    registries: dict[str, dict[str, str]]
    images: dict[str, Image]

    def uri(self, name: str, *, account: str, region: str) -> str:
        """`<account>.dkr.ecr.<region>.amazonaws.com/<repository>:<tag>`."""
        image = self.images[name]
        if image.private:
            publisher = account
        else:
            accounts = self.registries[image.registry]
            publisher = accounts.get(region, accounts["default"])
        return f"{publisher}.dkr.ecr.{region}.amazonaws.com/{image.repository}:{image.tag}"


@cache
def image_table() -> ImageTable:
    """The committed table."""
    return ImageTable.model_validate(yaml.safe_load(TABLE.read_text(encoding="utf-8")))
