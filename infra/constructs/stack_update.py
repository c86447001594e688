"""The only holder of UpdateStack: a state machine that changes one stack's parameters and keeps its template.

Its definition (infra/state_machines/update_stack.asl.yaml) fixes the stack, `UsePreviousTemplate` and the
names of the parameters. So whoever may start it can set those parameters, and no more.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import aws_cdk as cdk
import yaml
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from infra.constructs.log_group import LogGroup
from infra.policy.acknowledge import acknowledge
from infra.settings import Settings

_DEFINITION_FILE = Path(__file__).parents[1] / "state_machines" / "update_stack.asl.yaml"


@cache
def _definition() -> str:
    return json.dumps(yaml.safe_load(_DEFINITION_FILE.read_text()))


def machine_name(stack_name: str) -> str:
    """The name of the state machine that updates a stack: who starts it knows it without a reference."""
    return f"{stack_name}-update"


def update_poll_seconds(loop_poll_seconds: int) -> int:
    """Pause between two looks at an update: the loop's, but no longer than half a minute.

    A look is about ten of the 25,000 events that an execution may have: half a minute leaves room for eight
    hours.
    """
    return min(30, loop_poll_seconds)


class StackUpdate(Construct):
    """Updates the stack `stack_name` of this account and region. Exposes `machine`.

    Args:
        settings: Those of the region that the stack is in.
        stack_name: The one stack whose parameters it changes.
        logs_key: Encrypts the executions' log.
        poll_seconds: Pause between two looks at an update.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        settings: Settings,
        stack_name: str,
        logs_key: kms.IKey,
        poll_seconds: int,
    ) -> None:
        super().__init__(scope, id)
        name = machine_name(stack_name)
        self.machine = sfn.StateMachine(
            self,
            "Machine",
            state_machine_name=name,
            state_machine_type=sfn.StateMachineType.STANDARD,
            definition_body=sfn.DefinitionBody.from_string(_definition()),
            definition_substitutions={"StackName": stack_name, "PollSeconds": str(poll_seconds)},
            role=self._role(settings, stack_name),
            logs=sfn.LogOptions(
                destination=LogGroup(
                    self, "Logs", settings=settings, key=logs_key, name=f"/aws/vendedlogs/states/{name}"
                ),
                level=sfn.LogLevel.ALL,
                include_execution_data=True,
            ),
            tracing_enabled=True,
        )

    def _role(self, settings: Settings, stack_name: str) -> iam.Role:
        account, region = settings.environment.account, settings.environment.region
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal(
                "states.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": account}}
            ),
            description=f"Updates the parameters of {stack_name}",
        )
        stack = cdk.Stack.of(self)
        actions = ("DescribeStacks", "DescribeStackEvents", "UpdateStack")
        role.add_to_policy(
            iam.PolicyStatement(
                actions=[f"cloudformation:{action}" for action in actions],
                resources=[
                    stack.format_arn(
                        service="cloudformation", resource="stack", resource_name=f"{stack_name}/*"
                    )
                ],
            )
        )
        # CloudFormation reads the template's BootstrapVersion in the name of whoever asks for the update.
        version = f"cdk-bootstrap/{cdk.DefaultStackSynthesizer.DEFAULT_QUALIFIER}/version"
        role.add_to_policy(
            iam.PolicyStatement(
                actions=["ssm:GetParameters"],
                resources=[stack.format_arn(service="ssm", resource="parameter", resource_name=version)],
            )
        )
        why = "A stack's ARN ends in an id that CloudFormation draws."
        named = f"arn:<AWS::Partition>:cloudformation:{region}:{account}:stack/{stack_name}/*"
        acknowledge(
            role,
            {
                f"AwsSolutions-IAM5[Resource::{named}]": why,
                "AwsSolutions-IAM5[Resource::*]": "Log delivery and X-Ray take no resource.",
            },
        )
        return role
