"""The endpoint: its variants, their weights and counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from lambdas.release.aws.clients import code_of, message_of
from lambdas.release.errors import EndpointBusyError

_CHANGING = {"Creating", "Updating", "SystemUpdating", "RollingBack"}


@dataclass(frozen=True)
class Variant:
    """A variant as it is wanted; `image` is the container image it was deployed with."""

    weight: float
    instances: int
    image: str


@dataclass(frozen=True)
class EndpointState:
    """An endpoint as SageMaker describes it; shadows are not among the variants."""

    status: str
    failure: str
    variants: Mapping[str, Variant]
    shadows: frozenset[str]

    @property
    def is_changing(self) -> bool:
        """Whether an update is under way."""
        return self.status in _CHANGING

    @property
    def in_service(self) -> bool:
        """Whether it serves and can be updated."""
        return self.status == "InService"


class EndpointClient:
    """One endpoint by its name."""

    def __init__(self, name: str, sagemaker: Any) -> None:
        self._name = name
        self._sagemaker = sagemaker

    def describe(self) -> EndpointState:
        """The endpoint now."""
        found = self._sagemaker.describe_endpoint(EndpointName=self._name)
        return EndpointState(
            status=found["EndpointStatus"],
            failure=found.get("FailureReason", ""),
            variants={entry["VariantName"]: _variant(entry) for entry in found.get("ProductionVariants", [])},
            shadows=frozenset(entry["VariantName"] for entry in found.get("ShadowProductionVariants", [])),
        )

    def resize(self, wanted: Mapping[str, tuple[float, int]]) -> None:
        """Set weight and instance count by variant. Raises EndpointBusyError while an update is under way."""
        try:
            self._sagemaker.update_endpoint_weights_and_capacities(
                EndpointName=self._name,
                DesiredWeightsAndCapacities=[
                    {"VariantName": name, "DesiredWeight": weight, "DesiredInstanceCount": instances}
                    for name, (weight, instances) in wanted.items()
                ],
            )
        except ClientError as error:
            if code_of(error) == "ValidationException" and self.describe().is_changing:
                raise EndpointBusyError(f"{self._name} is being updated: {message_of(error)}") from None
            raise


def _variant(entry: Mapping[str, Any]) -> Variant:
    images = entry.get("DeployedImages") or [{}]
    return Variant(
        weight=entry.get("DesiredWeight", entry.get("CurrentWeight", 0.0)),
        instances=entry.get("DesiredInstanceCount", entry.get("CurrentInstanceCount", 1)),
        image=images[0].get("SpecifiedImage", ""),
    )
