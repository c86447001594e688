"""Where a container stands: the names that its log lines and metrics carry. Plain data."""

from __future__ import annotations

from dataclasses import dataclass

Dimensions = tuple[tuple[str, str], ...]

# What counts per instance of a variant counts per copy of an inference component, under another name.
_PER_COPY = {
    "InvocationsPerInstance": "InvocationsPerCopy",
    "ConcurrentRequestsPerModel": "ConcurrentRequestsPerCopy",
}


@dataclass(frozen=True)
class InstanceLocation:
    """A variant of an endpoint, or an inference component on it; `model` is what runs there."""

    endpoint: str
    variant: str
    model: str
    component: str | None = None

    @property
    def log_group(self) -> str:
        """Where the containers' lines go."""
        if self.component:
            return f"/aws/sagemaker/InferenceComponents/{self.component}"
        return f"/aws/sagemaker/Endpoints/{self.endpoint}"

    @property
    def folder(self) -> str:
        """The containers' scratch folder, below the endpoint's."""
        return f"{self.variant}/{self.component}" if self.component else self.variant

    def published(self, values: dict[str, float]) -> list[tuple[Dimensions, dict[str, float]]]:
        """The values of metrics with the dimensions that they are published under."""
        variant = (("EndpointName", self.endpoint), ("VariantName", self.variant))
        if self.component is None:
            return [(variant, values)]
        shared = {name: value for name, value in values.items() if name not in _PER_COPY}
        own = {_PER_COPY.get(name, name): value for name, value in values.items()}
        found: list[tuple[Dimensions, dict[str, float]]] = [
            ((("InferenceComponentName", self.component),), own)
        ]
        return [*found, (variant, shared)] if shared else found
