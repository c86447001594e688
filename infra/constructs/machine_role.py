"""The state machine's role: run these functions and jobs, hand the jobs their roles, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.policy.acknowledge import acknowledge
from infra.settings import Settings

_JOBS = {"training-job": "TrainingJob", "processing-job": "ProcessingJob"}
_EVENTS = "StepFunctionsGetEventsForSageMaker"


class MachineRole(iam.Role):
    """Assumed by Step Functions for this account only. `job_prefix` starts the names of its jobs."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        settings: Settings,
        functions: Sequence[str],
        job_roles: Sequence[str],
        job_prefix: str,
    ) -> None:
        environment = settings.environment
        super().__init__(
            scope,
            id,
            assumed_by=iam.ServicePrincipal(
                "states.amazonaws.com",
                conditions={"StringEquals": {"aws:SourceAccount": environment.account}},
            ),
            description="Evergreen refresh loop",
        )
        stack = cdk.Stack.of(self)
        reasons = {"AwsSolutions-IAM5[Resource::*]": "Log delivery and X-Ray take no resource."}
        self._allow(["lambda:InvokeFunction"], *functions)
        for kind, operation in _JOBS.items():
            self._allow(
                [f"sagemaker:{verb}{operation}" for verb in ("Create", "Describe", "Stop")]
                + ["sagemaker:AddTags"],
                stack.format_arn(service="sagemaker", resource=kind, resource_name=f"{job_prefix}*"),
            )
            place = f"{environment.region}:{environment.account}"
            named = f"arn:<AWS::Partition>:sagemaker:{place}:{kind}/{job_prefix}*"
            reasons[f"AwsSolutions-IAM5[Resource::{named}]"] = "Each release's jobs have names of their own."
            # Waiting for a job (`.sync`) works through a rule that Step Functions manages under this name.
            rule = stack.format_arn(
                service="events", resource="rule", resource_name=f"{_EVENTS}{operation}sRule"
            )
            self._allow(["events:PutTargets", "events:PutRule", "events:DescribeRule"], rule)
        self.add_to_policy(
            iam.PolicyStatement(
                actions=["iam:PassRole"],
                resources=list(job_roles),
                conditions={"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
            )
        )
        acknowledge(self, reasons)

    def _allow(self, actions: list[str], *resources: str) -> None:
        self.add_to_policy(iam.PolicyStatement(actions=actions, resources=list(resources)))
