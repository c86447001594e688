"""The second region: the bucket of model copies, the endpoint that serves them, and what may update it.

Stacks of their own, because the bucket must exist before S3 is told to make copies, which must have arrived
before an endpoint can load them, and because a stack holds nothing that updates it. Nothing refers across
regions: both sides know the names.
"""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_kms as kms
from constructs import Construct

from infra.constructs.bounded_stack import BoundedStack
from infra.constructs.encryption import EncryptionKey, grant_volume
from infra.constructs.execution_role import ExecutionRole
from infra.constructs.hosting import Hosting
from infra.constructs.log_group import LogGroup, removal_policy
from infra.constructs.realtime_endpoint import RealtimeInference
from infra.constructs.release_parameters import ReleaseParameters
from infra.constructs.replication import key_alias
from infra.constructs.stack_update import StackUpdate, update_poll_seconds
from infra.constructs.standby_alarms import StandbyAlarms, published_there
from infra.constructs.storage import AccessLogBucket, EncryptedBucket
from infra.constructs.topic import Topic
from infra.settings import Settings
from infra.settings.endpoint import RealtimeEndpoint
from infra.settings.failover import FAILOVER
from infra.stacks.serving import container_network


class FailoverDataStack(cdk.Stack):
    """Bucket and keys of the second region. `settings` are the second region's."""

    def __init__(self, scope: Construct, settings: Settings, env: cdk.Environment, *, bucket: str) -> None:
        super().__init__(scope, f"{settings.prefix}-{FAILOVER}-data", env=env)
        removal = settings.environment.removal
        models, logs = removal_policy(removal.models), removal_policy(removal.logs)
        self.models_key = EncryptionKey(self, "ModelsKey", purpose="copies of models", removal=models)
        kms.Alias(self, "ModelsAlias", alias_name=key_alias(settings), target_key=self.models_key)
        self.logs_key = EncryptionKey(self, "LogsKey", purpose="log groups", removal=logs)
        self.logs_key.open_to_logs()
        access_logs = AccessLogBucket(
            self, "AccessLogs", keep_days=settings.environment.log_retention_days, removal=logs
        )
        self.artefacts = EncryptedBucket(
            self,
            "Artefacts",
            key=self.models_key,
            access_logs=access_logs,
            removal=removal_policy(removal.models, named=True),
            name=bucket,
        )
        cdk.CfnOutput(self, "ArtefactsBucketName", value=self.artefacts.bucket_name)


class FailoverStack(BoundedStack):
    """The second endpoint, its role, its alarms. `settings` are the second region's."""

    def __init__(
        self, scope: Construct, settings: Settings, env: cdk.Environment, *, data: FailoverDataStack
    ) -> None:
        super().__init__(scope, f"{settings.prefix}-{FAILOVER}", env)
        spec = settings.endpoint
        assert isinstance(spec, RealtimeEndpoint)
        log_group = LogGroup(
            self,
            "EndpointLogs",
            settings=settings,
            key=data.logs_key,
            name=f"/aws/sagemaker/Endpoints/{settings.endpoint_name}",
        )
        role = ExecutionRole(
            self,
            "ExecutionRole",
            settings=settings,
            artefacts=data.artefacts,
            artefacts_key=data.models_key,
            log_groups=[log_group],
        )
        if spec.instances.has_volume:
            grant_volume(data.models_key, role)
        hosting = Hosting(
            settings=settings,
            role=role,
            volume_key=data.models_key,
            network=container_network(self, settings, data.logs_key, role),
        )
        release = ReleaseParameters(self, source=settings.model.source, version=settings.model.version)
        self.endpoint = RealtimeInference(self, "Inference", hosting=hosting, spec=spec, release=release)
        topic = Topic(
            self,
            "AlarmTopic",
            purpose="alarm messages",
            account=settings.environment.account,
            services=("cloudwatch",),
            emails=settings.monitoring.emails,
        )
        StandbyAlarms(self, "Alarms", settings=settings, published=published_there(settings), topic=topic)
        for name, value in {"EndpointName": self.endpoint.name, "AlarmTopicArn": topic.topic_arn}.items():
            cdk.CfnOutput(self, name, value=value)


class FailoverUpdateStack(cdk.Stack):
    """The state machine that brings the second endpoint a promoted model: none can act in another region."""

    def __init__(
        self,
        scope: Construct,
        settings: Settings,
        env: cdk.Environment,
        *,
        data: FailoverDataStack,
        poll_seconds: int,
    ) -> None:
        super().__init__(scope, f"{settings.prefix}-{FAILOVER}-update", env=env)
        StackUpdate(
            self,
            "FailoverUpdate",
            settings=settings,
            stack_name=f"{settings.prefix}-{FAILOVER}",
            logs_key=data.logs_key,
            poll_seconds=update_poll_seconds(poll_seconds),
        )
