"""The table of container images (`images.yaml`) as typed rows, and the URI of one in a region.

The table is data with a date: replace it, or add a row, without touching code. Which account publishes where
stands in `image_registries.yaml`, which a script writes. Reads these files and engine_versions.yaml only.
"""

from __future__ import annotations

import datetime
from functools import cache
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import Field, model_validator

from infra.settings.base import SettingsModel
from infra.settings.engine_versions import engine_versions

EngineKind = Literal["vllm", "neuron", "transformers", "training"]
TABLE = Path(__file__).with_name("images.yaml")
REGISTRIES = Path(__file__).with_name("image_registries.yaml")
OWN_REGISTRY = "account"


class Image(SettingsModel):
    """One pinned image: where it is published, what runs in it and which host images can start it.

    `engine_version` is the version of what `engine` names, which is vLLM for neuron and PyTorch for training;
    `source` says where that is published.
    """

    registry: str
    repository: str
    tag: str
    engine: EngineKind
    engine_version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    source: str = Field(min_length=10)
    accelerator: Literal["cpu", "gpu", "neuron"]
    cuda: int | None = None
    inference_ami_versions: list[str] = []

    @property
    def private(self) -> bool:
        """Whether the image is in the deploying account's own registry."""
        return self.registry == OWN_REGISTRY

    @model_validator(mode="after")
    def _version_is_recorded(self) -> Self:
        if self.engine == "vllm" and self.engine_version not in engine_versions():
            raise ValueError(
                f"what vLLM {self.engine_version} takes is not recorded: "
                f"make engine-versions VERSIONS={self.engine_version}"
            )
        return self


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
