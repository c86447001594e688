"""The state machine's role: run these functions and jobs, hand the jobs their roles, start updates of the
serving stack, and nothing else. It may not update a stack itself."""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.policy.acknowledge import acknowledge
from infra.settings import Settings

_JOBS = {"training-job": "TrainingJob", "processing-job": "ProcessingJob"}
_EVENTS = "StepFunctionsGetEventsForSageMaker"
_UPDATES = "StepFunctionsGetEventsForStepFunctionsExecutionRule"
_MANAGE_RULE = ["events:PutTargets", "events:PutRule", "events:DescribeRule"]


class MachineRole(iam.Role):
    """Assumed by Step Functions for this account only.

    Args:
        settings: Of the environment.
        functions: ARNs of the functions that its tasks invoke.
        job_roles: ARNs of the roles that its jobs run under.
        job_prefix: Starts the names of its jobs.
        update_machine: Name of the state machine that updates the serving stack.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        settings: Settings,
        functions: Sequence[str],
        job_roles: Sequence[str],
        job_prefix: str,
        update_machine: str,
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
        place = f"{environment.region}:{environment.account}"
        for kind, operation in _JOBS.items():
            self._allow(
                [f"sagemaker:{verb}{operation}" for verb in ("Create", "Describe", "Stop")]
                + ["sagemaker:AddTags"],
                stack.format_arn(service="sagemaker", resource=kind, resource_name=f"{job_prefix}*"),
            )
            named = f"arn:<AWS::Partition>:sagemaker:{place}:{kind}/{job_prefix}*"
            reasons[f"AwsSolutions-IAM5[Resource::{named}]"] = "Each release's jobs have names of their own."
            # Waiting for a job (`.sync`) works through a rule that Step Functions manages under this name.
            rule = stack.format_arn(
                service="events", resource="rule", resource_name=f"{_EVENTS}{operation}sRule"
            )
            self._allow(_MANAGE_RULE, rule)
        self.add_to_policy(
            iam.PolicyStatement(
                actions=["iam:PassRole"],
                resources=list(job_roles),
                conditions={"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
            )
        )
        reasons |= self._let_update(update_machine, place)
        acknowledge(self, reasons)

    def _let_update(self, machine: str, place: str) -> dict[str, str]:
        """Start the state machine that updates the stack, and wait for it (`.sync`)."""
        stack, shape = cdk.Stack.of(self), cdk.ArnFormat.COLON_RESOURCE_NAME
        self._allow(
            ["states:StartExecution"],
            stack.format_arn(
                service="states", resource="stateMachine", resource_name=machine, arn_format=shape
            ),
        )
        self._allow(
            ["states:DescribeExecution", "states:StopExecution"],
            stack.format_arn(
                service="states", resource="execution", resource_name=f"{machine}:*", arn_format=shape
            ),
        )
        self._allow(_MANAGE_RULE, stack.format_arn(service="events", resource="rule", resource_name=_UPDATES))
        named = f"arn:<AWS::Partition>:states:{place}:execution:{machine}:*"
        return {
            f"AwsSolutions-IAM5[Resource::{named}]": "Each update is an execution with a name of its own."
        }

    def _allow(self, actions: list[str], *resources: str) -> None:
        self.add_to_policy(iam.PolicyStatement(actions=actions, resources=list(resources)))
