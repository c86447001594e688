"""The delivery stack: the roles that GitHub Actions assumes with an OIDC token, without stored credentials.

The deploy role may assume the roles that CDK's bootstrap has made and nothing else; what those may do is the
account's decision at bootstrap. Subjects are compared as a whole: no pattern lets another repository, branch
or pull request in.
"""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.settings import Settings
from infra.settings.delivery import Delivery

ISSUER = "token.actions.githubusercontent.com"
AUDIENCE = "sts.amazonaws.com"
DEPLOY_ROLES = ("deploy", "file-publishing", "image-publishing", "lookup")
DIFF_ROLES = ("lookup",)


def role_name(prefix: str, purpose: str) -> str:
    """The fixed name of a role, by which workflows find it. `purpose` is `deploy` or `diff`."""
    return f"{prefix}-{purpose}"


class DeliveryStack(cdk.Stack):
    """The OIDC provider, where it is made here, and one role for each purpose."""

    def __init__(
        self, scope: Construct, settings: Settings, env: cdk.Environment, *, delivery: Delivery
    ) -> None:
        super().__init__(scope, f"{settings.prefix}-delivery", env=env)
        self._settings = settings
        provider = f"arn:{self.partition}:iam::{self.account}:oidc-provider/{ISSUER}"
        if delivery.provider == "create":
            made = iam.CfnOIDCProvider(self, "GitHub", url=f"https://{ISSUER}", client_id_list=[AUDIENCE])
            provider = made.attr_arn
        self._role("Deploy", provider, delivery.github.deploy_subjects, DEPLOY_ROLES)
        if delivery.github.pull_requests:
            self._role("Diff", provider, [delivery.github.diff_subject], DIFF_ROLES)

    def _role(self, name: str, provider: str, subjects: Sequence[str], assumes: Sequence[str]) -> None:
        role = iam.Role(
            self,
            name,
            role_name=role_name(self._settings.prefix, name.lower()),
            description=f"GitHub Actions: {name.lower()} of {self._settings.name}",
            assumed_by=iam.WebIdentityPrincipal(
                provider,
                {"StringEquals": {f"{ISSUER}:aud": AUDIENCE, f"{ISSUER}:sub": list(subjects)}},
            ),
            # A first start of large machines takes hours; CDK's own roles are assumed anew each hour.
            max_session_duration=cdk.Duration.hours(4),
        )
        role.add_to_policy(
            iam.PolicyStatement(actions=["sts:AssumeRole"], resources=self._bootstrap_roles(assumes))
        )
        cdk.CfnOutput(self, f"{name}RoleArn", value=role.role_arn)

    def _bootstrap_roles(self, kinds: Sequence[str]) -> list[str]:
        """ARNs of bootstrap roles in every region of the environment."""
        second = self._settings.failover
        regions = [self._settings.environment.region, *([second.region] if second else [])]
        qualifier = cdk.DefaultStackSynthesizer.DEFAULT_QUALIFIER
        return [
            f"arn:{self.partition}:iam::{self.account}:role/"
            f"cdk-{qualifier}-{kind}-role-{self.account}-{region}"
            for region in regions
            for kind in kinds
        ]
