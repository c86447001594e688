"""CPUs that exist while a request runs: memory and concurrency in place of machines.

SageMaker takes no uncompressed prefix here, so the artefact is one archive; and since nothing says that it
streams from a serverless endpoint, the inference function asks for the whole answer (60 s, 6 MB).
"""

from __future__ import annotations

from constructs import Construct

from contracts.routing import CHAMPION
from infra.constructs.autoscaling import ReadyConcurrencyScaling
from infra.constructs.hosting import Hosting
from infra.constructs.inference_endpoint import InferenceEndpoint
from infra.constructs.release_parameters import ReleaseParameters
from infra.settings.endpoint import ServerlessEndpoint


class ServerlessInference(InferenceEndpoint):
    """An endpoint of the kind `serverless`."""

    invoke_action = "sagemaker:InvokeEndpoint"

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        hosting: Hosting,
        spec: ServerlessEndpoint,
        release: ReleaseParameters,
    ) -> None:
        super().__init__(scope, id, hosting=hosting)
        model = hosting.model(self, "Champion", release.champion, isolated=False, archive=True)
        self.config = hosting.config(self, volume=False)
        size = {"MemorySizeInMB": spec.memory_mb, "MaxConcurrency": spec.max_concurrency}
        if spec.provisioned_concurrency:
            size["ProvisionedConcurrency"] = spec.provisioned_concurrency
        variant = {
            "VariantName": CHAMPION,
            "ModelName": model.attr_model_name,
            "InitialVariantWeight": 1.0,
            "ServerlessConfig": size,
        }
        self.config.add_property_override("ProductionVariants", [variant])
        self.endpoint = hosting.endpoint(self, self.config)
        if spec.provisioned_scaling and spec.provisioned_concurrency:
            ReadyConcurrencyScaling(
                self,
                "Scaling",
                endpoint_name=self.name,
                least=spec.provisioned_concurrency,
                spec=spec.provisioned_scaling,
                after=self.endpoint,
            )

    @property
    def function_environment(self) -> dict[str, str]:
        """Whole answers instead of streams."""
        return {"STREAMED": "false"}
