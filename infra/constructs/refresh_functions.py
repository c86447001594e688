"""The refresh loop's two functions, each under a role of its own.

`analysis` reads evidence and writes only to the ledger; `release` moves weights, routing, registry and lock,
and plans what the state machine of `stack_update` changes about the serving stack. Neither may update one.
"""

from __future__ import annotations

from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from contracts.access import routing_pk
from contracts.records import CALLS_INDEX, RATINGS_INDEX
from contracts.release_tasks import CanarySettings, GateSettings, LoopSettings
from infra.constructs.bundled_function import BundledFunction
from infra.constructs.data_resources import DataResources
from infra.constructs.encryption import grant_through
from infra.constructs.job_role import RELEASES_PREFIX
from infra.constructs.refresh_jobs import DATASETS_PREFIX
from infra.constructs.refresh_machine import ANALYSIS_SECONDS, RELEASE_SECONDS
from infra.constructs.stack_update import machine_name
from infra.constructs.topic import Topic
from infra.policy.acknowledge import acknowledge, imported_arn
from infra.settings import Settings
from infra.settings.endpoint import RealtimeEndpoint
from infra.settings.failover import FAILOVER, Failover
from infra.settings.rollout import GradualDeployment

_PINS = "release"  # requirements/lambda-release.txt


@dataclass(frozen=True)
class Names:
    """What the functions act on, known without a reference."""

    machine: str
    package_group: str
    serving_stack: str


