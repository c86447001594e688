"""The table of container images (`images.yaml`) as typed rows, and the URI of one in a region.

The table is data with a date: replace it, or add a row, without touching code. Which account publishes where
stands in `image_registries.yaml`, which a script writes. Reads these two files only.
"""

from __future__ import annotations

import datetime
from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field

from infra.settings.base import SettingsModel

EngineKind = Literal["vllm", "neuron", "transformers", "training"]
TABLE = Path(__file__).with_name("images.yaml")
REGISTRIES = Path(__file__).with_name("image_registries.yaml")
OWN_REGISTRY = "account"
VLLM_QUEUE_FLAG = "SM_VLLM_MAX_NUM_QUEUED_REQS"
VLLM_FLAGS_SINCE = {VLLM_QUEUE_FLAG: (0, 29, 0)}
"""First vLLM version of each flag that an image may lack: the server ends at once on one it does not know."""


class Image(SettingsModel):
    """One pinned image: where it is published, which engine it runs and which host images can start it."""

    registry: str
    repository: str
    tag: str
    engine: EngineKind
    engine_version: str | None = Field(default=None, pattern=r"^\d+\.\d+\.\d+$")
    accelerator: Literal["cpu", "gpu", "neuron"]
    cuda: int | None = None
    inference_ami_versions: list[str] = []

    @property
    def private(self) -> bool:
        """Whether the image is in the deploying account's own registry."""
        return self.registry == OWN_REGISTRY

    def knows(self, flag: str) -> bool:
        """Whether the image's engine takes a flag, by the variable that becomes it."""
        since = VLLM_FLAGS_SINCE.get(flag)
        if since is None:
            return True
        return self.engine_version is not None and tuple(map(int, self.engine_version.split("."))) >= since


class EngineImageTable(SettingsModel):
    """All images, the registries' accounts per region, and the day somebody looked."""

    checked: datetime.date
    images: dict[str, Image]
    registries: dict[str, dict[str, str]]

    def regions(self, name: str) -> list[str] | None:
        """Regions that the image is published in; None for one of our own, which is where it was pushed."""
        image = self.images[name]
        return None if image.private else sorted(self.registries[image.registry])

    def uri(self, name: str, *, account: str, region: str) -> str:
        """`<account>.dkr.ecr.<region>.amazonaws.com/<repository>:<tag>`."""
        image = self.images[name]
        publisher = account if image.private else self.registries[image.registry][region]
        domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        return f"{publisher}.dkr.ecr.{region}.{domain}/{image.repository}:{image.tag}"


@cache
def image_table() -> EngineImageTable:
    """The committed table."""
    rows = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    accounts = yaml.safe_load(REGISTRIES.read_text(encoding="utf-8"))["registries"]
    return EngineImageTable.model_validate(rows | {"registries": accounts})
