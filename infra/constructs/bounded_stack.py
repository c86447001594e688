"""A stack that CloudFormation deploys and updates under a role of its own, and whose roles are bounded.

`bootstrap` makes that execution role and the boundary (infra/bootstrap/execution_role.yaml); here the stack
names them, and gives its resources what the role's conditions ask for.
"""

from __future__ import annotations

import aws_cdk as cdk
import jsii
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct, IConstruct

from contracts import bootstrap

STACK_TAG = "evergreen:stack"


class BoundedStack(cdk.Stack):
    """A stack for a parameter update that anybody may start who may start the state machine of the update."""

    def __init__(self, scope: Construct, name: str, env: cdk.Environment) -> None:
        assert env.account is not None
        assert env.region is not None
        role = bootstrap.execution_role(name, env.region)
        # The command line resolves the partition when it deploys.
        arn = f"arn:${{AWS::Partition}}:iam::{env.account}:role/{role}"
        synthesizer = cdk.DefaultStackSynthesizer(cloud_formation_execution_role=arn)
        super().__init__(scope, name, env=env, synthesizer=synthesizer)
        cdk.Aspects.of(self).add(_Bounds(name, env.region))


@jsii.implements(cdk.IAspect)
class _Bounds:
    """Path and boundary for every role, whoever made the construct; the stack's tag for every key."""

    def __init__(self, stack_name: str, region: str) -> None:
        self._stack_name = stack_name
        self._region = region

    def visit(self, node: IConstruct) -> None:
        """Called by CDK for each construct of the stack."""
        if isinstance(node, iam.CfnRole):
            node.path = bootstrap.role_path(self._stack_name)
            node.permissions_boundary = cdk.Stack.of(node).format_arn(
                service="iam",
                region="",
                resource="policy",
                resource_name=bootstrap.permissions_boundary(self._stack_name, self._region),
            )
        elif isinstance(node, kms.CfnKey):
            node.tags.set_tag(STACK_TAG, self._stack_name)