class RefreshFunctions(Construct):
    """Exposes `analysis` and `release`. Without `approvals` nobody can be asked.

    `loop` holds the settings that the state machine loads.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        settings: Settings,
        data: DataResources,
        names: Names,
        loop: LoopSettings,
        approvals: Topic | None,
    ) -> None:
        super().__init__(scope, id)
        self._settings, self._data, self._names = settings, data, names
        shared = {
            "ENDPOINT_NAME": settings.endpoint_name,
            "SERVING_STACK": names.serving_stack,
            "ACCESS_TABLE": data.access.table_name,
            "RECORDS_TABLE": data.records.table_name,
            "LEDGER_TABLE": data.ledger.table_name,
            "ARTEFACTS_BUCKET": data.artefacts.bucket_name,
            "MODEL_PACKAGE_GROUP": names.package_group,
        }
        assert settings.refresh is not None
        gate = GateSettings(**settings.refresh.gate.model_dump())
        canary = CanarySettings(**settings.refresh.canary.model_dump())
        rules = {"GATE": gate.model_dump_json(), "CANARY": canary.model_dump_json()}
        topic = {"APPROVAL_TOPIC_ARN": approvals.topic_arn} if approvals else {}
        # "Judge" stays: another id would remove the log group that belongs to it.
        self.analysis = self._function("Judge", "analysis_handler", ANALYSIS_SECONDS, shared | rules)
        scaled = isinstance(settings.endpoint, RealtimeEndpoint) and settings.endpoint.scales
        autoscaled = {"AUTOSCALED": "true"} if scaled else {}
        steps = {"LOOP": loop.model_dump_json()}
        self.release = self._function(
            "Release",
            "handler",
            RELEASE_SECONDS,
            shared | topic | autoscaled | steps,
        )
        self._let_analyze()
        self._let_release()
        if settings.failover:
            self._let_follow(settings.failover)
        if scaled:
            self._let_scale()
        if approvals:
            self._let_ask(approvals)

    def _function(self, id: str, module: str, seconds: int, environment: dict[str, str]) -> BundledFunction:
        function = BundledFunction(
            self,
            id,
            name=_PINS,
            handler=f"lambdas.release.{module}.handler",
            settings=self._settings,
            logs_key=self._data.logs_key,
            environment=environment,
            timeout=cdk.Duration.seconds(seconds),
        )
        self._read_releases(function)
        return function

    def _read_releases(self, function: BundledFunction) -> None:
        bucket = self._data.artefacts
        _allow(function, ["s3:GetObject"], f"{bucket.bucket_arn}/{RELEASES_PREFIX}*")
        self._let_list(function, RELEASES_PREFIX)
        grant_through(self._data.models_key, function, "s3", "kms:Decrypt")
        named = imported_arn(cdk.Stack.of(bucket), bucket.bucket_arn)
        why = "A release writes many objects under its prefix, and its name is known only when it runs."
        self._accept(function, {f"{named}/{RELEASES_PREFIX}*": why})

    def _let_list(self, function: BundledFunction, prefix: str) -> None:
        function.add_to_role_policy(
            iam.PolicyStatement(
                actions=["s3:ListBucket"],
                resources=[self._data.artefacts.bucket_arn],
                conditions={"StringLike": {"s3:prefix": [f"{prefix}*"]}},
            )
        )

    def _let_analyze(self) -> None:
        self._data.records.grant_query(self.analysis, CALLS_INDEX, RATINGS_INDEX)
        self._data.access.grant_items(self.analysis, "GetItem", under=self._routing)
        self._data.ledger.grant_items(self.analysis, "PutItem")

    def _let_release(self) -> None:
        self._data.ledger.grant_items(self.release, "GetItem", "PutItem")
        self._data.ledger.grant_items(
            self.release, "DeleteItem", under=f"LOCK#{self._settings.endpoint_name}"
        )
        self._data.access.grant_items(self.release, "PutItem", under=self._routing)
        self._let_list(self.release, DATASETS_PREFIX)
        self._let_read_stack(self._names.serving_stack)
        self._let_compare(self._names.serving_stack)
        _allow(
            self.release,
            ["sagemaker:DescribeEndpoint", "sagemaker:UpdateEndpointWeightsAndCapacities"],
            self._arn("sagemaker", "endpoint", self._settings.endpoint_name),
        )
        group = self._arn("sagemaker", "model-package-group", self._names.package_group)
        packages = self._arn("sagemaker", "model-package", f"{self._names.package_group}/*")
        _allow(self.release, ["sagemaker:CreateModelPackage"], group, packages)
        _allow(self.release, ["sagemaker:UpdateModelPackage"], packages)
        executions = self._arn("states", "execution", f"{self._names.machine}:*", colon=True)
        _allow(self.release, ["states:DescribeExecution"], executions)
        place = f"{self._settings.environment.region}:{self._settings.environment.account}"
        aws = "arn:<AWS::Partition>"
        self._accept(
            self.release,
            {
                f"{aws}:sagemaker:{place}:model-package/{self._names.package_group}/*": (
                    "The registry numbers the packages of the group."
                ),
                f"{aws}:states:{place}:execution:{self._names.machine}:*": (
                    "The lock's holder is any execution of this one state machine."
                ),
            },
        )

    def _let_follow(self, second: Failover) -> None:
        """Start updates of the second region's stack: a state machine starts none in another region.

        Whether a model has been copied is read in the first one.
        """
        settings = self._settings
        stack = f"{settings.prefix}-{FAILOVER}"
        name = machine_name(stack)
        machine = self._arn("states", "stateMachine", name, colon=True, region=second.region)
        executions = self._arn("states", "execution", f"{name}:*", colon=True, region=second.region)
        for variable, value in {
            "FAILOVER_STACK": stack,
            "FAILOVER_UPDATE_MACHINE": machine,
            "FAILOVER_REGION": second.region,
            "FAILOVER_BUCKET": second.bucket_name(settings.prefix, settings.environment.account),
        }.items():
            self.release.add_environment(variable, value)
        self._let_read_stack(stack, second.region)
        self._let_compare(stack, second.region)
        _allow(
            self.release,
            ["sagemaker:DescribeEndpoint"],
            self._arn("sagemaker", "endpoint", settings.endpoint_name, region=second.region),
        )
        _allow(self.release, ["states:StartExecution"], machine)
        _allow(self.release, ["states:DescribeExecution"], executions)
        place = f"{second.region}:{settings.environment.account}"
        why = "Each update is an execution with a name of its own."
        self._accept(self.release, {f"arn:<AWS::Partition>:states:{place}:execution:{name}:*": why})

    def _let_scale(self) -> None:
        """Hold the champion's target still, and make and remove one for the challenger."""
        targets = self._arn("application-autoscaling", "scalable-target", "*")
        _allow(
            self.release,
            [
                "application-autoscaling:RegisterScalableTarget",
                "application-autoscaling:DeregisterScalableTarget",
                "application-autoscaling:PutScalingPolicy",
            ],
            targets,
        )
        _allow(
            self.release,
            [
                "application-autoscaling:DescribeScalableTargets",
                "application-autoscaling:DescribeScalingPolicies",
            ],
            "*",
        )
        # Target tracking makes its alarms in the name of whoever puts the policy.
        endpoint = f"TargetTracking-endpoint/{self._settings.endpoint_name}/*"
        alarms = self._arn("cloudwatch", "alarm", endpoint, colon=True)
        _allow(self.release, ["cloudwatch:PutMetricAlarm", "cloudwatch:DeleteAlarms"], alarms)
        _allow(self.release, ["cloudwatch:DescribeAlarms"], "*")
        place = f"{self._settings.environment.region}:{self._settings.environment.account}"
        aws = "arn:<AWS::Partition>"
        self._accept(
            self.release,
            {
                f"{aws}:application-autoscaling:{place}:scalable-target/*": (
                    "A target's ARN ends in an id that the service draws."
                ),
                f"{aws}:cloudwatch:{place}:alarm:{endpoint}": "The service names the alarms of its targets.",
            },
        )

    def _let_ask(self, approvals: Topic) -> None:
        _allow(self.release, ["sns:Publish"], approvals.topic_arn)
        grant_through(approvals.key, self.release, "sns", "kms:Decrypt", "kms:GenerateDataKey")
        machine = self._arn("states", "stateMachine", self._names.machine, colon=True)
        _allow(self.release, ["states:SendTaskSuccess", "states:SendTaskFailure"], machine)

    @property
    def _routing(self) -> str:
        return routing_pk(self._settings.endpoint_name)

    def _let_read_stack(self, stack: str, region: str | None = None) -> None:
        """Describe one stack, here or in another region. No function may change one."""
        actions = ["cloudformation:DescribeStacks", "cloudformation:DescribeStackEvents"]
        _allow(self.release, actions, self._arn("cloudformation", "stack", f"{stack}/*", region=region))
        place = f"{region or self._settings.environment.region}:{self._settings.environment.account}"
        why = "A stack's ARN ends in an id that CloudFormation draws."
        self._accept(self.release, {f"arn:<AWS::Partition>:cloudformation:{place}:stack/{stack}/*": why})

    def _let_compare(self, stack: str, region: str | None = None) -> None:
        """Read what a stack asks for, what its endpoint serves, and which alarm took an update back."""
        named = {
            "cloudformation:ListStackResources": ("cloudformation", "stack", f"{stack}/*"),
            "sagemaker:DescribeEndpointConfig": ("sagemaker", "endpoint-config", "*"),
            "sagemaker:DescribeModel": ("sagemaker", "model", "*"),
        }
        place = f"{region or self._settings.environment.region}:{self._settings.environment.account}"
        for action, (service, resource, name) in named.items():
            _allow(self.release, [action], self._arn(service, resource, name, region=region))
            why = "CloudFormation draws the names of configurations and models, and the ids of stacks."
            self._accept(self.release, {f"arn:<AWS::Partition>:{service}:{place}:{resource}/{name}": why})
        if isinstance(getattr(self._settings.endpoint, "deployment", None), GradualDeployment):
            # A rollback alarm of the settings may be composite, which CloudWatch shows under `*` alone.
            _allow(self.release, ["cloudwatch:DescribeAlarms", "cloudwatch:DescribeAlarmHistory"], "*")
            why = "Composite alarms are described only under `*`; nothing is changed."
            self._accept(self.release, {"*": why})

    def _arn(
        self, service: str, resource: str, name: str, *, colon: bool = False, region: str | None = None
    ) -> str:
        shape = cdk.ArnFormat.COLON_RESOURCE_NAME if colon else cdk.ArnFormat.SLASH_RESOURCE_NAME
        return cdk.Stack.of(self).format_arn(
            service=service, region=region, resource=resource, resource_name=name, arn_format=shape
        )

    def _accept(self, function: BundledFunction, reasons: dict[str, str]) -> None:
        assert function.role is not None
        acknowledge(
            function.role,
            {f"AwsSolutions-IAM5[Resource::{arn}]": why for arn, why in reasons.items()},
        )


def _allow(function: BundledFunction, actions: list[str], *resources: str) -> None:
    function.add_to_role_policy(iam.PolicyStatement(actions=actions, resources=list(resources)))
