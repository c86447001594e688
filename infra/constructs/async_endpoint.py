"""Requests that wait in S3: the answer is written beside them, a topic says so, machines follow the queue.

Callers put the request under `async/input/` and are told where the answer will be; both expire with the
records. No API is in front of it: callers use InvokeEndpointAsync under their own role.
"""

from __future__ import annotations

from aws_cdk import aws_iam as iam
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from contracts.routing import CHAMPION
from infra.constructs.autoscaling import BacklogFleetScaling, CapacityBounds
from infra.constructs.encryption import grant_through
from infra.constructs.hosting import Hosting, Properties, machines
from infra.constructs.inference_endpoint import InferenceEndpoint
from infra.constructs.release_parameters import ReleaseParameters
from infra.constructs.rollback_alarms import RollbackAlarms, least
from infra.constructs.topic import Topic
from infra.settings.endpoint import AsyncEndpoint
from infra.settings.rollout import GradualDeployment

INPUT, OUTPUT, FAILED = "async/input/", "async/output/", "async/failed/"
_WHY = "Each request and each answer is an object of its own under this prefix."


class AsyncInference(InferenceEndpoint):
    """An endpoint of the kind `async`. Exposes `done` and `failed`, the topics, and `places` in S3."""

    invoke_action = "sagemaker:InvokeEndpointAsync"

    def __init__(
        self, scope: Construct, id: str, *, hosting: Hosting, spec: AsyncEndpoint, release: ReleaseParameters
    ) -> None:
        super().__init__(scope, id, hosting=hosting)
        self._hosting, self._spec = hosting, spec
        account, bucket = hosting.settings.environment.account, hosting.records_store[0].bucket_name
        self.done = Topic(self, "Done", purpose="finished requests", account=account, services=(), emails=[])
        self.failed = Topic(
            self, "Failed", purpose="failed requests", account=account, services=(), emails=spec.emails
        )
        self.places = {
            "AsyncInputUri": f"s3://{bucket}/{INPUT}",
            "AsyncOutputUri": f"s3://{bucket}/{OUTPUT}",
            "AsyncDoneTopicArn": self.done.topic_arn,
            "AsyncFailedTopicArn": self.failed.topic_arn,
        }
        model = hosting.model(self, "Champion", release.champion, isolated=spec.network_isolation)
        self.config = hosting.config(self, volume=spec.instances.has_volume)
        self.config.add_property_override("ProductionVariants", [self._variant(model)])
        self.config.add_property_override("AsyncInferenceConfig", self._queue())
        self.config.node.add_dependency(hosting.role)
        self.endpoint = hosting.endpoint(self, self.config)
        self.endpoint.add_property_override("DeploymentConfig", self._deployment())
        self._let_containers()
        if spec.instances.max > spec.instances.min or spec.scaling.schedules:
            BacklogFleetScaling(
                self,
                "Scaling",
                endpoint_name=self.name,
                bounds=CapacityBounds(spec.instances.min, spec.instances.max, spec.scaling.schedules),
                spec=spec.scaling,
                after=self.endpoint,
            )

    def _variant(self, model: sagemaker.CfnModel) -> Properties:
        spec = self._spec
        return {
            "VariantName": CHAMPION,
            "ModelName": model.attr_model_name,
            "InitialInstanceCount": max(1, spec.instances.min),
            "InitialVariantWeight": 1.0,
            **self._hosting.timeouts,
            **machines(spec.instances, spec.routing, getattr(spec.engine, "inference_ami_version", None)),
        }

    def _queue(self) -> Properties:
        bucket, key = self._hosting.records_store
        return {
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": self._spec.max_concurrent_requests},
            "OutputConfig": {
                "S3OutputPath": f"s3://{bucket.bucket_name}/{OUTPUT}",
                "S3FailurePath": f"s3://{bucket.bucket_name}/{FAILED}",
                "KmsKeyId": key.key_arn,
                "NotificationConfig": {
                    "SuccessTopic": self.done.topic_arn,
                    "ErrorTopic": self.failed.topic_arn,
                },
            },
        }

    def _deployment(self) -> Properties:
        rollout = self._spec.deployment
        alarms: list[str] = []
        if isinstance(rollout, GradualDeployment):
            alarms = RollbackAlarms(
                self,
                "Rollback",
                rollout=rollout,
                least=least(self._spec.instances.min, self._spec.scaling.schedules),
                settings=self._hosting.settings,
                role=self._hosting.role,
                metric=self._of_champion,
                errors_only=True,
            ).names
        return self._hosting.deployment(rollout, alarms)

    def _let_containers(self) -> None:
        role, (bucket, key) = self._hosting.role, self._hosting.records_store
        role.allow_objects(bucket, key, INPUT, _WHY)
        for prefix in (OUTPUT, FAILED):
            role.allow_objects(bucket, key, prefix, _WHY, write=True)
        for topic in (self.done, self.failed):
            role.add_to_policy(iam.PolicyStatement(actions=["sns:Publish"], resources=[topic.topic_arn]))
            grant_through(topic.key, role, "sns", "kms:Decrypt", "kms:GenerateDataKey")
