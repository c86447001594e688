"""A SageMaker endpoint, whatever its kind: its name and ARN, who may call it, what it publishes.

Kinds are subclasses. Models and configs are unnamed because every property of theirs replaces them; the
endpoint's name is fixed, so callers, alarms and policies know it without a reference.
"""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from contracts.metrics import SAGEMAKER_NAMESPACE
from contracts.routing import CHAMPION
from infra.constructs.hosting import Hosting


class InferenceEndpoint(Construct):
    """The endpoint `evergreen-<env>`. Exposes `config` and `endpoint`, the CloudFormation resources."""

    config: sagemaker.CfnEndpointConfig
    endpoint: sagemaker.CfnEndpoint
    invoke_action = "sagemaker:InvokeEndpointWithResponseStream"

    def __init__(self, scope: Construct, id: str, *, hosting: Hosting) -> None:
        super().__init__(scope, id)
        self.name = hosting.settings.endpoint_name

    @property
    def arn(self) -> str:
        """The endpoint's ARN, known without a reference to the resource."""
        return cdk.Stack.of(self).format_arn(
            service="sagemaker", resource="endpoint", resource_name=self.name
        )

    @property
    def function_environment(self) -> dict[str, str]:
        """Variables that the inference function needs for this kind; none for a realtime endpoint."""
        return {}

    @property
    def adapter_versions(self) -> dict[str, str]:
        """Versions of the catalogue's adapters that are components, by the SSM parameters to keep them in."""
        return {}

    @property
    def callable_arns(self) -> list[str]:
        """What a caller of this kind has to be allowed to call."""
        return [self.arn]

    def grant_invoke(self, grantee: iam.IGrantable) -> None:
        """Allow calls of this endpoint in the way of its kind, and of no other endpoint."""
        grantee.grant_principal.add_to_principal_policy(
            iam.PolicyStatement(actions=[self.invoke_action], resources=self.callable_arns)
        )

    def metric(self, name: str, *, variant: str = CHAMPION, statistic: str = "Sum") -> cloudwatch.Metric:
        """A metric that SageMaker publishes for one variant; latencies are in microseconds."""
        return self._metric(name, {"EndpointName": self.name, "VariantName": variant}, statistic)

    def metric_invocations(self, variant: str = CHAMPION) -> cloudwatch.Metric:
        """Requests a variant received, per minute."""
        return self.metric("Invocations", variant=variant)

    def metric_error_rate(self, variant: str = CHAMPION) -> cloudwatch.Metric:
        """Share of a variant's requests that ended in a 5xx: SageMaker publishes 1 or 0 for each request."""
        return self.metric("Invocation5XXErrors", variant=variant, statistic="Average")

    def metric_first_chunk_latency(self, statistic: str, variant: str = CHAMPION) -> cloudwatch.Metric:
        """Microseconds from a streamed request's arrival to its first chunk."""
        return self.metric("FirstChunkLatency", variant=variant, statistic=statistic)

    def _of_champion(self, name: str, statistic: str) -> cloudwatch.Metric:
        return self.metric(name, statistic=statistic)

    @staticmethod
    def _metric(name: str, dimensions: dict[str, str], statistic: str) -> cloudwatch.Metric:
        return cloudwatch.Metric(
            namespace=SAGEMAKER_NAMESPACE,
            metric_name=name,
            dimensions_map=dimensions,
            statistic=statistic,
            period=cdk.Duration.minutes(1),
        )
